//! `list_integrations(keys)`, which every consumer calls after each notification. So the rows are found by their keys:
//! a planner would take five times as long as the reading.

use super::stored::{self, keeps_previous};
use crate::pg::call::{Answer, Call, VOID};
use crate::pg::index_scan::{self, AsOf, Row};
use crate::pg::text::Raw;
use crate::pg::timestamp::Moment;
use crate::pg::tuplestore::Rows;
use crate::settings;
use integration_credentials_core::limits::MAX_KEY_CHARS;
use pgrx::{IntoDatum, check_for_interrupts};
use std::collections::BTreeMap;

/// The state of a credential.
#[derive(Default)]
struct State {
    revision: i64,
    has_credentials: bool,
    updated_at: Option<Moment>,
    expires_at: Option<Moment>,
    has_previous: bool,
    has_pending: bool,
}

impl State {
    fn read(row: &Row) -> Self {
        Self {
            revision: row.get(c"revision").unwrap_or_default(),
            has_credentials: row.has_bytes(c"ciphertext"),
            updated_at: row.get(c"updated_at"),
            expires_at: row.get(c"expires_at"),
            has_previous: keeps_previous(row),
            has_pending: row.has_bytes(c"pending_ciphertext"),
        }
    }
}

/// The longest key of the catalog, in bytes.
const MAX_KEY_BYTES: usize = 4 * MAX_KEY_CHARS;

/// Answers the call: a row for each key that the catalog has, sorted by the bytes of the keys. Only these keys are kept,
/// whatever else is asked for.
pub fn call(call: &Call) -> Answer {
    let org = settings::current_org(call)?;
    let mut entries = BTreeMap::new();
    call.each_text(0, MAX_KEY_BYTES, |key| {
        if entries.contains_key(key) {
            return;
        }
        let entry = [(c"integration_key", key)];
        let entry = index_scan::find(c"integration_catalog", entry, AsOf::Statement, |row| {
            (row.get::<Raw>(c"display_name"), row.get::<bool>(c"is_enabled"))
        });
        entries.extend(entry.map(|entry| (key.to_owned(), entry)));
    });
    let mut rows = Rows::<10>::of(call);
    for (key, (display_name, is_enabled)) in entries {
        check_for_interrupts!();
        let credential = [(c"org_slug", org.as_str()), (c"integration_key", key.as_str())];
        let state = index_scan::find(stored::TABLE, credential, AsOf::Statement, State::read);
        let state = state.unwrap_or_default();
        // A row that only has a pending value was never set.
        let is_configured = state.revision > 0;
        rows.push([
            key.into_datum(),
            display_name.into_datum(),
            is_enabled.into_datum(),
            is_configured.into_datum(),
            state.has_credentials.into_datum(),
            state.revision.into_datum(),
            state.updated_at.filter(|_| is_configured).into_datum(),
            state.expires_at.into_datum(),
            state.has_previous.into_datum(),
            state.has_pending.into_datum(),
        ]);
    }
    Ok(VOID)
}
