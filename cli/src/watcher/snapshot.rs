//! The list at one moment, and its differences from an earlier one. Pure: no network, no clock.

use super::{EventKind, dirty_keys::Scope};
use crate::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The state of an integration, without its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// The revision of the org's credential, raised by each change; 0 if none was ever set.
    pub revision: i64,
    /// Whether a credential is set.
    pub has_credentials: bool,
    /// Whether the integration is enabled: only then can its credential be set and read.
    pub is_enabled: bool,
    /// When the credential last changed. Distinguishes two credentials of one revision: an integration that
    /// is registered again starts again at revision 1.
    pub updated_at: Option<Timestamp>,
    /// When the vendor will refuse the credential, as far as whoever set it said so.
    pub expires_at: Option<Timestamp>,
}

/// The state of all integrations of the catalog, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    org: Arc<str>,
    /// Shared with the snapshots before and after, so that a change of some keys costs nothing for the others.
    listed: Arc<BTreeMap<Arc<str>, KeyState>>,
    /// The states of listed keys that have changed since.
    changed: BTreeMap<Arc<str>, KeyState>,
}

/// With so many changed keys, the next snapshot is listed anew.
const MAX_CHANGED: usize = 256;

impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        self.org == other.org && self.differing(other).next().is_none()
    }
}

impl Eq for Snapshot {}

/// The answer to one query.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub org: Arc<str>,
    /// The keys that were read; those without a state are not in the catalog.
    pub scope: Scope,
    pub states: BTreeMap<Arc<str>, KeyState>,
    /// Whether a standby answered, which may be behind an earlier answer of the primary.
    pub is_standby: bool,
}

impl Snapshot {
    pub(crate) fn new(org: Arc<str>, states: BTreeMap<Arc<str>, KeyState>) -> Self {
        Self { org, listed: Arc::new(states), changed: BTreeMap::new() }
    }

