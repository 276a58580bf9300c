//! What a change answers, and what each change of a credential leaves behind.

use crate::announce::announce;
use crate::audit;
use crate::pg::call::Call;
use crate::pg::timestamp::Moment;
use integration_credentials_core::error::ErrorCode;
use integration_credentials_core::event::{Event, Operation};
use pgrx::spi::{SpiError, SpiTupleTable};
use serde::Serialize;
use serde_json::Value;

/// The receipt of a change.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt<'a> {
    key: &'a str,
    is_configured: bool,
    has_credentials: bool,
    updated_at: String,
    /// Left out by the calls of 0.1.0.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    life: Option<Life>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Life {
    revision: i64,
    has_previous: bool,
    has_pending: bool,
}

/// The failure of a sync handler.
#[derive(Serialize)]
struct Problem {
    status: u16,
    code: &'static str,
    message: String,
}

/// The row of a credential after a change.
#[derive(Clone, Copy)]
pub struct State {
    /// Its revision.
    pub revision: i64,
    /// Whether it has a current value.
    pub has_credentials: bool,
    /// When its current value changed.
    pub updated_at: Moment,
    /// Whether a previous value is kept.
    pub has_previous: bool,
    /// Whether a value is pending.
    pub has_pending: bool,
}

impl State {
    /// Reads the columns `revision`, `ciphertext IS NOT NULL`, `updated_at`, `previous_until >
    /// clock_timestamp()` and `pending_ciphertext IS NOT NULL`, which come first in a row.
    pub fn of(row: &SpiTupleTable<'_>) -> Result<Self, SpiError> {
        Ok(Self {
            revision: row.get(1)?.unwrap_or_default(),
            has_credentials: row.get(2)?.unwrap_or_default(),
            updated_at: row.get(3)?.unwrap_or_else(Moment::now),
            has_previous: row.get(4)?.unwrap_or_default(),
            has_pending: row.get(5)?.unwrap_or_default(),
        })
    }

    /// The receipt as the calls of 0.1.0 gave it.
    pub fn short<'a>(&self, key: &'a str, sync_problem: Option<String>) -> Receipt<'a> {
        let code = ErrorCode::ToolSetupFailed;
        let error =
            sync_problem.map(|message| Problem { status: code.status(), code: code.as_str(), message });
        Receipt {
            key,
            is_configured: self.revision > 0,
            has_credentials: self.has_credentials,
            updated_at: self.updated_at.to_string(),
            life: None,
            error,
        }
    }

    /// The receipt with the revision, and what else is kept.
    pub fn full<'a>(&self, key: &'a str, sync_problem: Option<String>) -> Receipt<'a> {
        let &Self { revision, has_previous, has_pending, .. } = self;
        Receipt { life: Some(Life { revision, has_previous, has_pending }), ..self.short(key, sync_problem) }
    }
}

/// A checked request to change a credential.
pub struct Change<'a> {
    /// The call.
    pub call: &'a Call,
    /// The org.
    pub org: &'a str,
    /// The integration.
    pub key: &'a str,
    /// The actor.
    pub actor: &'a str,
}

impl Change<'_> {
    /// Announces the change when the transaction commits.
    pub fn announce(&self, operation: Operation, revision: i64) {
        announce(&Event { org: self.org.to_owned(), key: self.key.to_owned(), revision, operation });
    }

    /// Writes the audit row.
    pub fn audit(&self, action: &str, metadata: &Value) {
        audit::write(self.call, self.org, self.actor, action, self.key, metadata);
    }
}
