//! The calls about a previous value: roll back to it, and retire it.

use super::key_lock;
use super::receipt::{Change, State};
use super::rotation_status;
use super::set::{COPIES, refuse_uncommitted};
use super::stored::{self, Stored};
use crate::memory;
use crate::metering::Metering;
use crate::pg::call::{self, Answer, Call};
use crate::pg::error::Raised;
use crate::pg::prepared::{argument, first, statement};
use crate::pg::relation;
use crate::redaction;
use crate::user_functions::sync_handler;
use crate::{catalog, keyring, settings};
use integration_credentials_core::envelope::{Place, Purpose};
use integration_credentials_core::error::{ErrorCode, Refusal};
use integration_credentials_core::event::Operation;
use integration_credentials_core::{limits, tool};
use pgrx::pg_sys;
use serde_json::json;

// $3 is the time until which the replaced value is kept, or NULL.
statement!(volatile ROLLBACK(TEXTOID, TEXTOID, TIMESTAMPTZOID) "
    UPDATE integration_credentials.configured_integrations
    SET ciphertext = previous_ciphertext,
        revision = revision + 1,
        updated_at = pg_catalog.clock_timestamp(),
        expires_at = previous_expires_at,
        previous_revision = CASE WHEN ciphertext IS NOT NULL AND $3 IS NOT NULL THEN revision END,
        previous_ciphertext = CASE WHEN $3 IS NOT NULL THEN ciphertext END,
        previous_until = CASE WHEN ciphertext IS NOT NULL THEN $3 END,
        previous_expires_at = CASE WHEN $3 IS NOT NULL THEN expires_at END
    WHERE org_slug = $1 AND integration_key = $2
        AND previous_ciphertext IS NOT NULL AND previous_until > pg_catalog.clock_timestamp()
    RETURNING revision, true, updated_at, previous_until IS NOT NULL, pending_ciphertext IS NOT NULL, ciphertext");
// $3 is the revision that is converged, or NULL.
statement!(volatile RETIRE(TEXTOID, TEXTOID, INT8OID) "
    UPDATE integration_credentials.configured_integrations
    SET previous_revision = NULL, previous_ciphertext = NULL, previous_until = NULL, previous_expires_at = NULL
    WHERE org_slug = $1 AND integration_key = $2
        AND previous_ciphertext IS NOT NULL AND previous_until > pg_catalog.clock_timestamp()
        AND ($3 IS NULL OR revision = $3)
    RETURNING revision, ciphertext IS NOT NULL, updated_at, false, pending_ciphertext IS NOT NULL");

/// `admin_rollback_integration_credentials(key, actor, expected_revision)`. Also for a disabled entry, and
/// without a new check: the value was the current one before, and whoever rolls back is in a hurry.
pub fn call_rollback(call: &Call) -> Answer {
    let metering = Metering::start(&tool::ROLLBACK);
    let key = limits::key(call.text(0))?;
    let actor = limits::actor(call.text(1))?;
    let expected = call.bigint(2);
    let org = settings::current_org(call)?;
    let change = Change { call, org: &org, key, actor };
    let entry = catalog::find(key)?;
    refuse_uncommitted(&entry, key, true)?;
    relation::lock(stored::TABLE, pg_sys::RowExclusiveLock);
    key_lock::acquire(&org, key);
    let until = entry.keep_previous.and_then(stored::until);
    let arguments = [argument(org.as_str()), argument(key), argument(until)];
    let rolled_back = first(&ROLLBACK, &arguments, |row| {
        let ciphertext = row.get::<&[u8]>(6)?.unwrap_or_default();
        memory::require_copies(ciphertext, COPIES);
        Ok((State::of(&row)?, ciphertext.to_vec()))
    });
    let Some((state, ciphertext)) = rolled_back else {
        stored::check_expected(key, expected, Stored::revision(&org, key))?;
        return Err(Refusal::no_previous(key));
    };
    stored::check_expected(key, expected, state.revision - 1)?;
    let value = keyring::decrypt(Place { purpose: Purpose::Credential, org: &org, key }, &ciphertext)?;
    redaction::remember(&value);

    change.announce(Operation::Set, state.revision);
    let sync_problem = sync_handler::hand_on(&entry, &org, key, &value);
    let metadata = json!({"revision": state.revision, "previousRevision": state.revision - 1});
    change.audit("rollback_integration_credentials", &metadata);
    metering.finish(
        &org,
        actor,
        sync_problem.as_ref().map(|_| ErrorCode::ToolSetupFailed),
        json!({"key": key, "actor": actor, "expected_revision": expected}),
    );
    Ok(call::json(&state.full(key, sync_problem)))
}

/// `admin_retire_integration_credentials(key, actor, force)`
pub fn call_retire(call: &Call) -> Answer {
    let metering = Metering::start(&tool::RETIRE);
    let key = limits::key(call.text(0))?;
    let actor = limits::actor(call.text(1))?;
    let is_forced = call.boolean(2).unwrap_or(false);
    let org = settings::current_org(call)?;
    let change = Change { call, org: &org, key, actor };
    catalog::find(key)?;
    relation::lock(stored::TABLE, pg_sys::RowExclusiveLock);
    key_lock::acquire(&org, key);
    if !Stored::has_previous(&org, key) {
        return Err(Refusal::no_previous(key));
    }
    let converged = if is_forced { None } else { Some(rotation_status::require_converged(&org, key)?) };
    let arguments = [argument(org.as_str()), argument(key), argument(converged)];
    let state = first(&RETIRE, &arguments, |row| State::of(&row)).unwrap_or_else(|| {
        Raised::try_again("another transaction has changed the credential while it was being retired").throw()
    });
    change.announce(Operation::Retire, state.revision);
    let metadata = json!({"revision": state.revision, "forced": is_forced});
    change.audit("retire_integration_credentials", &metadata);
    metering.finish(&org, actor, None, json!({"key": key, "actor": actor, "force": is_forced}));
    Ok(call::json(&state.full(key, None)))
}
