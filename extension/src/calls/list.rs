//! `list_integrations()` and `list_integrations(keys)`.
//!
//! Every consumer calls the second after each notification. So the rows are found by their keys: a planner would take
//! five times as long as the reading. The first reads both tables in the order of their keys, with no sort, no hash table
//! and no memory but the result.

use super::stored::{TABLE, is_kept};
use crate::pg::call::{Answer, Call, VOID};
use crate::pg::index_scan::{self, AsOf, Column, Columns, InOrder, Row};
use crate::pg::text::Raw;
use crate::pg::timestamp::Moment;
use crate::pg::tuplestore::Rows;
use crate::{catalog, settings};
use integration_credentials_core::limits::MAX_KEY_CHARS;
use pgrx::{IntoDatum, check_for_interrupts, pg_sys};
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

/// The columns of a credential.
struct Credential<'a> {
    key: Column<Raw>,
    revision: Column<i64>,
    ciphertext: Column<&'a [u8]>,
    updated_at: Column<Moment>,
    expires_at: Column<Moment>,
    previous_until: Column<Moment>,
    pending_ciphertext: Column<&'a [u8]>,
}

impl Credential<'_> {
    fn of(columns: Columns) -> Self {
        Self {
            key: columns.find(c"integration_key"),
            revision: columns.find(c"revision"),
            ciphertext: columns.find(c"ciphertext"),
            updated_at: columns.find(c"updated_at"),
            expires_at: columns.find(c"expires_at"),
            previous_until: columns.find(c"previous_until"),
            pending_ciphertext: columns.find(c"pending_ciphertext"),
        }
    }

    fn state(&self, row: &Row, now: Moment) -> State {
        State {
            revision: row.read(self.revision).unwrap_or_default(),
            has_credentials: row.datum(self.ciphertext).is_some(),
            updated_at: row.read(self.updated_at),
            expires_at: row.read(self.expires_at),
            has_previous: is_kept(row.read(self.previous_until), now),
            has_pending: row.datum(self.pending_ciphertext).is_some(),
        }
    }

    /// The state of the credential with a key, of credentials in the order of their keys. One whose entry the catalog
    /// lost comes before its turn.
    fn next_state(&self, credentials: &mut InOrder, key: Option<&[u8]>, now: Moment) -> State {
        while let Some(row) = credentials.row() {
            let order = row.bytes(self.key).cmp(&key);
            if order.is_gt() {
                break;
            }
            let state = order.is_eq().then(|| self.state(row, now));
            credentials.advance();
            if let Some(state) = state {
                return state;
            }
        }
        State::default()
    }
}

impl State {
    /// A row of the result, for this key, display name, and whether the entry is enabled.
    fn row(self, entry: [Option<pg_sys::Datum>; 3]) -> [Option<pg_sys::Datum>; 10] {
        let [key, display_name, is_enabled] = entry;
        // A row that only has a pending value was never set.
        let is_configured = self.revision > 0;
        [
            key,
            display_name,
            is_enabled,
            is_configured.into_datum(),
            self.has_credentials.into_datum(),
            self.revision.into_datum(),
            self.updated_at.filter(|_| is_configured).into_datum(),
            self.expires_at.into_datum(),
            self.has_previous.into_datum(),
            self.has_pending.into_datum(),
        ]
    }
}

/// `list_integrations()`
pub fn call(call: &Call) -> Answer {
    let org = settings::current_org(call)?;
    let mut rows = Rows::<10>::without_secrets(call);
    let now = Moment::now();
    index_scan::query(&[catalog::TABLE, TABLE], || {
        index_scan::in_order(catalog::TABLE, [], |entries| {
            index_scan::in_order(TABLE, [(c"org_slug", org.as_str())], |credentials| {
                let credential = Credential::of(credentials.columns);
                let key = entries.columns.find(c"integration_key");
                let display_name = entries.columns.find::<Raw>(c"display_name");
                let is_enabled = entries.columns.find::<bool>(c"is_enabled");
                credentials.advance();
                while let Some(entry) = entries.advance() {
                    let state = credential.next_state(credentials, entry.bytes(key), now);
                    rows.push(state.row([
                        entry.datum(key),
                        entry.datum(display_name),
                        entry.datum(is_enabled),
                    ]));
                }
            });
        });
    });
    Ok(VOID)
}

/// The longest key of the catalog, in bytes.
const MAX_KEY_BYTES: usize = 4 * MAX_KEY_CHARS;

/// `list_integrations(keys)`: a row for each key that the catalog has, sorted by the bytes of the keys. Only these keys
/// are kept, whatever else is asked for.
pub fn call_of(call: &Call) -> Answer {
    let org = settings::current_org(call)?;
    let mut entries = BTreeMap::new();
    call.each_text(0, MAX_KEY_BYTES, |key| {
        if entries.contains_key(key) {
            return;
        }
        let entry = [(c"integration_key", key)];
        let entry = index_scan::find(catalog::TABLE, entry, AsOf::Statement, |row| {
            (row.get::<Raw>(c"display_name"), row.get::<bool>(c"is_enabled"))
        });
        entries.extend(entry.map(|entry| (key.to_owned(), entry)));
    });
    let mut rows = Rows::<10>::without_secrets(call);
    let now = Moment::now();
    for (key, (display_name, is_enabled)) in entries {
        check_for_interrupts!();
        let credential = [(c"org_slug", org.as_str()), (c"integration_key", key.as_str())];
        let state = index_scan::find(TABLE, credential, AsOf::Statement, |row| {
            Credential::of(row.columns).state(row, now)
        });
        let entry = [key.into_datum(), display_name.into_datum(), is_enabled.into_datum()];
        rows.push(state.unwrap_or_default().row(entry));
    }
    Ok(VOID)
}
