//! Finding an integration in the catalog.

use crate::document::Document;
use crate::lookup::{self, Row};
use crate::statement::{argument, execute, statement};
use crate::text::Text;
use integration_credentials_core::error::{ErrorCode, Failure};
use pgrx::pg_sys;
use std::ffi::CStr;
use std::rc::Rc;

pub mod known;

const TABLE: &CStr = c"integration_catalog";

/// A catalog entry, as far as setting a credential needs it.
#[derive(PartialEq, Eq)]
pub struct Entry {
    is_uncommitted: bool,
    is_enabled: bool,
    /// Its rules.
    pub rules: Document,
    /// Its validator.
    pub validator: Option<Registered>,
    /// Its sync handler.
    pub sync: Option<Sync>,
}

/// A sync handler, as registered.
#[derive(PartialEq, Eq)]
pub struct Sync {
    /// The function.
    pub handler: Registered,
    /// What becomes of a failure.
    pub mode: SyncMode,
}

/// A function, as registered.
#[derive(PartialEq, Eq)]
pub struct Registered {
    /// Its signature.
    pub signature: String,
    /// The role it belonged to; `None` is one of ours.
    pub owner: Option<String>,
}

/// What becomes of the failure of a sync handler.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// It shows in the result.
    Surface,
    /// It is logged.
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

/// Refuses a key that the catalog does not have.
pub fn find(key: &str) -> Result<Rc<Entry>, Failure> {
    let look = || lookup::anew(|| lookup::find(TABLE, [(c"integration_key", key)], read));
    let entry = if sees_an_old_snapshot() {
        look().map(Rc::new)
    } else {
        known::get(key).or_else(|| known::learn(key, look))
    };
    entry.ok_or_else(not_found)
}

/// Refuses a key that the catalog does not have, or whose entry is disabled.
pub fn find_enabled(key: &str) -> Result<Rc<Entry>, Failure> {
    let entry = find(key)?;
    if entry.is_enabled { Ok(entry) } else { Err(disabled(key)) }
}

fn read(row: &Row) -> Entry {
    let registered = |signature, owner| {
        let text = |column| row.get(column).map(|Text(text)| text);
        text(signature).map(|signature| Registered { signature, owner: text(owner) })
    };
    let mode = row.get(c"sync_mode").and_then(|Text(mode)| SyncMode::parse(&mode));
    Entry {
        is_uncommitted: row.is_uncommitted(),
        is_enabled: row.get(c"is_enabled").unwrap_or(false),
        rules: row.get(c"rules").unwrap_or_default(),
        validator: registered(c"validator", c"validator_owner"),
        sync: registered(c"sync_handler", c"sync_handler_owner")
            .zip(mode)
            .map(|(handler, mode)| Sync { handler, mode }),
    }
}

// Under an old snapshot an entry may look as it no longer is. Locking it tells: then Postgres asks to try again (40001).
statement!(volatile LOCK(TEXTOID) "
    SELECT FROM integration_credentials.integration_catalog WHERE integration_key = $1 FOR SHARE");

/// Makes sure that the entry is as it was found.
pub fn confirm(key: &str) {
    if sees_an_old_snapshot() {
        execute(&LOCK, &[argument(key)]);
    }
}

/// Whether this transaction does not see what others commit meanwhile.
pub fn sees_an_old_snapshot() -> bool {
    // SAFETY: a variable of the server.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ.cast_signed() }
}

/// The refusal of a key that the catalog does not have. It is not repeated: it may be a value in the wrong place.
fn not_found() -> Failure {
    Failure::new(
        ErrorCode::IntegrationNotFound,
        "there is no integration with this key in the catalog",
        "SELECT key FROM integration_credentials.list_integrations() shows what there is; \
         admin_register_integration() adds one.",
    )
}

/// The refusal of a disabled entry.
fn disabled(key: &str) -> Failure {
    Failure::new(
        ErrorCode::IntegrationDisabled,
        format!("the integration {key:?} is disabled"),
        "admin_set_integration_enabled(key, true, actor) enables it.",
    )
}
