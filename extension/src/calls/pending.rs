//! The calls about a pending value: promote and discard.

use super::key_lock;
use super::receipt::{Change, State};
use super::set::{COPIES, refuse_uncommitted};
use super::stored::{self, Stored};
use crate::catalog::Entry;
use crate::memory;
use crate::metering::Metering;
use crate::pg::call::{self, Answer, Call};
use crate::pg::error::Raised;
use crate::pg::prepared::{argument, first, statement};
use crate::pg::relation;
use crate::redaction;
use crate::user_functions::{sync_handler, validator};
use crate::{catalog, keyring, settings};
use integration_credentials_core::envelope::{Place, Purpose};
use integration_credentials_core::error::{ErrorCode, Refusal};
use integration_credentials_core::event::Operation;
use integration_credentials_core::{limits, tool};
use pgrx::pg_sys;
use serde_json::json;
use zeroize::Zeroizing;

/// How often a promotion checks a pending value anew that another transaction has replaced meanwhile.
const ATTEMPTS: usize = 10;

// $3 is the pending value that was checked, $4 the time until which the replaced value is kept, or NULL.
statement!(volatile PROMOTE(TEXTOID, TEXTOID, BYTEAOID, TIMESTAMPTZOID) "
    UPDATE integration_credentials.configured_integrations
    SET ciphertext = pending_ciphertext,
        revision = revision + 1,
        updated_at = pg_catalog.clock_timestamp(),
        expires_at = pending_expires_at,
        previous_revision = CASE WHEN ciphertext IS NOT NULL AND $4 IS NOT NULL THEN revision END,
        previous_ciphertext = CASE WHEN $4 IS NOT NULL THEN ciphertext END,
        previous_until = CASE WHEN ciphertext IS NOT NULL THEN $4 END,
        previous_expires_at = CASE WHEN $4 IS NOT NULL THEN expires_at END,
        pending_ciphertext = NULL, pending_at = NULL, pending_actor = NULL, pending_expires_at = NULL
    WHERE org_slug = $1 AND integration_key = $2 AND pending_ciphertext = $3
    RETURNING revision, true, updated_at, previous_until IS NOT NULL, false");
statement!(volatile DISCARD(TEXTOID, TEXTOID) "
    UPDATE integration_credentials.configured_integrations
    SET pending_ciphertext = NULL, pending_at = NULL, pending_actor = NULL, pending_expires_at = NULL
    WHERE org_slug = $1 AND integration_key = $2 AND pending_ciphertext IS NOT NULL
    RETURNING revision, ciphertext IS NOT NULL, updated_at, previous_until > pg_catalog.clock_timestamp(), false");

/// `admin_promote_integration_credentials(key, actor, expected_revision)`: the steps of a set, with the
/// pending value.
pub fn call_promote(call: &Call) -> Answer {
    let metering = Metering::start(&tool::PROMOTE);
    let key = limits::key(call.text(0))?;
    let actor = limits::actor(call.text(1))?;
    let expected = call.bigint(2);
    let org = settings::current_org(call)?;
    let change = Change { call, org: &org, key, actor };
    let checked = catalog::find_enabled(key)?;
    refuse_uncommitted(&checked, key, true)?;
    relation::lock(stored::TABLE, pg_sys::RowExclusiveLock);
    let (state, value) = promote(&change, &checked, expected)?;
    let entry = catalog::find_enabled(key)?;
    refuse_uncommitted(&entry, key, true)?;
    if entry != checked {
        validator::check(&entry, key, &value)?;
    }

    change.announce(Operation::Set, state.revision);
    let sync_problem = sync_handler::hand_on(&entry, &org, key, &value);
    let previous = Some(state.revision - 1).filter(|revision| *revision > 0);
    let metadata = json!({"revision": state.revision, "previousRevision": previous});
    change.audit("promote_integration_credentials", &metadata);
    metering.finish(
        &org,
        actor,
        sync_problem.as_ref().map(|_| ErrorCode::ToolSetupFailed),
        json!({"key": key, "actor": actor, "expected_revision": expected}),
    );
    Ok(call::json(&state.full(key, sync_problem)))
}

/// Checks the pending value as a set does, and makes it the current one, if it is still pending.
fn promote(
    change: &Change<'_>,
    entry: &Entry,
    expected: Option<i64>,
) -> Result<(State, Zeroizing<String>), Refusal> {
    let &Change { org, key, .. } = change;
    for _ in 0..ATTEMPTS {
        let stored = Stored::read(org, key, entry, c"pending_ciphertext");
        stored::check_expected(key, expected, stored.as_ref().map_or(0, |stored| stored.revision))?;
        let pending = stored.and_then(|stored| stored.ciphertext).ok_or_else(|| Refusal::no_pending(key))?;
        memory::require_copies(&pending, COPIES);
        let value = keyring::decrypt(Place { purpose: Purpose::Credential, org, key }, &pending)?;
        redaction::remember(&value);
        validator::check(entry, key, &value)?;
        key_lock::acquire(org, key);
        let until = entry.keep_previous.and_then(stored::until);
        let arguments = [argument(org), argument(key), argument(pending.as_slice()), argument(until)];
        if let Some(state) = first(&PROMOTE, &arguments, |row| State::of(&row)) {
            stored::check_expected(key, expected, state.revision - 1)?;
            return Ok((state, value));
        }
    }
    Raised::try_again("could not promote the pending value: other transactions replace it all the time")
        .throw()
}

/// `admin_discard_integration_credentials(key, actor)`
pub fn call_discard(call: &Call) -> Answer {
    let metering = Metering::start(&tool::DISCARD);
    let key = limits::key(call.text(0))?;
    let actor = limits::actor(call.text(1))?;
    let org = settings::current_org(call)?;
    let change = Change { call, org: &org, key, actor };
    catalog::find(key)?;
    relation::lock(stored::TABLE, pg_sys::RowExclusiveLock);
    key_lock::acquire(&org, key);
    let state = first(&DISCARD, &[argument(org.as_str()), argument(key)], |row| State::of(&row))
        .ok_or_else(|| Refusal::no_pending(key))?;
    change.announce(Operation::Discard, state.revision);
    change.audit("discard_integration_credentials", &json!({"revision": state.revision}));
    metering.finish(&org, actor, None, json!({"key": key, "actor": actor}));
    Ok(call::json(&state.full(key, None)))
}
