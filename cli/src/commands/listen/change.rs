//! A change of one key, for hooks and metrics.

use intcred::{Event, EventKind};

/// An event that concerns a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub kind: Kind,
    pub target: Target,
    pub revision: i64,
    /// As printed.
    pub event: Event,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Changed,
    Removed,
    Enabled,
    Disabled,
}

/// A key of an org. The org of the session may change with a reconnect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub org: String,
    pub key: String,
}

impl Change {
    /// `None` for an event that concerns the connection.
    pub fn of(event: &Event) -> Option<Self> {
        let (kind, org, key, revision) = match &event.kind {
            EventKind::Changed { org, key, revision, .. } => (Kind::Changed, org, key, revision),
            EventKind::Removed { org, key, revision, .. } => (Kind::Removed, org, key, revision),
            EventKind::Enabled { org, key, revision, .. } => (Kind::Enabled, org, key, revision),
            EventKind::Disabled { org, key, revision, .. } => (Kind::Disabled, org, key, revision),
            _ => return None,
        };
        let target = Target { org: org.clone(), key: key.clone() };
        Some(Self { kind, target, revision: *revision, event: event.clone() })
    }

    /// Whether a credential is available after the change.
    pub fn leaves_a_value(&self) -> bool {
        matches!(self.kind, Kind::Changed | Kind::Enabled)
    }
}

impl Kind {
    /// The event's name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }
}
