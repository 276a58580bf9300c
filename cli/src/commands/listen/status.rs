//! How the daemon stands, in one place: /readyz and the service manager read it.

use intcred::{Event, EventKind};
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Starting,
    /// Connected, and what was reported is how things are.
    Following,
    Disconnected {
        reason: String,
    },
    Stopping,
}

impl Status {
    /// What an event says about it, if anything.
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
