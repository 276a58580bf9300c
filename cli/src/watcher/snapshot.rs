//! The list as it was at one moment, and what differs from an earlier one. Pure: no network, no clock.

use super::{EventKind, dirty_keys::Scope};
use crate::Timestamp;
use std::{collections::BTreeMap, sync::Arc};

/// What is known of an integration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// Raised by each change of the credential; 0 where there has been none.
    pub revision: i64,
    /// Whether the org has a credential for it now.
    pub has_credentials: bool,
    /// Whether credentials may be set and read.
    pub is_enabled: bool,
    /// When the credential last changed. It tells two credentials of one revision apart: an entry that was unregistered
    /// starts again at 1.
    pub updated_at: Option<Timestamp>,
}

/// What is known of all integrations of the catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub(super) org: Arc<str>,
    pub(super) states: BTreeMap<Arc<str>, KeyState>,
}

/// What was read of the list.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub org: Arc<str>,
    /// What was looked at; of this, what is not in `states` is not in the catalog.
    pub scope: Scope,
    pub states: BTreeMap<Arc<str>, KeyState>,
    /// Whether a standby was looked at, which may be behind what was seen elsewhere.
    pub is_standby: bool,
}

impl Snapshot {
    #[cfg(test)]
    pub(crate) fn new(org: Arc<str>, states: BTreeMap<Arc<str>, KeyState>) -> Self {
        Self { org, states }
    }

    /// The org whose credentials they are.
    #[must_use]
    pub fn org(&self) -> &str {
        &self.org
    }

