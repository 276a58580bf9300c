//! What still shows a value, and why. The test fails for what is missing here, and for what shows nothing any more.

use super::{cell::Cell, evidence::Channel, ways::Carries};

/// Cells in which channels show the value.
pub struct Exception {
    /// The names of the rows; none is all of them.
    ways: &'static [&'static str],
    /// The names of the columns; none is all of them.
    outcomes: &'static [&'static str],
    pub channels: &'static [Channel],
    pub reason: &'static str,
}

pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        ways: &[
            "EXPLAIN (ANALYZE, VERBOSE)",
            "EXPLAIN (GENERIC_PLAN)",
            "EXPLAIN (SERIALIZE, MEMORY)",
            "EXPLAIN EXECUTE",
        ],
        outcomes: &[],
        channels: &[Channel::Rows],
        reason: "EXPLAIN (VERBOSE) answers its caller with the expressions of the plan. No other role sees them.",
    },
    Exception {
        ways: &[],
        outcomes: &[
            "log off",
            "::int, log off",
            "syntax, log off",
            "syntax in a savepoint, log off",
            "failed transaction, log off",
        ],
        channels: &[Channel::Messages],
        reason: "Postgres shows no hook a message that goes to the client and not into the log, because log_min_messages \
                 is above its level. Only the caller gets the message.",
    },
    Exception {
        ways: &["literal for a function that calls ours"],
        outcomes: &[],
        channels: &[
            Channel::Stderr,
            Channel::Csv,
            Channel::Json,
            Channel::During,
            Channel::After,
            Channel::Messages,
        ],
        reason: "The text of a statement does not show that another function will call the extension.",
    },
    Exception {
        ways: &["parameter for a function that calls ours"],
        outcomes: &[],
        channels: &[Channel::Stderr, Channel::Csv, Channel::Json, Channel::Messages],
        reason: "As for a literal. The views do not show parameters.",
    },
];

impl Exception {
    /// Whether it is about this cell. What is sealed is never excused.
    pub fn concerns(&self, cell: &Cell) -> bool {
        if matches!(cell.way.carries, Carries::Sealed | Carries::SealedByLibrary) {
            return false;
        }
        let among = |names: &[&str], name| names.is_empty() || names.contains(&name);
        among(self.ways, cell.way.name) && among(self.outcomes, cell.outcome.name)
    }
}
