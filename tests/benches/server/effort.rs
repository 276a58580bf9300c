//! How much time may be spent.

use std::{
    env,
    time::{Duration, Instant},
};

/// The whole measurement, or with `QUICK=1` the shortest that still says something, or with `ROWS=` the rows of those
/// names.
pub struct Effort {
    /// Whether growth is measured, too, and what else takes long.
    pub full: bool,
    /// Whether `docs/performance.md` and its plots are written. Then growth is measured in any case.
    pub documents: bool,
    /// How often each side has its turn.
    pub rounds: usize,
    /// The names of the rows to measure, separated by commas; all if empty.
    rows: String,
    deadline: Instant,
}

impl Effort {
    /// As the environment says. The clock starts.
    pub fn from_environment() -> Self {
        let is_set = |name| env::var(name).is_ok_and(|value| !value.is_empty() && value != "0");
        let rows = env::var("ROWS").unwrap_or_default();
        let (full, documents) = (!is_set("QUICK"), is_set("GENERATE_DOCS") && rows.is_empty());
        // Of the 3 and the 15 minutes that all of `make bench` may take.
        let (rounds, seconds) = if full { (6, 860) } else { (3, 170) };
        let seconds = seconds + if documents && !full { 240 } else { 0 };
        Self { full, documents, rounds, rows, deadline: Instant::now() + Duration::from_secs(seconds) }
    }

    /// Whether these rows are to be measured.
    pub fn measures(&self, name: &str) -> bool {
        self.rows.is_empty() || self.names(name)
    }

    /// Whether these rows, which take long, are to be measured.
    pub fn measures_long(&self, name: &str) -> bool {
        self.is_whole() || self.names(name)
    }

    fn names(&self, name: &str) -> bool {
        self.rows.split(',').any(|wanted| wanted == name)
    }

    /// Whether nothing is left out.
    fn is_whole(&self) -> bool {
        self.full && self.rows.is_empty()
    }

    /// Whether growth is measured.
    pub fn measures_growth(&self) -> bool {
        self.is_whole() || self.documents
    }

    /// How long a turn takes, in seconds. Its sessions are new, and should be past their first calls for most of it.
    pub fn seconds(&self) -> u16 {
        if self.full { 2 } else { 1 }
    }

    /// What is left.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
