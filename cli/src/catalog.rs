//! Rows and answers of the extension's functions.

use crate::{Timestamp, session::column};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

/// A row of `list_integrations()`. As JSON, with the names of the SQL columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the columns of a row")]
pub struct Integration {
    /// The key, of 1 to 255 characters.
    pub key: String,
    /// The name for people.
    pub display_name: String,
    /// Whether the integration is enabled: only then can its credential be set and read.
    pub is_enabled: bool,
    /// Whether a credential was ever set for the org.
    pub is_configured: bool,
    /// Whether the org has a credential now.
    pub has_credentials: bool,
    /// The credential's revision, raised by each change; 0 if none was ever set.
    pub revision: i64,
    /// When the credential last changed.
    pub updated_at: Option<Timestamp>,
    /// When the vendor lets the credential expire, as whoever set it said.
    pub expires_at: Option<Timestamp>,
    /// Whether the credential before this one is still kept.
    pub has_previous: bool,
    /// Whether a credential is staged.
    pub has_pending: bool,
}

impl Integration {
    /// The columns of `list_integrations()` in the SQL of release 0.1.0, which a database has until
    /// `ALTER EXTENSION UPDATE`.
    const FIRST_RELEASE: usize = 7;

    /// Reads the columns of `list_integrations()`, which are those from `first` on.
    pub(crate) fn from_row(row: &Row, first: usize) -> Result<Self, crate::Error> {
        let has_lifecycle = row.len() > first + Self::FIRST_RELEASE;
        let (expires_at, has_previous, has_pending) = if has_lifecycle {
            (column(row, first + 7)?, column(row, first + 8)?, column(row, first + 9)?)
        } else {
            (None, false, false)
        };
        Ok(Self {
            expires_at,
            has_previous,
            has_pending,
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

/// A row of `describe_integrations()`: the integration, for a form that sets a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    /// The key, of 1 to 255 characters.
    pub key: String,
    /// The name for people.
    pub display_name: String,
    /// Whether the integration is enabled: only then can its credential be set and read.
    pub is_enabled: bool,
    /// The URL where the vendor explains the credential.
    pub docs_url: Option<String>,
    /// An example of a value; never a real credential.
    pub example: Option<String>,
    /// The rules for a value, a JSON object.
    pub rules: serde_json::Value,
    /// The signature of the SQL function that accepts or refuses a value.
    pub validator: Option<String>,
    /// The signature of the SQL function that gets each change.
    pub sync_handler: Option<String>,
    /// Whether the caller gets the error of a failed sync handler (`surface`) or not (`background`).
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

/// An integration to register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The key, of 1 to 255 characters.
    pub key: String,
    /// The name for people.
    pub display_name: String,
    /// The rules for a value, a JSON object with `minLength`, `maxLength`, `prefix`, `pattern`, `schema`,
    /// each optional.
    pub rules: serde_json::Value,
    /// The URL where the vendor explains the credential.
    pub docs_url: Option<String>,
    /// An example of a value; never a real credential.
    pub example: Option<String>,
}

/// The answer to a set or remove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The integration's key.
    pub key: String,
    /// Whether a credential was ever set for the org: always true after a set.
    pub is_configured: bool,
    /// Whether the org has a credential now.
    pub has_credentials: bool,
    /// When the change was made, by the clock of the server.
    pub updated_at: Timestamp,
    /// The credential's revision; `None` from the calls of release 0.1.0, which do not answer with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Whether the credential before this one is still kept; `None` like `revision`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_previous: Option<bool>,
    /// Whether a credential is staged; `None` like `revision`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_pending: Option<bool>,
    /// The error of the sync handler: the credential is saved all the same. Calling again is safe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<SyncFailure>,
}

/// Why a sync handler failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncFailure {
    /// The HTTP status for an API in front: 500.
    pub status: u16,
    /// `tool_setup_failed`
    pub code: String,
    /// The handler's error message, without the value.
    pub message: String,
}

/// A row of the org's audit log. As JSON, with the names of the columns in camel case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// The row's number. Later rows have higher numbers.
    pub id: i64,
    /// The org.
    pub org_slug: String,
    /// The actor that the caller named.
    pub actor: String,
    /// The role that logged in.
    pub session_role: String,
    /// The role that called: the session's role, that of `SET ROLE`, or the owner of a definer function.
    #[serde(rename = "actingRole")]
    pub acting_role: String,
    /// The action, such as `set_integration_credentials`.
    pub action: String,
    /// The kind of the target: `integration`.
    pub target_type: String,
    /// The integration's key.
    pub target_id: String,
    /// Details of the action; never a credential.
    pub metadata: serde_json::Value,
    /// When the action was recorded.
    pub created_at: Timestamp,
}

impl AuditEntry {
    /// Reads the columns of `audit_log`, starting at `first`.
    pub(crate) fn from_row(row: &Row, first: usize) -> Result<Self, crate::Error> {
        Ok(Self {
            id: column(row, first)?,
            org_slug: column(row, first + 1)?,
            actor: column(row, first + 2)?,
            session_role: column(row, first + 3)?,
            acting_role: column(row, first + 4)?,
            action: column(row, first + 5)?,
            target_type: column(row, first + 6)?,
            target_id: column(row, first + 7)?,
            metadata: column(row, first + 8)?,
            created_at: column(row, first + 9)?,
        })
    }
}

/// A row of `credential_reads()`: the last read of a credential by a role. As JSON, with the names of the SQL
/// columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialRead {
    /// The integration's key.
    pub key: String,
    /// The role that called: the session's role, that of `SET ROLE`, or the owner of a definer function.
    pub role: String,
    /// The revision that the role read last.
    pub revision: i64,
    /// When, by the clock of the server.
    pub last_read_at: Timestamp,
    /// How often the role has read the credential.
    pub reads: i64,
}

impl CredentialRead {
    pub(crate) fn from_row(row: &Row) -> Result<Self, crate::Error> {
        Ok(Self {
            key: column(row, 0)?,
            role: column(row, 1)?,
            revision: column(row, 2)?,
            last_read_at: column(row, 3)?,
            reads: column(row, 4)?,
        })
    }
}