    /// How many integrations there are, with and without credentials.
    #[must_use]
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether the catalog is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// What is known of a key; `None` if the catalog does not have it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&KeyState> {
        self.states.get(key)
    }

    /// Every key with what is known of it, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &KeyState)> {
        self.states.iter().map(|(key, state)| (&**key, state))
    }

    /// What is known after a look. A lower revision than before means that a backup was restored, or that a failover
    /// lost what had been committed; but on a standby only that the news has not got there yet, unless it is of later
    /// than what is known: then the entry was registered anew.
    pub(super) fn after(&self, look: &Look) -> Self {
        let mut states = match &look.scope {
            Scope::Whole => BTreeMap::new(),
            Scope::Keys(keys) => {
                let mut states = self.states.clone();
                states.retain(|key, _| !keys.contains(&**key));
                states
            }
        };
        let is_same_org = self.org == look.org;
        for (key, seen) in &look.states {
            let known = self.states.get(key).filter(|_| look.is_standby && is_same_org);
            let is_behind =
                |known: &&KeyState| known.revision > seen.revision && known.updated_at >= seen.updated_at;
            let ahead = known.filter(is_behind);
            states.insert(key.clone(), *ahead.unwrap_or(seen));
        }
        Self { org: look.org.clone(), states }
    }

    /// What happened since `earlier`, as far as it still shows.
    pub(super) fn changes_since(&self, earlier: &Self) -> Vec<EventKind> {
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

    fn compare(&self, key: &str, before: KeyState, now: KeyState, changes: &mut Vec<EventKind>) {
        if before != (KeyState { is_enabled: before.is_enabled, ..now }) {
            changes.push(if now.has_credentials {
                self.changed(key, now.revision)
            } else {
                self.removed(key, now.revision)
            });
        }
        if before.is_enabled != now.is_enabled {
            let (org, key, revision) = (self.org.to_string(), key.to_owned(), now.revision);
            changes.push(if now.is_enabled {
                EventKind::Enabled { org, key, revision }
            } else {
                EventKind::Disabled { org, key, revision }
            });
        }
    }

    fn changed(&self, key: &str, revision: i64) -> EventKind {
        EventKind::Changed { org: self.org.to_string(), key: key.to_owned(), revision }
    }

    fn removed(&self, key: &str, revision: i64) -> EventKind {
        EventKind::Removed { org: self.org.to_string(), key: key.to_owned(), revision }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: KeyState =
        KeyState { revision: 0, has_credentials: false, is_enabled: true, updated_at: None };

    fn set(revision: i64) -> KeyState {
        KeyState { revision, has_credentials: true, ..NONE }
    }

    fn snapshot(org: &str, states: &[(&str, KeyState)]) -> Snapshot {
        let states = states.iter().map(|&(key, state)| (key.into(), state)).collect();
        Snapshot { org: org.into(), states }
    }

    /// The changes from one state of `k` to the next, as `word revision`.
    fn changes(before: Option<KeyState>, now: Option<KeyState>) -> Vec<String> {
        let one = |state: Option<KeyState>| {
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
        for state in [NONE, set(3), KeyState { is_enabled: false, ..set(3) }] {
            assert!(changes(Some(state), Some(state)).is_empty());
        }
    }

    #[test]
    fn a_credential_comes_changes_and_goes() {
        assert_eq!(changes(Some(NONE), Some(set(1))), ["changed o/k 1"]);
        assert_eq!(changes(Some(set(1)), Some(set(7))), ["changed o/k 7"]);
        // Removed, whether or not that raises the revision; and set anew.
        let gone = KeyState { has_credentials: false, ..set(2) };
        assert_eq!(changes(Some(set(2)), Some(gone)), ["removed o/k 2"]);
        assert_eq!(changes(Some(set(1)), Some(gone)), ["removed o/k 2"]);
        assert_eq!(changes(Some(gone), Some(set(3))), ["changed o/k 3"]);
        assert_eq!(changes(Some(gone), Some(set(2))), ["changed o/k 2"]);
        // Set and removed between two looks: the last of it shows.
        assert_eq!(changes(Some(NONE), Some(gone)), ["removed o/k 2"]);
        let again = KeyState { updated_at: Some(Timestamp::now()), ..set(1) };
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
        let disabled = |state| KeyState { is_enabled: false, ..state };
        assert_eq!(changes(Some(set(1)), Some(disabled(set(1)))), ["disabled o/k 1"]);
        assert_eq!(changes(Some(disabled(NONE)), Some(NONE)), ["enabled o/k 0"]);
        assert_eq!(changes(Some(set(1)), Some(disabled(set(2)))), ["changed o/k 2", "disabled o/k 2"]);
    }

    fn look(scope: &[&str], states: &[(&str, KeyState)], is_standby: bool) -> Look {
        let Snapshot { org, states } = snapshot("o", states);
        let keys = scope.iter().map(|&key| key.to_owned()).collect();
        let scope = if scope.is_empty() { Scope::Whole } else { Scope::Keys(keys) };
        Look { org, scope, states, is_standby }
    }

    #[test]
    fn a_look_at_some_keys_leaves_the_others_as_they_were() {
        let known = snapshot("o", &[("a", set(1)), ("b", set(1)), ("c", set(1))]);
        let after = known.after(&look(&["a", "b", "d", "e"], &[("a", set(2)), ("d", set(1))], false));
        assert_eq!(after, snapshot("o", &[("a", set(2)), ("c", set(1)), ("d", set(1))]));
        assert_eq!(after.after(&look(&[], &[("c", set(1))], false)), snapshot("o", &[("c", set(1))]));
    }

    #[test]
    fn only_a_standby_is_not_believed_to_have_gone_back() {
        let known = snapshot("o", &[("a", set(5)), ("b", set(5)), ("c", set(5))]);
        let seen = [("a", set(4)), ("b", set(6))];
        assert_eq!(known.after(&look(&[], &seen, true)), snapshot("o", &[("a", set(5)), ("b", set(6))]));
        assert_eq!(known.after(&look(&[], &seen, false)), snapshot("o", &seen));
        let anew = [("a", KeyState { updated_at: Some(Timestamp::now()), ..set(1) })];
        assert_eq!(known.after(&look(&[], &anew, true)), snapshot("o", &anew));
        let other = Snapshot { org: "other".into(), ..known };
        assert_eq!(other.after(&look(&[], &seen, true)), snapshot("o", &seen));
    }

    #[test]
    fn another_org_shares_nothing_with_the_one_before() {
        let before = snapshot("a", &[("k", set(1)), ("l", NONE)]);
        let now = snapshot("b", &[("k", set(1)), ("m", set(2))]);
        assert_eq!(words(&now.changes_since(&before)), ["removed a/k 1", "changed b/k 1", "changed b/m 2"]);
        assert_eq!(words(&now.changes_since(&Snapshot::default())), ["changed b/k 1", "changed b/m 2"]);
    }
}
