//! The errors that a caller sees: a status, a code, what happened and what to do. None quotes an argument.

use super::text::clean;
use intcred::{Error, ErrorCode};
use serde::Serialize;
use serde_json::{Value, json};
use std::borrow::Cow;

/// Why a call is refused. As JSON, the object below `error`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub message: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Cow<'static, str>>,
}

impl Refusal {
    pub fn new(
        status: u16,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
        hint: impl Into<Cow<'static, str>>,
    ) -> Self {
        let hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        Self { status, code, message: message.into(), hint }
    }

    fn of(
        code: ErrorCode,
        message: impl Into<Cow<'static, str>>,
        hint: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(code.status(), code.as_str(), message, hint)
    }

    pub fn invalid(message: impl Into<Cow<'static, str>>, hint: impl Into<Cow<'static, str>>) -> Self {
        Self::of(ErrorCode::InvalidRequest, message, hint)
    }

    pub fn rate_limited(message: String) -> Self {
        Self::new(429, "rate_limited", message, "Wait a little, and call again.")
    }

    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(503, "database_unavailable", message, "Call again later. The server's log has the reason.")
    }

    pub fn forbidden() -> Self {
        Self::of(
            ErrorCode::ForbiddenAdminScope,
            "this caller may not do that",
            "It needs an API key of the scope admin; over stdio, a role of the group that may do it.",
        )
    }

    pub fn not_found() -> Self {
        Self::of(
            ErrorCode::IntegrationNotFound,
            "the catalog has no integration with this key",
            "list_integrations lists the keys.",
        )
    }

    pub fn disabled() -> Self {
        Self::of(
            ErrorCode::IntegrationDisabled,
            "the integration is disabled",
            "An operator enables it with `intcred catalog enable`.",
        )
    }

    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::of(
            ErrorCode::RevisionConflict,
            message,
            "Somebody has changed the credential meanwhile. Look at list_integrations, and start again.",
        )
    }

    /// `{"error": ...}`
    pub fn to_json(&self) -> Value {
        json!({ "error": self })
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::RevisionConflict { revision, .. } => Self::conflict(format!(
                "the credential has revision {revision}, and the call expects another"
            )),
            Error::Refused { code, message, hint } => match code {
                ErrorCode::ForbiddenAdminScope => Self::forbidden(),
                // The server's words name the key, which is an argument, and functions of SQL.
                ErrorCode::IntegrationNotFound => Self::not_found(),
                ErrorCode::IntegrationDisabled => Self::disabled(),
                ErrorCode::CredentialsNotSet => Self::of(
                    code,
                    "there is no such value for this integration",
                    "list_integrations and rotation_status show what there is.",
                ),
                _ => Self::of(code, clean(&message), clean(&hint.unwrap_or_default())),
            },
            Error::Database { sqlstate, .. } if sqlstate == "25006" => Self::invalid(
                "the database is read-only: a standby, or set so",
                "Changes need the primary server.",
            ),
            Error::Database { sqlstate, .. } => {
                Self::unavailable(format!("the database refused the call (SQLSTATE {sqlstate})"))
            }
            // The others name hosts and files.
            _ => Self::unavailable("the database does not answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_connections_say_nothing_of_the_host() {
        let error = Error::Connect { target: "db.internal:5432".into(), reason: "no route".into() };
        let refusal = Refusal::from(error);
        assert_eq!((refusal.status, refusal.code), (503, "database_unavailable"));
        assert!(!refusal.to_json().to_string().contains("internal"));
    }

    #[test]
    fn the_key_of_an_integration_is_not_quoted() {
        for code in [
            ErrorCode::ForbiddenAdminScope,
            ErrorCode::IntegrationNotFound,
            ErrorCode::IntegrationDisabled,
            ErrorCode::CredentialsNotSet,
        ] {
            let error =
                Error::Refused { code, message: "integration \"k3y\"".into(), hint: Some("k3y".into()) };
            let refusal = Refusal::from(error);
            assert_eq!((refusal.code, refusal.status), (code.as_str(), code.status()));
            assert!(!refusal.to_json().to_string().contains("k3y"), "{refusal:?}");
        }
        let conflict =
            Error::RevisionConflict { revision: 7, message: "integration \"k3y\"".into(), hint: None };
        let shown = Refusal::from(conflict).to_json().to_string();
        assert!(shown.contains('7') && !shown.contains("k3y"), "{shown}");
    }
}
