//! `admin_remove_integration_credentials(key, actor [, purge])`: clears the value and keeps the row, so that the
//! revision grows on. The value stays as the previous one for a while, unless it is purged.

use super::key_lock;
use super::receipt::{Change, State};
use super::stored;
use crate::metering::Metering;
use crate::pg::call::{self, Answer, Call};
use crate::pg::prepared::{argument, first, statement};
use crate::pg::relation;
use crate::user_functions::sync_handler;
use crate::{catalog, settings};
use integration_credentials_core::error::Refusal;
use integration_credentials_core::event::Operation;
use integration_credentials_core::{limits, tool};
use pgrx::pg_sys;
use serde_json::json;

// $3 is the time until which the value is kept, or NULL. A pending value goes too: whoever removes a
// credential does not rotate it.
statement!(volatile CLEAR(TEXTOID, TEXTOID, TIMESTAMPTZOID) "
    UPDATE integration_credentials.configured_integrations
    SET ciphertext = NULL,
        revision = revision + 1,
        updated_at = pg_catalog.clock_timestamp(),
        expires_at = NULL,
        previous_revision = CASE WHEN $3 IS NOT NULL THEN revision END,
        previous_ciphertext = CASE WHEN $3 IS NOT NULL THEN ciphertext END,
        previous_until = $3,
        previous_expires_at = CASE WHEN $3 IS NOT NULL THEN expires_at END,
        pending_ciphertext = NULL, pending_at = NULL, pending_actor = NULL, pending_expires_at = NULL
    WHERE org_slug = $1 AND integration_key = $2 AND ciphertext IS NOT NULL
    RETURNING revision, false, updated_at, previous_until IS NOT NULL, false");
// For tables of 0.1.0, until ALTER EXTENSION UPDATE.
statement!(volatile CLEAR_0_1_0(TEXTOID, TEXTOID) "
    UPDATE integration_credentials.configured_integrations
    SET ciphertext = NULL, revision = revision + 1, updated_at = pg_catalog.clock_timestamp()
    WHERE org_slug = $1 AND integration_key = $2 AND ciphertext IS NOT NULL
    RETURNING revision, false, updated_at, false, false");
// What a removal has left.
statement!(volatile PURGE(TEXTOID, TEXTOID) "
    UPDATE integration_credentials.configured_integrations
    SET previous_revision = NULL, previous_ciphertext = NULL, previous_until = NULL, previous_expires_at = NULL,
        pending_ciphertext = NULL, pending_at = NULL, pending_actor = NULL, pending_expires_at = NULL
    WHERE org_slug = $1 AND integration_key = $2
        AND (previous_ciphertext IS NOT NULL OR pending_ciphertext IS NOT NULL)
    RETURNING revision, false, updated_at, false, false");

/// Answers the call, also for a disabled entry: an operator disables a leaked credential, and then removes
/// it.
pub fn call(call: &Call) -> Answer {
    const PURGE_ARGUMENT: usize = 2;
    let metering = Metering::start(&tool::REMOVE);
    let key = limits::key(call.text(0))?;
    let actor = limits::actor(call.text(1))?;
    let has_purge = call.arguments() > PURGE_ARGUMENT;
    let is_purged = has_purge && call.boolean(PURGE_ARGUMENT).unwrap_or(false);
    let org = settings::current_org(call)?;
    let change = Change { call, org: &org, key, actor };
    let entry = catalog::find(key)?;

    relation::lock(stored::TABLE, pg_sys::RowExclusiveLock);
    key_lock::acquire(&org, key);
    let of_row = [argument(org.as_str()), argument(key)];
    let cleared = match entry.keep_previous {
        Some(keep_previous) => {
            let until = if is_purged { None } else { stored::until(keep_previous) };
            let [org, key] = of_row;
            first(&CLEAR, &[org, key, argument(until)], |row| State::of(&row))
        }
        None => first(&CLEAR_0_1_0, &of_row, |row| State::of(&row)),
    };
    let (state, operation) = match cleared {
        Some(state) => (state, Operation::Remove),
        None if is_purged => {
            let purged = first(&PURGE, &[argument(org.as_str()), argument(key)], |row| State::of(&row));
            (purged.ok_or_else(|| Refusal::credentials_not_set(key))?, Operation::Retire)
        }
        None => return Err(Refusal::credentials_not_set(key)),
    };
    sync_handler::forget(&org, key);

    change.announce(operation, state.revision);
    let (metadata, parameters) = if has_purge {
        (json!({"purge": is_purged}), json!({"key": key, "actor": actor, "purge": is_purged}))
    } else {
        (json!({}), json!({"key": key, "actor": actor}))
    };
    change.audit("remove_integration_credentials", &metadata);
    metering.finish(&org, actor, None, parameters);
    Ok(call::json(&if has_purge { state.full(key, None) } else { state.short(key, None) }))
}
