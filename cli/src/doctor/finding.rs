//! What a check found.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Harmless as things stand, and better otherwise.
    Advice,
    /// Lets a secret out, lets somebody in, or keeps the extension from working.
    Problem,
    /// The role may not see it.
    Unknown,
}

/// What mends it. The server has quoted every name that stands in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "text", rename_all = "camelCase")]
pub enum Fix {
    /// A statement for a superuser, which changes settings of roles or databases, or takes grants away.
    Sql(String),
    /// A line for `postgresql.conf`, and then `SELECT pg_reload_conf()`.
    Reload(String),
    /// A line for `postgresql.conf`, and then a restart of the server.
    Restart(String),
    /// Something that only the operator can decide or do.
    ByHand(String),
}

/// What one check has to say of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The check's name, which stays the same from release to release.
    pub check: &'static str,
    /// How bad it is.
    pub verdict: Verdict,
    /// What is there.
    pub found: String,
    /// Why that matters.
    pub why: &'static str,
    /// What to do about it, where something can be done.
    pub fix: Option<Fix>,
}

impl Finding {
    /// The statement that mends a problem. What is merely advised against may be meant, and has none.
    #[must_use]
    pub fn statement(&self) -> Option<&str> {
        match (self.verdict, &self.fix) {
            (Verdict::Problem, Some(Fix::Sql(statement))) => Some(statement),
            _ => None,
        }
    }
}
