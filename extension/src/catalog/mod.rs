//! Finding an integration in the catalog.

use crate::pg::index_scan::{self, AsOf, Hint, Row};
use crate::pg::jsonb::Document;
use crate::pg::text::{self, Raw, Text};
use crate::pg::timestamp;
use integration_credentials_core::error::Refusal;
use integration_credentials_core::options;
use pgrx::pg_sys;
use std::collections::HashSet;
use std::ffi::CStr;
use std::rc::Rc;
use std::time::Duration;

pub mod cache;

/// Its table.
pub const TABLE: &CStr = c"integration_catalog";

/// The columns of a catalog entry that setting a credential needs.
#[derive(PartialEq, Eq)]
pub struct Entry {
    /// Whether this transaction has written it, and may still roll it back.
    pub is_uncommitted: bool,
    is_enabled: bool,
    /// How long the previous value is kept; `None` for tables of 0.1.0, which keep none.
    pub keep_previous: Option<Duration>,
    /// Its rules.
    pub rules: Document,
    /// Its validator.
    pub validator: Option<Registered>,
    /// Its sync handler.
    pub sync: Option<Sync>,
    /// Where the credential was found last: of the last org, where there are several.
    pub credential: Hint,
}

/// A sync handler, as registered.
#[derive(PartialEq, Eq)]
pub struct Sync {
    /// The function.
    pub handler: Registered,
    /// Where a failure shows.
    pub mode: SyncMode,
}

/// A function, as registered.
#[derive(PartialEq, Eq)]
pub struct Registered {
    /// Its signature.
    pub signature: String,
    /// Its owner at registration; `None` for a function of the extension.
    pub owner: Option<String>,
}

/// Where the failure of a sync handler shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// In the result of the call.
    Surface,
    /// In the server's log.
    Background,
}

impl SyncMode {
    /// `surface` or `background`.
    pub fn parse(mode: &str) -> Option<Self> {
        match mode {
            "surface" => Some(Self::Surface),
            "background" => Some(Self::Background),
            _ => None,
        }
    }
}

/// Finds an entry as of now, in any isolation level. An older snapshot of the transaction does not count,
/// because a disabled entry must not be used.
pub fn find(key: &str) -> Result<Rc<Entry>, Refusal> {
    let read = || index_scan::find(TABLE, [(c"integration_key", key)], AsOf::Now, read);
    cache::get(key).or_else(|| cache::fill(key, read)).ok_or_else(Refusal::integration_not_found)
}

/// Finds an entry, and refuses a disabled one.
pub fn find_enabled(key: &str) -> Result<Rc<Entry>, Refusal> {
    let entry = find(key)?;
    if entry.is_enabled { Ok(entry) } else { Err(Refusal::integration_disabled(key)) }
}

/// The keys of the entries that are enabled now.
pub fn enabled_keys() -> HashSet<String> {
    let key = |row: &Row| {
        let is_enabled = row.get(c"is_enabled").unwrap_or(false);
        row.get(c"integration_key").filter(|_| is_enabled).map(|Raw(bytes)| text::lossy(&bytes))
    };
    let mut keys = HashSet::new();
    index_scan::visit(TABLE, |row| keys.extend(key(row)));
    keys
}

fn read(row: &Row) -> Entry {
    let registered = |signature, owner| {
        let name = |column| row.get(column).map(|Text(text)| text);
        name(signature).map(|signature| Registered { signature, owner: name(owner) })
    };
    let mode = row.get(c"sync_mode").and_then(|Text(mode)| SyncMode::parse(&mode));
    Entry {
        is_uncommitted: row.is_uncommitted(),
        is_enabled: row.get(c"is_enabled").unwrap_or(false),
        keep_previous: row
            .has(c"keep_previous", pg_sys::INTERVALOID)
            .then(|| row.get(c"keep_previous").and_then(|kept| timestamp::span(&kept)).unwrap_or_default())
            .map(|kept| kept.min(options::LONGEST_KEPT)),
        rules: row.get(c"rules").unwrap_or_default(),
        validator: registered(c"validator", c"validator_owner"),
        sync: registered(c"sync_handler", c"sync_handler_owner")
            .zip(mode)
            .map(|(handler, mode)| Sync { handler, mode }),
        credential: Hint::default(),
    }
}
