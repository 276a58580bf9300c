//! What still shows a value, and why. The test fails for what is missing here, and for what no longer shows any.

use super::{cell::Cell, evidence::Channel};

/// Cells in which a channel shows the value.
pub struct Exception {
    /// The name of the row.
    pub way: &'static str,
    /// The name of the column; None is all of them.
    pub outcome: Option<&'static str>,
    pub channel: Channel,
    pub reason: &'static str,
}

pub const EXCEPTIONS: &[Exception] = &[];

impl Exception {
    pub fn excuses(&self, cell: &Cell, channel: Channel) -> bool {
        self.way == cell.way.name
            && self.outcome.is_none_or(|outcome| outcome == cell.outcome.name)
            && self.channel == channel
    }
}
