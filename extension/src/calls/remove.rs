//! `admin_remove_integration_credentials(key, actor)`: clears the value and keeps the row, so that the
//! revision grows on.

use super::key_lock;
use super::set::State;
use crate::announce::announce;
use crate::audit;
use crate::metering::Metering;
use crate::pg::call::{self, Answer, Call};
use crate::pg::prepared::{argument, first, statement};
use crate::pg::{relation, timestamp};
use crate::user_functions::sync_handler;
use crate::{catalog, settings};
use integration_credentials_core::error::Refusal;
use integration_credentials_core::event::{Event, Operation};
use integration_credentials_core::{limits, tool};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use serde_json::json;

statement!(volatile CLEAR(TEXTOID, TEXTOID) "
    UPDATE integration_credentials.configured_integrations
    SET ciphertext = NULL, revision = revision + 1, updated_at = pg_catalog.clock_timestamp()
    WHERE org_slug = $1 AND integration_key = $2 AND ciphertext IS NOT NULL
    RETURNING revision, updated_at");

/// Answers the call, also for a disabled entry: an operator disables a leaked credential, and then removes
/// it.
pub fn call(call: &Call) -> Answer {
    let metering = Metering::start(&tool::REMOVE);
    let key = limits::key(call.text(0))?;
    let actor = limits::actor(call.text(1))?;
    let org = settings::current_org(call)?;
    catalog::find(key)?;

    relation::lock(c"configured_integrations", pg_sys::RowExclusiveLock);
    key_lock::acquire(&org, key);
    let (revision, updated_at) = clear(&org, key).ok_or_else(|| Refusal::credentials_not_set(key))?;
    sync_handler::forget(&org, key);

    announce(&Event { org: org.clone(), key: key.to_owned(), revision, operation: Operation::Remove });
    audit::write(call, &org, actor, "remove_integration_credentials", key, &json!({}));
    metering.finish(&org, actor, None, json!({"key": key, "actor": actor}));
    Ok(call::json(&State { key, is_configured: true, has_credentials: false, updated_at, error: None }))
}

fn clear(org: &str, key: &str) -> Option<(i64, String)> {
    first(&CLEAR, &[argument(org), argument(key)], |row| {
        Ok(row.get(1)?.zip(row.get::<TimestampWithTimeZone>(2)?.map(timestamp::iso8601)))
    })
    .flatten()
}
