//! The events that a watcher reports.

use crate::Timestamp;
use serde::Serialize;

/// A change, and when the watcher saw it. As JSON, one flat object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The change.
    #[serde(flatten)]
    pub kind: EventKind,
    /// When the watcher saw the change, by the clock of this machine, however late the event is read.
    pub at: Timestamp,
}

/// A change of a credential, of an integration, or of the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
#[non_exhaustive]
pub enum EventKind {
    /// The watcher has read the list for the first time. The first event, and only once.
    Synced {
        /// The org of the session.
        org: String,
        /// The number of keys in the list, with and without credentials; [`Watcher::snapshot`] returns the
        /// list.
        ///
        /// [`Watcher::snapshot`]: crate::Watcher::snapshot
        keys: usize,
        /// Whether the watcher listens or polls.
        #[serde(skip_serializing_if = "Mode::is_listening")]
        mode: Mode,
    },
    /// A credential was set or rotated.
    Changed {
        /// The org of the session.
        org: String,
        /// The integration's key.
        key: String,
        /// The credential's revision.
        revision: i64,
    },
    /// A credential was removed.
    Removed {
        /// The org of the session.
        org: String,
        /// The integration's key.
        key: String,
        /// The last revision that the watcher saw.
        revision: i64,
    },
    /// The integration was enabled.
    Enabled {
        /// The org of the session.
        org: String,
        /// The integration's key.
        key: String,
        /// The revision of the org's credential; 0 if none was ever set.
        revision: i64,
    },
    /// The integration was disabled: its credential can be neither set nor read.
    Disabled {
        /// The org of the session.
        org: String,
        /// The integration's key.
        key: String,
        /// The revision of the org's credential; 0 if none was ever set.
        revision: i64,
    },
    /// The connection is lost. Later changes are reported after the reconnect, and none is missed.
    Disconnected {
        /// When the server last answered. Changes committed since are not known yet.
        since: Timestamp,
        /// Why the connection was lost.
        reason: String,
    },
    /// The watcher has reconnected. The changes of the outage follow.
    Reconnected {
        /// Whether the watcher listens or polls.
        #[serde(skip_serializing_if = "Mode::is_listening")]
        mode: Mode,
    },
}

/// Whether a watcher listens or polls. As JSON, left out while listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Mode {
    /// Notifications announce each commit.
    Listening,
    /// The server is a standby, so the watcher reads the list periodically. Once the standby is promoted, the
    /// watcher reconnects to listen.
    Polling,
}

impl Mode {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_listening(&self) -> bool {
        *self == Self::Listening
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn an_event_is_one_flat_object() {
        let json = |kind| serde_json::to_string(&Event { kind, at: Timestamp(UNIX_EPOCH) }).unwrap();
        assert_eq!(
            json(EventKind::Changed { org: "acme".into(), key: "salesforce".into(), revision: 42 }),
            r#"{"event":"changed","org":"acme","key":"salesforce","revision":42,"at":"1970-01-01T00:00:00.000Z"}"#
        );
        assert_eq!(
            json(EventKind::Reconnected { mode: Mode::Listening }),
            r#"{"event":"reconnected","at":"1970-01-01T00:00:00.000Z"}"#
        );
        assert_eq!(
            json(EventKind::Reconnected { mode: Mode::Polling }),
            r#"{"event":"reconnected","mode":"polling","at":"1970-01-01T00:00:00.000Z"}"#
        );
    }
}
