//! How often a watcher queries, and its timeout.

use crate::deadline::LONGEST;
use std::time::Duration;

/// How often a watcher queries, and its timeout.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// Whether to report each credential that is set at the start as changed. False by default.
    pub initial: bool,
    /// How often to read the whole list without a notification. 15 seconds by default.
    pub heartbeat: Duration,
    /// How long to wait for an answer before the connection counts as lost. 10 seconds by default.
    pub timeout: Duration,
    /// How often to read the whole list from a standby, which cannot listen. 1 second by default.
    pub poll: Duration,
}

impl WatchOptions {
    /// Without a time that a clock cannot count to.
    pub(crate) fn bounded(self) -> Self {
        Self {
            heartbeat: self.heartbeat.min(LONGEST),
            timeout: self.timeout.min(LONGEST),
            poll: self.poll.min(LONGEST),
            ..self
        }
    }
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            initial: false,
            heartbeat: Duration::from_secs(15),
            timeout: Duration::from_secs(10),
            poll: Duration::from_secs(1),
        }
    }
}
