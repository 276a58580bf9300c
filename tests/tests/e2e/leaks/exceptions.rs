//! What still shows a value, and why. The test fails for what is missing here, and for what no longer shows any.

use super::{cell::Cell, evidence::Channel};

/// Cells in which a channel shows the value.
pub struct Exception {
    /// The names of the rows.
    pub ways: &'static [&'static str],
    /// The names of the columns; none is all of them.
    pub outcomes: &'static [&'static str],
    pub channel: Channel,
    pub reason: &'static str,
}

pub const EXCEPTIONS: &[Exception] = &[];

impl Exception {
    pub fn excuses(&self, cell: &Cell, channel: Channel) -> bool {
        self.ways.contains(&cell.way.name)
            && (self.outcomes.is_empty() || self.outcomes.contains(&cell.outcome.name))
            && self.channel == channel
    }
}
