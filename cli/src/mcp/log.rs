//! A line on standard error for each call: when, who, what, how it ended, how long it took. No header, no body, no
//! argument, no answer.

use crate::terminal::log_line;
use intcred::Timestamp;
use std::{
    io::{self, Write},
    time::Instant,
};

/// A call that has begun.
pub struct Call {
    started: Instant,
    /// The role of the caller, or `-`.
    pub caller: String,
    /// The tool or the route, of this program's own words.
    what: &'static str,
}

impl Call {
    pub fn begin(caller: &str, what: &'static str) -> Self {
        Self { started: Instant::now(), caller: caller.to_owned(), what }
    }

    /// Writes the line. An error is ignored: the server goes on without a reader.
    pub fn end(self, outcome: &str) {
        let Self { started, caller, what } = self;
        let milliseconds = started.elapsed().as_secs_f64() * 1000.0;
        let line = format!("{} {caller} {what} {outcome} {milliseconds:.1} ms\n", Timestamp::now());
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// Writes why the server could not serve a caller; for the operator, because it may name hosts.
pub fn problem(caller: &str, reason: &str) {
    log_line(&format!("{} {}", Timestamp::now(), if caller.is_empty() { "-" } else { caller }), reason);
}
