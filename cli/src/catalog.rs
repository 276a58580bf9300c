//! What the database says about its integrations.

use crate::{Timestamp, session::column};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

/// An integration as `list_integrations()` has it. As JSON it has the names of the SQL columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Integration {
    /// What it is called by.
    pub key: String,
    /// What people call it.
    pub display_name: String,
    /// Whether credentials may be set and read.
    pub is_enabled: bool,
    /// Whether this org has had a credential for it.
    pub is_configured: bool,
    /// Whether this org has one now.
    pub has_credentials: bool,
    /// Raised by each change of the credential; 0 where there has been none.
    pub revision: i64,
    /// When that last happened.
    pub updated_at: Option<Timestamp>,
}

impl Integration {
    pub(crate) const COLUMNS: usize = 7;

    /// Reads the columns of `list_integrations()`, starting at `first`.
    pub(crate) fn from_row(row: &Row, first: usize) -> Result<Self, crate::Error> {
        Ok(Self {
            key: column(row, first)?,
            display_name: column(row, first + 1)?,
            is_enabled: column(row, first + 2)?,
            is_configured: column(row, first + 3)?,
            has_credentials: column(row, first + 4)?,
            revision: column(row, first + 5)?,
            updated_at: column(row, first + 6)?,
        })
    }
}

/// What an admin needs to know to fill in a credential, as `describe_integrations()` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    /// What the integration is called by.
    pub key: String,
    /// What people call it.
    pub display_name: String,
    /// Whether credentials may be set and read.
    pub is_enabled: bool,
    /// Where its vendor explains the credential.
    pub docs_url: Option<String>,
    /// The form of a value; never a real one.
    pub example: Option<String>,
    /// What is demanded of a value.
    pub rules: serde_json::Value,
    /// The SQL function that has the last word on a value.
    pub validator: Option<String>,
    /// The SQL function that passes a value on.
    pub sync_handler: Option<String>,
    /// Whether the caller learns that it failed.
    pub sync_mode: Option<String>,
}

impl Description {
    pub(crate) fn from_row(row: &Row) -> Result<Self, crate::Error> {
        Ok(Self {
            key: column(row, 0)?,
            display_name: column(row, 1)?,
            is_enabled: column(row, 2)?,
            docs_url: column(row, 3)?,
            example: column(row, 4)?,
            rules: column(row, 5)?,
            validator: column(row, 6)?,
            sync_handler: column(row, 7)?,
            sync_mode: column(row, 8)?,
        })
    }
}

/// An integration to be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// What it will be called by.
    pub key: String,
    /// What people call it.
    pub display_name: String,
    /// What is demanded of a value: `minLength`, `maxLength`, `prefix`, `pattern`, `schema`, each optional.
    pub rules: serde_json::Value,
    /// Where its vendor explains the credential.
    pub docs_url: Option<String>,
    /// The form of a value; never a real one.
    pub example: Option<String>,
}

/// The answer to setting or removing a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Of which integration.
    pub key: String,
    /// Whether this org has had a credential for it: yes, by now.
    pub is_configured: bool,
    /// Whether it has one now.
    pub has_credentials: bool,
    /// When the change was made.
    pub updated_at: Timestamp,
    /// The credential is saved, and then its sync handler failed. Calling again is safe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<SyncFailure>,
}

/// Why a sync handler failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncFailure {
    /// The HTTP status that an API in front would answer with.
    pub status: u16,
    /// `tool_setup_failed`
    pub code: String,
    /// What the handler said, without the value.
    pub message: String,
}

/// A row of the org's audit log. As JSON it has the names of the view's columns, in the style of [`Receipt`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Rises with time.
    pub id: i64,
    /// Whose credential it was.
    pub org_slug: String,
    /// Who did it, as the caller said.
    pub actor: String,
    /// Who did it, as Postgres knows: the role that logged in.
    pub session_role: String,
    /// The role that called: that of `SET ROLE`, or the owner of a definer function.
    #[serde(rename = "actingRole")]
    pub acting_role: String,
    /// What was done.
    pub action: String,
    /// To what kind of thing.
    pub target_type: String,
    /// To which one.
    pub target_id: String,
    /// More about it; never a value.
    pub metadata: serde_json::Value,
    /// When.
    pub created_at: Timestamp,
}

impl AuditEntry {
    pub(crate) fn from_row(row: &Row) -> Result<Self, crate::Error> {
        Ok(Self {
            id: column(row, 0)?,
            org_slug: column(row, 1)?,
            actor: column(row, 2)?,
            session_role: column(row, 3)?,
            acting_role: column(row, 4)?,
            action: column(row, 5)?,
            target_type: column(row, 6)?,
            target_id: column(row, 7)?,
            metadata: column(row, 8)?,
            created_at: column(row, 9)?,
        })
    }
}