    /// A snapshot for a test.
    #[doc(hidden)]
    pub fn of<'a>(org: &str, states: impl IntoIterator<Item = (&'a str, KeyState)>) -> Self {
        let states = states.into_iter().map(|(key, state)| (key.into(), state)).collect();
        Self::new(org.into(), states)
    }

    /// The org of the credentials.
    #[must_use]
    pub fn org(&self) -> &str {
        &self.org
    }

    /// The number of integrations, with and without credentials.
    #[must_use]
    pub fn len(&self) -> usize {
        self.listed.len()
    }

    /// Whether the catalog is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// The state of a key; `None` if the catalog does not have the key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&KeyState> {
        self.changed.get(key).or_else(|| self.listed.get(key))
    }

    /// Every key and its state, in order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &KeyState)> {
        self.states().map(|(key, state)| (&**key, state))
    }

    fn states(&self) -> impl Iterator<Item = (&Arc<str>, &KeyState)> {
        self.listed.iter().map(|(key, listed)| (key, self.changed.get(key).unwrap_or(listed)))
    }

    /// The snapshot after a query. From the primary, a lower revision than before is the current one: a
    /// backup was restored, or a failover lost a commit. From a standby, a lower revision is late and
    /// ignored, unless its timestamp is later: then the integration was registered again.
    pub(super) fn after(&self, listing: &Listing) -> Self {
        let is_same_org = self.org == listing.org;
        let after = |key: &str, now: &KeyState| {
            let before = self.get(key).filter(|_| listing.is_standby && is_same_org);
            let is_behind =
                |before: &&KeyState| before.revision > now.revision && before.updated_at >= now.updated_at;
            *before.filter(is_behind).unwrap_or(now)
        };
        let read = listing.states.iter().map(|(key, now)| (key.clone(), after(key, now)));
        let Scope::Keys(keys) = &listing.scope else {
            return Self::new(listing.org.clone(), read.collect());
        };
        let is_listed = |key: &str| self.listed.contains_key(key);
        let is_read = |key: &str| listing.states.contains_key(key);
        if self.changed.len() < MAX_CHANGED && keys.iter().all(|key| is_listed(key) == is_read(key)) {
            let mut changed = self.changed.clone();
            changed.extend(read);
            return Self { org: listing.org.clone(), listed: self.listed.clone(), changed };
        }
        let others = self.states().filter(|(key, _)| !keys.contains(&***key));
        let states = others.map(|(key, state)| (key.clone(), *state)).chain(read).collect();
        Self::new(listing.org.clone(), states)
    }

    /// The keys whose states differ from those of `earlier`, in order.
    fn differing<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = &'a Arc<str>> {
        let candidates = if Arc::ptr_eq(&self.listed, &earlier.listed) {
            [&self.changed, &earlier.changed]
        } else {
            [&*self.listed, &*earlier.listed]
        };
        let keys: BTreeSet<_> = candidates.into_iter().flat_map(BTreeMap::keys).collect();
        keys.into_iter().filter(|key| self.get(key) != earlier.get(key))
    }

    /// The differences from `earlier`, as events.
    pub(super) fn changes_since(&self, earlier: &Self) -> Vec<EventKind> {
        // The org of the session has changed: all keys of the earlier org are removed, and all of this one
        // are new.
        if self.org != earlier.org && !earlier.is_empty() {
            let nothing = Self::new(earlier.org.clone(), BTreeMap::new());
            let mut changes = nothing.changes_since(earlier);
            changes.extend(self.changes_since(&Self::default()));
            return changes;
        }
        let mut changes = Vec::new();
        for key in self.differing(earlier) {
            match (earlier.get(key), self.get(key)) {
                (Some(before), None) if before.has_credentials => {
                    changes.push(self.removed(key, before.revision));
                }
                (None, Some(now)) if now.has_credentials => changes.push(self.changed(key, now.revision)),
                (Some(before), Some(now)) => self.compare(key, *before, *now, &mut changes),
                _ => {}
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

    const NONE: KeyState = KeyState {
        revision: 0,
        has_credentials: false,
        is_enabled: true,
        updated_at: None,
        expires_at: None,
    };

    fn set(revision: i64) -> KeyState {
        KeyState { revision, has_credentials: true, ..NONE }
    }

    fn snapshot(org: &str, states: &[(&str, KeyState)]) -> Snapshot {
        Snapshot::of(org, states.iter().copied())
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
        // Removed, whether or not that raises the revision; and set again.
        let gone = KeyState { has_credentials: false, ..set(2) };
        assert_eq!(changes(Some(set(2)), Some(gone)), ["removed o/k 2"]);
        assert_eq!(changes(Some(set(1)), Some(gone)), ["removed o/k 2"]);
        assert_eq!(changes(Some(gone), Some(set(3))), ["changed o/k 3"]);
        assert_eq!(changes(Some(gone), Some(set(2))), ["changed o/k 2"]);
        // Set and removed between two queries: only the last change shows.
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

    fn listing(scope: &[&str], states: &[(&str, KeyState)], is_standby: bool) -> Listing {
        let states = states.iter().map(|&(key, state)| (key.into(), state)).collect();
        let keys = scope.iter().map(|&key| key.to_owned()).collect();
        let scope = if scope.is_empty() { Scope::Whole } else { Scope::Keys(keys) };
        Listing { org: "o".into(), scope, states, is_standby }
    }

    #[test]
    fn a_query_of_some_keys_leaves_the_others_as_they_were() {
        let known = snapshot("o", &[("a", set(1)), ("b", set(1)), ("c", set(1))]);
        let after = known.after(&listing(&["a", "b", "d", "e"], &[("a", set(2)), ("d", set(1))], false));
        assert_eq!(after, snapshot("o", &[("a", set(2)), ("c", set(1)), ("d", set(1))]));
        assert_eq!(after.after(&listing(&[], &[("c", set(1))], false)), snapshot("o", &[("c", set(1))]));
    }

    /// Whatever the catalog's size: a query of one key must cost nothing for the others.
    #[test]
    fn a_change_of_a_key_touches_no_other() {
        let all: Vec<_> = (0..1000).map(|number| number.to_string()).collect();
        let states: Vec<_> = all.iter().map(|key| (key.as_str(), set(1))).collect();
        let known = snapshot("o", &states);
        let (mut now, mut shared) = (known.clone(), 0);
        for key in &all {
            let before = now;
            now = before.after(&listing(&[key], &[(key, set(2))], false));
            assert_eq!(words(&now.changes_since(&before)), [format!("changed o/{key} 2")]);
            assert_eq!(before.get(key), Some(&set(1)));
            shared += usize::from(Arc::ptr_eq(&now.listed, &before.listed));
        }
        assert!(shared > 990, "{shared}");
        let states: Vec<_> = all.iter().map(|key| (key.as_str(), set(2))).collect();
        assert_eq!(now, snapshot("o", &states));
        assert_eq!(now.changes_since(&known).len(), all.len());
        assert!(now.iter().map(|(key, _)| key).is_sorted() && now.iter().all(|(_, state)| *state == set(2)));
    }

    #[test]
    fn only_a_standby_is_not_believed_to_have_gone_back() {
        let known = snapshot("o", &[("a", set(5)), ("b", set(5)), ("c", set(5))]);
        let seen = [("a", set(4)), ("b", set(6))];
        assert_eq!(known.after(&listing(&[], &seen, true)), snapshot("o", &[("a", set(5)), ("b", set(6))]));
        assert_eq!(known.after(&listing(&[], &seen, false)), snapshot("o", &seen));
        let again = [("a", KeyState { updated_at: Some(Timestamp::now()), ..set(1) })];
        assert_eq!(known.after(&listing(&[], &again, true)), snapshot("o", &again));
        let other = Snapshot { org: "other".into(), ..known };
        assert_eq!(other.after(&listing(&[], &seen, true)), snapshot("o", &seen));
    }

    #[test]
    fn another_org_shares_nothing_with_the_one_before() {
        let before = snapshot("a", &[("k", set(1)), ("l", NONE)]);
        let now = snapshot("b", &[("k", set(1)), ("m", set(2))]);
        assert_eq!(words(&now.changes_since(&before)), ["removed a/k 1", "changed b/k 1", "changed b/m 2"]);
        assert_eq!(words(&now.changes_since(&Snapshot::default())), ["changed b/k 1", "changed b/m 2"]);
    }
}
