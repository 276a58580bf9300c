//! What still shows a value, and why. A test fails for what is missing here, and for what is here and no longer shows.

use super::evidence::Channel;

/// Cells in which a channel shows the value.
pub struct Exception {
    pub way: &'static str,
    /// None is all.
    pub outcome: Option<&'static str>,
    pub channel: Channel,
    pub reason: &'static str,
}

pub const EXCEPTIONS: &[Exception] = &[];
