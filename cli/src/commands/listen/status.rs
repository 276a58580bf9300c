//! The state of the daemon, for /readyz and the service manager.

use intcred::{Event, EventKind};
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Starting,
    /// Connected, and every change so far is reported.
    Following,
    Disconnected {
        reason: String,
    },
    Stopping,
}

impl Status {
    /// The status after an event; `None` if the event does not change the status.
    pub fn after(event: &Event) -> Option<Self> {
        match &event.kind {
            EventKind::Synced { .. } | EventKind::Reconnected { .. } => Some(Self::Following),
            EventKind::Disconnected { reason, .. } => Some(Self::Disconnected { reason: reason.clone() }),
            _ => None,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("not synced yet"),
            Self::Following => f.write_str("following the changes"),
            Self::Disconnected { reason } => write!(f, "disconnected: {reason}"),
            Self::Stopping => f.write_str("stopping"),
        }
    }
}
