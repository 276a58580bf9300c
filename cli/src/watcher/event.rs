//! What a watcher reports.

use crate::Timestamp;
use serde::Serialize;

/// Something that happened, and when the watcher saw it. As JSON, one flat object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
    /// When the watcher saw it, whenever it was read, by the clock of this machine.
    pub at: Timestamp,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
#[non_exhaustive]
pub enum EventKind {
    /// The list was read for the first time. Comes once, and first.
    Synced {
        /// The org that is watched.
        org: String,
        /// How many keys the list has, with and without credentials; [`Watcher::snapshot`] has the list.
        ///
        /// [`Watcher::snapshot`]: crate::Watcher::snapshot
        keys: usize,
        /// How changes come in.
        #[serde(skip_serializing_if = "Mode::is_listening")]
        mode: Mode,
    },
    /// There is a new credential, or another one than before.
    Changed {
        /// Whose.
        org: String,
        /// For which integration.
        key: String,
        /// Its revision.
        revision: i64,
    },
    /// There is no credential any more.
    Removed {
        /// Whose.
        org: String,
        /// For which integration.
        key: String,
        /// The last revision known.
        revision: i64,
    },
    /// The integration may be used again.
    Enabled {
        /// The org that is watched.
        org: String,
        /// Which integration.
        key: String,
        /// The revision of the org's credential.
        revision: i64,
    },
    /// The integration may not be used for now.
    Disabled {
        /// The org that is watched.
        org: String,
        /// Which integration.
        key: String,
        /// The revision of the org's credential.
        revision: i64,
    },
    /// The connection is lost. What follows is late, and nothing of it is missed.
    Disconnected {
        /// When the server last answered. Nothing is known of what was committed after.
        since: Timestamp,
        /// Why.
        reason: String,
    },
    /// The connection is back. What changed in between comes right after this.
    Reconnected {
        /// How changes come in.
        #[serde(skip_serializing_if = "Mode::is_listening")]
        mode: Mode,
    },
}

/// How changes come in. As JSON, left out while listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Mode {
    /// By notifications, as they are committed.
    Listening,
    /// By reading the list every so often, because the server is a standby. Once it is promoted, the watcher reconnects.
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
