//! The result of a check.

use serde::Serialize;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// No problem.
    Ok,
    /// Harmless now; the fix makes the setup safer.
    Advice,
    /// Exposes a secret, gives access to an intruder, or stops the extension from working.
    Problem,
    /// The role may not run the check.
    Unknown,
}

/// The fix of a finding. The server has quoted all names in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "text", rename_all = "camelCase")]
pub enum Fix {
    /// A statement for a superuser, which changes settings of roles or databases, or revokes grants.
    Sql(String),
    /// A line for `postgresql.conf`, and then `SELECT pg_reload_conf()`.
    Reload(String),
    /// A line for `postgresql.conf`, and then a restart of the server.
    Restart(String),
    /// An action or a decision of the operator.
    ByHand(String),
}

/// A result of a check. A check has one or more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The name of the check, stable across releases.
    pub check: &'static str,
    /// The severity.
    pub verdict: Verdict,
    /// The state that was found.
    pub found: String,
    /// Why the check matters.
    pub why: &'static str,
    /// The fix, where there is one.
    pub fix: Option<Fix>,
}

impl Finding {
    /// The statement that fixes a problem; `None` for advice, because the setting may be intended.
    #[must_use]
    pub fn statement(&self) -> Option<&str> {
        match (self.verdict, &self.fix) {
            (Verdict::Problem, Some(Fix::Sql(statement))) => Some(statement),
            _ => None,
        }
    }
}
