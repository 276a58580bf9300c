//! The state that the task publishes, and the events between two states. A state and not a queue, so that a
//! slow reader costs no memory, and gets the last change of each key. Pure: no network.

use super::{
    Event, EventKind, Mode,
    snapshot::{Listing, Snapshot},
};
use crate::{Error, Timestamp};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(super) struct State {
    pub snapshot: Arc<Snapshot>,
    pub mode: Mode,
    /// Counts the sessions.
    session: u64,
    /// The last outage, even if over.
    outage: Option<Outage>,
    is_connected: bool,
    /// When the server last answered.
    last_answer: Timestamp,
    /// The time of the last event.
    last_change: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Outage {
    since: Timestamp,
    reason: String,
}

impl State {
    pub fn first(listing: &Listing, mode: Mode) -> Self {
        let now = Timestamp::now();
        Self {
            snapshot: Arc::new(Snapshot::default().after(listing)),
            mode,
            session: 1,
            outage: None,
            is_connected: true,
            last_answer: now,
            last_change: now,
        }
    }

    /// Applies an answer, and returns whether it differs from the snapshot.
    pub fn update(&mut self, listing: &Listing) -> bool {
        let now = Timestamp::now();
        self.last_answer = now;
        let snapshot = self.snapshot.after(listing);
        let differs = snapshot != *self.snapshot;
        if differs {
            self.last_change = now;
            self.snapshot = Arc::new(snapshot);
        }
        differs
    }

    /// Records a lost connection, or a new reason why the watcher cannot reconnect.
    pub fn disconnect(&mut self, lost: Error) {
        let reason = match lost {
            Error::Disconnected { reason } => reason,
            other => other.to_string(),
        };
        self.outage = Some(Outage { since: self.last_answer, reason });
        self.is_connected = false;
        self.last_change = Timestamp::now();
    }

    /// Records a new session.
    pub fn reconnect(&mut self, listing: &Listing, mode: Mode) {
        self.update(listing);
        self.mode = mode;
        self.session += 1;
        self.is_connected = true;
        self.last_change = self.last_answer;
    }

    /// The first events of a reader.
    pub fn first_events(&self, initial: bool) -> Vec<Event> {
        let (org, keys) = (self.snapshot.org().to_owned(), self.snapshot.len());
        let mut kinds = vec![EventKind::Synced { org, keys, mode: self.mode }];
        if initial {
            kinds.extend(self.snapshot.changes_since(&Snapshot::default()));
        }
        self.dated(kinds)
    }

    /// The events since the state that was reported last.
    pub fn events_since(&self, reported: &Self) -> Vec<Event> {
        let mut kinds = Vec::new();
        let is_renewed = self.session > reported.session;
        if is_renewed {
            // The outage began and ended between two calls of `recv`.
            kinds.extend(self.disconnected().filter(|_| reported.is_connected));
            kinds.push(EventKind::Reconnected { mode: self.mode });
        }
        kinds.extend(self.snapshot.changes_since(&reported.snapshot));
        if !self.is_connected && (reported.is_connected || is_renewed || self.outage != reported.outage) {
            kinds.extend(self.disconnected());
        }
        self.dated(kinds)
    }

    fn disconnected(&self) -> Option<EventKind> {
        let Outage { since, reason } = self.outage.clone()?;
        Some(EventKind::Disconnected { since, reason })
    }

    fn dated(&self, kinds: Vec<EventKind>) -> Vec<Event> {
        kinds.into_iter().map(|kind| Event { kind, at: self.last_change }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watcher::{KeyState, dirty_keys::Scope};

    fn listing(revision: i64) -> Listing {
        let state = KeyState {
            revision,
            has_credentials: true,
            is_enabled: true,
            updated_at: None,
            expires_at: None,
        };
        Listing {
            org: "o".into(),
            scope: Scope::Whole,
            states: [("k".into(), state)].into(),
            is_standby: false,
        }
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
    fn a_reader_gets_the_last_change_of_each_key_in_order() {
        let first = State::first(&listing(1), Mode::Listening);
        let mut state = first.clone();
        assert!(!state.update(&listing(1)));
        assert!(state.update(&listing(2)) && state.update(&listing(3)));
        assert_eq!(words(&state.events_since(&first)), ["changed 3"]);

        state.disconnect(lost());
        assert_eq!(words(&state.events_since(&first)), ["changed 3", "disconnected gone"]);
        let reported = state.clone();
        assert!(state.events_since(&reported).is_empty());
        state.disconnect(Error::NotificationsLost);
        assert_eq!(words(&state.events_since(&reported)).len(), 1);

        state.reconnect(&listing(5), Mode::Listening);
        assert_eq!(words(&state.events_since(&reported)), ["reconnected", "changed 5"]);
        assert_eq!(words(&state.events_since(&first)).split_off(1), ["reconnected", "changed 5"]);
        state.disconnect(lost());
        assert_eq!(words(&state.events_since(&reported)), ["reconnected", "changed 5", "disconnected gone"]);
    }

    #[test]
    fn an_outage_counts_from_the_last_answer() {
        let mut state = State::first(&listing(1), Mode::Listening);
        let last_answer = state.last_answer;
        state.disconnect(lost());
        let reported = state.first_events(false);
        assert_eq!(reported.len(), 1);
        assert_eq!(state.outage.as_ref().map(|outage| outage.since), Some(last_answer));
    }
}
