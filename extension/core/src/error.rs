//! The error codes of the product: one SQLSTATE each, in one place.

use serde_json::Value;
use std::fmt::{self, Write};

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// An argument is missing, empty, too long or malformed.
    InvalidRequest,
    /// The catalog entry exists and is disabled.
    IntegrationDisabled,
    /// A rule or validator refused the value.
    InvalidCredentials,
    /// The role lacks EXECUTE. Postgres itself raises it, before our code is entered.
    ForbiddenAdminScope,
    /// The catalog has no such entry.
    IntegrationNotFound,
    /// There is no current, previous or pending value to read or to act on.
    CredentialsNotSet,
    /// The credential is saved, but its sync handler failed. Found in results, never raised.
    ToolSetupFailed,
    /// No keyring, an unknown key id, or a ciphertext that does not authenticate.
    EncryptionUnavailable,
    /// The credential has another revision than the caller expects.
    RevisionConflict,
    /// A consumer may still use the previous value.
    NotConverged,
}

impl ErrorCode {
    /// Every code, in the order of the table in docs/sql.md.
    pub const ALL: [Self; 10] = [
        Self::InvalidRequest,
        Self::IntegrationDisabled,
        Self::InvalidCredentials,
        Self::ForbiddenAdminScope,
        Self::IntegrationNotFound,
        Self::CredentialsNotSet,
        Self::ToolSetupFailed,
        Self::EncryptionUnavailable,
        Self::RevisionConflict,
        Self::NotConverged,
    ];

    const fn row(self) -> (&'static str, u16, &'static str, &'static str) {
        match self {
            Self::InvalidRequest => {
                ("invalid_request", 400, "IC001", "an argument is missing, empty, too long or malformed")
            }
            Self::IntegrationDisabled => {
                ("integration_disabled", 400, "IC002", "the entry of the catalog is disabled")
            }
            Self::InvalidCredentials => (
                "invalid_credentials",
                400,
                "IC003",
                "a rule or the validator refuses the value; the old value stays",
            ),
            Self::ForbiddenAdminScope => (
                "forbidden_admin_scope",
                403,
                "42501",
                "the role lacks the grant; Postgres' own error, without DETAIL and HINT",
            ),
            Self::IntegrationNotFound => {
                ("integration_not_found", 404, "IC004", "the catalog has no such entry")
            }
            Self::CredentialsNotSet => (
                "credentials_not_set",
                404,
                "IC005",
                "there is no such value to read, remove, promote or restore",
            ),
            Self::ToolSetupFailed => (
                "tool_setup_failed",
                500,
                "IC006",
                "saved, but the sync handler failed; in the result, never raised",
            ),
            Self::EncryptionUnavailable => (
                "encryption_unavailable",
                500,
                "IC007",
                "no preload, no keyring, an unknown key id, or a ciphertext that does not authenticate",
            ),
            Self::RevisionConflict => (
                "revision_conflict",
                409,
                "IC008",
                "the credential has another revision than expected; DETAIL has `revision`, the one that is there",
            ),
            Self::NotConverged => (
                "not_converged",
                409,
                "IC009",
                "a consumer may still use the previous value; DETAIL has `verdict` and `behind`, the names of consumers",
            ),
        }
    }

    /// The code as programs know it, e.g. `integration_not_found`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status that an API in front would answer with.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().1
    }

    /// Its SQLSTATE.
    #[must_use]
    pub const fn sqlstate(self) -> &'static str {
        self.row().2
    }

    /// When a call meets the error, for the documentation.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        self.row().3
    }

    /// The code of a SQLSTATE, if the SQLSTATE is one of ours.
    #[must_use]
    pub fn from_sqlstate(sqlstate: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.sqlstate() == sqlstate)
    }

    /// The code with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: what happened, and what to do next. Neither ever contains a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The error code.
    pub code: ErrorCode,
    /// What happened.
    pub message: String,
    /// What to do next.
    pub hint: String,
    /// What a program needs to know besides the code, such as the revision that is there.
    pub facts: Vec<(&'static str, Value)>,
}

impl Refusal {
    /// A refusal with `code`.
    pub fn new(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint.into(), facts: Vec::new() }
    }

    /// The DETAIL of the error: `{"status": 404, "code": "integration_not_found"}`, and the facts.
    #[must_use]
    pub fn detail(&self) -> String {
        let Self { code, facts, .. } = self;
        let mut detail = format!(r#"{{"status": {}, "code": "{}""#, code.status(), code.as_str());
        for (name, fact) in facts {
            // Writing into a String cannot fail.
            let _ = write!(detail, r#", "{name}": {fact}"#);
        }
        detail + "}"
    }

    /// The catalog does not have the key. The message does not repeat the key, which may be a misplaced secret.
    #[must_use]
    pub fn integration_not_found() -> Self {
        Self::new(
            ErrorCode::IntegrationNotFound,
            "the catalog has no integration with this key",
            "SELECT key FROM integration_credentials.list_integrations() lists the keys; \
             admin_register_integration() adds an integration.",
        )
    }

    /// The catalog entry is disabled.
    #[must_use]
    pub fn integration_disabled(key: &str) -> Self {
        Self::new(
            ErrorCode::IntegrationDisabled,
            format!("integration {key:?} is disabled"),
            "admin_set_integration_enabled(key, true, actor) enables it.",
        )
    }

    /// The org has no credential for the key.
    #[must_use]
    pub fn credentials_not_set(key: &str) -> Self {
        Self::new(
            ErrorCode::CredentialsNotSet,
            format!("this org has no credential for integration {key:?}"),
            "admin_set_integration_credentials(key, value, actor) sets the credential.",
        )
    }

    /// The org has no previous value for the key, or no longer.
    #[must_use]
    pub fn no_previous(key: &str) -> Self {
        Self::new(
            ErrorCode::CredentialsNotSet,
            format!("no previous value is kept for integration {key:?}"),
            "A previous value is kept for the time that the catalog's keep_previous or the option keepPrevious says. \
             rotation_status(key) shows what is kept.",
        )
    }

    /// The org has no pending value for the key.
    #[must_use]
    pub fn no_pending(key: &str) -> Self {
        Self::new(
            ErrorCode::CredentialsNotSet,
            format!("no value is pending for integration {key:?}"),
            "Stage a value first: set it with the option {\"stage\": true}.",
        )
    }

    /// The credential has another revision than expected.
    #[must_use]
    pub fn revision_conflict(key: &str, expected: i64, found: i64) -> Self {
        Self {
            facts: vec![("revision", found.into())],
            ..Self::new(
                ErrorCode::RevisionConflict,
                format!("integration {key:?} has revision {found}, and the call expects {expected}"),
                "Somebody has changed the credential. Look at it again, then call with the revision that is there.",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_again_by_its_sqlstate_and_name() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_sqlstate(code.sqlstate()), Some(code));
            assert_eq!(ErrorCode::from_name(code.as_str()), Some(code));
            let detail: Value = serde_json::from_str(&Refusal::new(code, "", "").detail()).unwrap();
            assert_eq!(detail, serde_json::json!({"status": code.status(), "code": code.as_str()}));
        }
        let conflict: Value = serde_json::from_str(&Refusal::revision_conflict("k", 1, 7).detail()).unwrap();
        assert_eq!(conflict, serde_json::json!({"status": 409, "code": "revision_conflict", "revision": 7}));
        assert_eq!(ErrorCode::from_sqlstate("23505"), None);
    }
}
