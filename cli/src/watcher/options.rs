//! How to watch.

use std::time::Duration;

/// How to watch.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// Whether to report each credential that is there at the start as changed.
    pub initial: bool,
    /// How often to look without a hint.
    pub heartbeat: Duration,
    /// How long to wait for an answer before the connection counts as dead.
    pub timeout: Duration,
    /// How often to look at a standby, where nobody can listen.
    pub poll: Duration,
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
