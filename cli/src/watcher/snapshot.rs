//! The list as it was at one moment, and what differs from an earlier one. Pure: no network, no clock.

use super::EventKind;
use crate::Timestamp;
use std::collections::BTreeMap;

/// What is known of an integration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub revision: i64,
    pub has_credentials: bool,
    pub is_enabled: bool,
    /// Tells two credentials of one revision apart: an entry that was unregistered starts again at 1.
    pub updated_at: Option<Timestamp>,
}

/// What is known of all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub org: String,
    pub states: BTreeMap<String, State>,
}

impl Snapshot {
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// What happened since `earlier`, as far as it still shows.
    pub fn changes_since(&self, earlier: &Self) -> Vec<EventKind> {
        // A session may come back to another org: then everything known is gone and everything seen is new.
        if self.org != earlier.org && !earlier.states.is_empty() {
            let nothing = Self { org: earlier.org.clone(), states: BTreeMap::new() };
            let mut changes = nothing.changes_since(earlier);
            changes.extend(self.changes_since(&Self::default()));
            return changes;
        }
        let mut changes = Vec::new();
        let vanished = earlier.states.iter().filter(|(key, _)| !self.states.contains_key(*key));
        for (key, state) in vanished.filter(|(_, state)| state.has_credentials) {
            changes.push(self.removed(key, state.revision));
        }
        for (key, now) in &self.states {
            match earlier.states.get(key) {
                None if now.has_credentials => changes.push(self.changed(key, now.revision)),
                None => {}
                Some(before) => self.compare(key, *before, *now, &mut changes),
            }
        }
        changes
    }

    fn compare(&self, key: &str, before: State, now: State, changes: &mut Vec<EventKind>) {
        if before != (State { is_enabled: before.is_enabled, ..now }) {
            changes.push(if now.has_credentials {
                self.changed(key, now.revision)
            } else {
                self.removed(key, now.revision)
            });
        }
        if before.is_enabled != now.is_enabled {
            let (org, key, revision) = (self.org.clone(), key.to_owned(), now.revision);
            changes.push(if now.is_enabled {
                EventKind::Enabled { org, key, revision }
            } else {
                EventKind::Disabled { org, key, revision }
            });
        }
    }

    fn changed(&self, key: &str, revision: i64) -> EventKind {
        EventKind::Changed { org: self.org.clone(), key: key.to_owned(), revision }
    }

    fn removed(&self, key: &str, revision: i64) -> EventKind {
        EventKind::Removed { org: self.org.clone(), key: key.to_owned(), revision }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: State = State { revision: 0, has_credentials: false, is_enabled: true, updated_at: None };

    fn set(revision: i64) -> State {
        State { revision, has_credentials: true, ..NONE }
    }

    fn snapshot(org: &str, states: &[(&str, State)]) -> Snapshot {
        let states = states.iter().map(|&(key, state)| (key.to_owned(), state)).collect();
        Snapshot { org: org.to_owned(), states }
    }

    /// The changes from one state of `k` to the next, as `word revision`.
    fn changes(before: Option<State>, now: Option<State>) -> Vec<String> {
        let one = |state: Option<State>| {
            snapshot("o", &state.map(|state| ("k", state)).into_iter().collect::<Vec<_>>())
        };
        words(&one(now).changes_since(&one(before)))
    }

    fn words(changes: &[EventKind]) -> Vec<String> {
        let word = |change: &EventKind| match change {
            EventKind::Changed { org, key, revision } => format!("changed {org}/{key} {revision}"),
            EventKind::Removed { org, key, revision } => format!("removed {org}/{key} {revision}"),
            EventKind::Enabled { org, key, revision } => format!("enabled {org}/{key} {revision}"),
            EventKind::Disabled { org, key, revision } => format!("disabled {org}/{key} {revision}"),
            other => panic!("{other:?}"),
        };
        changes.iter().map(word).collect()
    }

    #[test]
    fn what_did_not_change_is_not_reported() {
        for state in [NONE, set(3), State { is_enabled: false, ..set(3) }] {
            assert!(changes(Some(state), Some(state)).is_empty());
        }
    }

    #[test]
    fn a_credential_comes_changes_and_goes() {
        assert_eq!(changes(Some(NONE), Some(set(1))), ["changed o/k 1"]);
        assert_eq!(changes(Some(set(1)), Some(set(7))), ["changed o/k 7"]);
        // Removed, whether or not that raises the revision; and set anew.
        let gone = State { has_credentials: false, ..set(2) };
        assert_eq!(changes(Some(set(2)), Some(gone)), ["removed o/k 2"]);
        assert_eq!(changes(Some(set(1)), Some(gone)), ["removed o/k 2"]);
        assert_eq!(changes(Some(gone), Some(set(3))), ["changed o/k 3"]);
        assert_eq!(changes(Some(gone), Some(set(2))), ["changed o/k 2"]);
        // Set and removed between two looks: the last of it shows.
        assert_eq!(changes(Some(NONE), Some(gone)), ["removed o/k 2"]);
        let again = State { updated_at: Some(Timestamp::now()), ..set(1) };
        assert_eq!(changes(Some(set(1)), Some(again)), ["changed o/k 1"]);
        // A backup was restored.
        assert_eq!(changes(Some(set(9)), Some(set(4))), ["changed o/k 4"]);
    }

    #[test]
    fn the_catalog_grows_and_shrinks() {
        assert!(changes(None, Some(NONE)).is_empty());
        assert!(changes(Some(NONE), None).is_empty());
        assert_eq!(changes(None, Some(set(5))), ["changed o/k 5"]);
        assert_eq!(changes(Some(set(5)), None), ["removed o/k 5"]);
    }

    #[test]
    fn enabling_is_apart_from_the_credential() {
        let disabled = |state| State { is_enabled: false, ..state };
        assert_eq!(changes(Some(set(1)), Some(disabled(set(1)))), ["disabled o/k 1"]);
        assert_eq!(changes(Some(disabled(NONE)), Some(NONE)), ["enabled o/k 0"]);
        assert_eq!(changes(Some(set(1)), Some(disabled(set(2)))), ["changed o/k 2", "disabled o/k 2"]);
    }

    #[test]
    fn another_org_shares_nothing_with_the_one_before() {
        let before = snapshot("a", &[("k", set(1)), ("l", NONE)]);
        let now = snapshot("b", &[("k", set(1)), ("m", set(2))]);
        assert_eq!(words(&now.changes_since(&before)), ["removed a/k 1", "changed b/k 1", "changed b/m 2"]);
        assert_eq!(words(&now.changes_since(&Snapshot::default())), ["changed b/k 1", "changed b/m 2"]);
    }
}
