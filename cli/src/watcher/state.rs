//! All that the task knows and the reader may be told. It is a state and no queue, so that a reader who sleeps costs
//! nothing and is told the last of everything. Pure: no network.

use super::{
    Event, EventKind, Mode,
    snapshot::{Look, Snapshot},
};
use crate::{Error, Timestamp};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(super) struct State {
    pub snapshot: Arc<Snapshot>,
    pub mode: Mode,
    /// How many sessions there have been.
    session: u64,
    /// The last one, over or not.
    outage: Option<Outage>,
    is_connected: bool,
    /// When the server last answered.
    answered: Timestamp,
    /// When something last changed.
    changed: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Outage {
    since: Timestamp,
    reason: String,
}

impl State {
    pub fn first(look: &Look, mode: Mode) -> Self {
        let now = Timestamp::now();
        Self {
            snapshot: Arc::new(Snapshot::default().after(look)),
            mode,
            session: 1,
            outage: None,
            is_connected: true,
            answered: now,
            changed: now,
        }
    }

    /// Takes in what was seen; tells whether that is anything new.
    pub fn update(&mut self, look: &Look) -> bool {
        let now = Timestamp::now();
        self.answered = now;
        let snapshot = self.snapshot.after(look);
        let differs = snapshot != *self.snapshot;
        if differs {
            self.changed = now;
            self.snapshot = Arc::new(snapshot);
        }
        differs
    }

    /// The connection is lost, or cannot be had for another reason than before.
    pub fn disconnect(&mut self, lost: Error) {
        let reason = match lost {
            Error::Disconnected { reason } => reason,
            other => other.to_string(),
        };
        self.outage = Some(Outage { since: self.answered, reason });
        self.is_connected = false;
        self.changed = Timestamp::now();
    }

    /// There is a connection again.
    pub fn reconnect(&mut self, look: &Look, mode: Mode) {
        self.update(look);
        self.mode = mode;
        self.session += 1;
        self.is_connected = true;
        self.changed = self.answered;
    }

    /// What a reader is told first.
    pub fn introduction(&self, initial: bool) -> Vec<Event> {
        let Snapshot { org, states } = &*self.snapshot;
        let mut kinds = vec![EventKind::Synced { org: org.to_string(), keys: states.len(), mode: self.mode }];
        if initial {
            kinds.extend(self.snapshot.changes_since(&Snapshot::default()));
        }
        self.dated(kinds)
    }

    /// What a reader is told who knows of `told`.
    pub fn events_since(&self, told: &Self) -> Vec<Event> {
        let mut kinds = Vec::new();
        let is_renewed = self.session > told.session;
        if is_renewed {
            // It came and went while the reader was away.
            kinds.extend(self.disconnected().filter(|_| told.is_connected));
            kinds.push(EventKind::Reconnected { mode: self.mode });
        }
        kinds.extend(self.snapshot.changes_since(&told.snapshot));
        if !self.is_connected && (told.is_connected || is_renewed || self.outage != told.outage) {
            kinds.extend(self.disconnected());
        }
        self.dated(kinds)
    }

    fn disconnected(&self) -> Option<EventKind> {
        let Outage { since, reason } = self.outage.clone()?;
        Some(EventKind::Disconnected { since, reason })
    }

    fn dated(&self, kinds: Vec<EventKind>) -> Vec<Event> {
        kinds.into_iter().map(|kind| Event { kind, at: self.changed }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watcher::{KeyState, dirty_keys::Scope};

    fn look(revision: i64) -> Look {
        let state = KeyState { revision, has_credentials: true, is_enabled: true, updated_at: None };
        Look { org: "o".into(), scope: Scope::Whole, states: [("k".into(), state)].into(), is_standby: false }
    }

    fn lost() -> Error {
        Error::Disconnected { reason: "gone".to_owned() }
    }

    fn words(events: &[Event]) -> Vec<String> {
        let word = |event: &Event| match &event.kind {
            EventKind::Changed { revision, .. } => format!("changed {revision}"),
            EventKind::Disconnected { reason, .. } => format!("disconnected {reason}"),
            EventKind::Reconnected { .. } => "reconnected".to_owned(),
            other => format!("{other:?}"),
        };
        events.iter().map(word).collect()
    }

    #[test]
    fn a_reader_is_told_the_last_of_everything_in_order() {
        let first = State::first(&look(1), Mode::Listening);
        let mut view = first.clone();
        assert!(!view.update(&look(1)));
        assert!(view.update(&look(2)) && view.update(&look(3)));
        assert_eq!(words(&view.events_since(&first)), ["changed 3"]);

        view.disconnect(lost());
        assert_eq!(words(&view.events_since(&first)), ["changed 3", "disconnected gone"]);
        let told = view.clone();
        assert!(view.events_since(&told).is_empty());
        view.disconnect(Error::NotificationsLost);
        assert_eq!(words(&view.events_since(&told)).len(), 1);

        view.reconnect(&look(5), Mode::Listening);
        assert_eq!(words(&view.events_since(&told)), ["reconnected", "changed 5"]);
        assert_eq!(words(&view.events_since(&first)).split_off(1), ["reconnected", "changed 5"]);
        view.disconnect(lost());
        assert_eq!(words(&view.events_since(&told)), ["reconnected", "changed 5", "disconnected gone"]);
    }

    #[test]
    fn an_outage_counts_from_the_last_answer() {
        let mut view = State::first(&look(1), Mode::Listening);
        let answered = view.answered;
        view.disconnect(lost());
        let told = view.introduction(false);
        assert_eq!(told.len(), 1);
        assert_eq!(view.outage.as_ref().map(|outage| outage.since), Some(answered));
    }
}
