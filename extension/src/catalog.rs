//! Finding an integration in the catalog.

use crate::statement::{argument, first, statement};
use integration_credentials_core::error::{ErrorCode, Failure};

/// A catalog entry, as far as setting a credential needs it.
pub struct Entry {
    is_enabled: bool,
    /// The text of its rules.
    pub rules: String,
    /// The signature of its validator.
    pub validator: Option<String>,
    /// Its sync handler.
    pub sync: Option<Sync>,
}

/// A sync handler, as registered.
pub struct Sync {
    /// Its signature.
    pub handler: String,
    /// What becomes of a failure.
    pub mode: SyncMode,
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

statement!(writing FIND(TEXTOID) "
    SELECT is_enabled, rules::pg_catalog.text, validator, sync_handler, sync_mode
    FROM integration_credentials.integration_catalog WHERE integration_key = $1");

/// The entry, enabled or not.
pub fn find(key: &str) -> Result<Entry, Failure> {
    let entry = first(&FIND, &[argument(key)], |row| {
        let mode = row.get::<String>(5)?.and_then(|mode| SyncMode::parse(&mode));
        Ok(Entry {
            is_enabled: row.get(1)?.unwrap_or(false),
            rules: row.get(2)?.unwrap_or_default(),
            validator: row.get(3)?,
            sync: row.get(4)?.zip(mode).map(|(handler, mode)| Sync { handler, mode }),
        })
    });
    entry.ok_or_else(not_found)
}

/// The entry, if it is enabled.
pub fn find_enabled(key: &str) -> Result<Entry, Failure> {
    let entry = find(key)?;
    if entry.is_enabled { Ok(entry) } else { Err(disabled(key)) }
}

/// The refusal of a key that the catalog does not have. It is not repeated: it may be a value in the wrong place.
pub fn not_found() -> Failure {
    Failure::new(
        ErrorCode::IntegrationNotFound,
        "there is no integration with this key in the catalog",
        "SELECT key FROM integration_credentials.list_integrations() shows what there is; \
         admin_register_integration() adds one.",
    )
}

/// The refusal of a disabled entry.
pub fn disabled(key: &str) -> Failure {
    Failure::new(
        ErrorCode::IntegrationDisabled,
        format!("the integration {key:?} is disabled"),
        "admin_set_integration_enabled(key, true, actor) enables it.",
    )
}
