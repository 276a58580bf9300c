//! Passes a saved credential on: by the sync handler of an integration, and by the handler that the extension
//! ships.

use super::routine::{Routine, SYNC_HANDLER};
use super::sandbox::{self, Access};
use crate::catalog::{Entry, SyncMode};
use crate::pg::call::{self, Answer, Call};
use crate::pg::error;
use crate::pg::prepared::{argument, execute, statement};
use crate::{keyring, settings};
use integration_credentials_core::envelope::{Place, Purpose};
use integration_credentials_core::limits;

/// Runs the sync handler, if there is one. `Some` is a failure for the result of the call.
///
/// A failure is never raised, because an error would roll back the saved credential.
pub fn hand_on(entry: &Entry, org: &str, key: &str, value: &str) -> Option<String> {
    let sync = entry.sync.as_ref()?;
    let result =
        Routine::find_registered(&sync.handler, &SYNC_HANDLER).map_err(|refusal| refusal.message).and_then(
            |handler| sandbox::run(handler.owner, Access::Write, value, || handler.call(&[org, key, value])),
        );
    let problem = result.err()?;
    match sync.mode {
        SyncMode::Surface => Some(problem),
        SyncMode::Background => {
            error::log(format!("the sync handler of integration {key:?} of org {org:?} failed: {problem}"));
            None
        }
    }
}

statement!(volatile UPSERT(TEXTOID, TEXTOID, BYTEAOID) "
    INSERT INTO integration_credentials.aggregator_credentials (org_slug, integration_key, ciphertext)
    VALUES ($1, $2, $3)
    ON CONFLICT (org_slug, integration_key) DO UPDATE
        SET ciphertext = excluded.ciphertext, updated_at = pg_catalog.clock_timestamp()");

/// `sync_aggregator_credentials(org_slug, key, value)`
pub fn call_aggregator(call: &Call) -> Answer {
    let org = limits::check("org_slug", call.text(0), limits::MAX_ORG_CHARS)?;
    let key = limits::key(call.text(1))?;
    let value = settings::check_value(call.text(2))?;
    let place = Place { purpose: Purpose::Aggregator, org, key };
    save(place, &keyring::encrypt(place, value)?);
    Ok(call::VOID)
}

fn save(Place { org, key, .. }: Place<'_>, ciphertext: &[u8]) {
    execute(&UPSERT, &[argument(org), argument(key), argument(ciphertext)]);
}

statement!(volatile FORGET(TEXTOID, TEXTOID) "
    DELETE FROM integration_credentials.aggregator_credentials WHERE org_slug = $1 AND integration_key = $2");

/// Removes a credential from the aggregator.
pub fn forget(org: &str, key: &str) {
    execute(&FORGET, &[argument(org), argument(key)]);
}
