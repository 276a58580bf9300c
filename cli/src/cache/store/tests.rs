//! The rules of the cache, one by one.

use super::*;
use crate::{ErrorCode, Secret};

const ORG: &str = "acme";

fn state(revision: i64) -> KeyState {
    KeyState { revision, has_credentials: true, is_enabled: true, updated_at: None }
}

fn snapshot(org: &str, states: &[(&str, KeyState)]) -> Snapshot {
    let states = states.iter().map(|&(key, state)| (key.into(), state)).collect();
    Snapshot::new(org.into(), states)
}

/// A store with this state of `k`.
fn store(known: KeyState) -> Store {
    let store = Store::new();
    store.apply_snapshot(&snapshot(ORG, &[("k", known)]), Authority::Final);
    store
}

fn fetch(store: &Store, version: u64, revision: i64) -> Admission {
    let entry = Entry { value: Secret::new(revision.to_string()), revision, updated_at: None };
    store.admit(version, Fetched { org: ORG.into(), key: "k".into(), entry }).unwrap()
}

fn cached(store: &Store) -> Option<i64> {
    let credential = store.read("k")?;
    assert_eq!(credential.expose(), credential.revision().to_string());
    Some(credential.revision())
}

#[test]
fn what_was_fetched_is_read_until_it_changes() {
    let store = store(state(1));
    assert_eq!(cached(&store), None);
    assert!(matches!(fetch(&store, store.version(), 1), Admission::Cached(_)));
    assert_eq!(cached(&store), Some(1));
    assert!(!store.apply("k", Some(&state(1)), Authority::Current));
    assert_eq!(cached(&store), Some(1));
    assert!(store.apply("k", Some(&state(2)), Authority::Current));
    assert_eq!(cached(&store), None);
    assert!(store.refusal("k").is_none());
}

#[test]
fn values_fetched_during_a_change_are_not_cached() {
    let store = store(state(1));
    let version = store.version();
    store.apply("k", Some(&state(2)), Authority::Current);
    assert!(matches!(fetch(&store, version, 1), Admission::Behind(_)));
    assert!(matches!(fetch(&store, version, 2), Admission::NotCached(_)));
    assert_eq!(cached(&store), None);
    assert!(store.has_changed("k", version) && !store.has_changed("k", store.version()));
    // A change of another key is no change of this one.
    let version = store.version();
    store.apply("other", Some(&state(1)), Authority::Current);
    assert!(matches!(fetch(&store, version, 2), Admission::Cached(_)));
}

#[test]
fn revisions_lower_than_one_returned_or_seen_are_behind() {
    let store = store(state(5));
    assert!(matches!(fetch(&store, store.version(), 4), Admission::Behind(_)));
    assert!(matches!(fetch(&store, store.version(), 7), Admission::Cached(_)));
    // The watcher is late.
    store.apply("k", Some(&state(6)), Authority::Current);
    assert_eq!(cached(&store), Some(7));
    store.apply("k", Some(&state(8)), Authority::Current);
    assert!(matches!(fetch(&store, store.version(), 7), Admission::Behind(_)));
    let another = Some(crate::Timestamp::now());
    store.apply("k", Some(&KeyState { updated_at: another, ..state(8) }), Authority::Current);
    assert!(matches!(fetch(&store, store.version(), 8), Admission::Behind(_)));
}

#[test]
fn the_database_may_go_back_when_the_primary_says_so() {
    for (authority, expected) in [(Authority::Final, None), (Authority::Current, Some(7))] {
        // The watcher is late; or the primary with revision 7 is lost.
        let store = store(state(6));
        fetch(&store, store.version(), 7);
        store.apply_snapshot(&snapshot(ORG, &[("k", state(6))]), authority);
        assert_eq!(cached(&store), expected);
        assert_eq!(matches!(fetch(&store, store.version(), 6), Admission::Cached(_)), expected.is_none());
    }
    // Restored from a backup, or registered again, while the watcher listens.
    let store = store(state(7));
    fetch(&store, store.version(), 7);
    assert!(store.apply("k", Some(&state(1)), Authority::Current));
    assert!(matches!(fetch(&store, store.version(), 1), Admission::Cached(_)));
}

#[test]
fn removed_and_disabled_values_are_dropped_at_once() {
    for (gone, code) in [
        (KeyState { is_enabled: false, ..state(1) }, ErrorCode::IntegrationDisabled),
        (KeyState { has_credentials: false, ..state(2) }, ErrorCode::CredentialsNotSet),
    ] {
        let store = store(state(1));
        fetch(&store, store.version(), 1);
        assert!(!store.apply("k", Some(&gone), Authority::Current));
        assert_eq!(cached(&store), None);
        assert_eq!(store.refusal("k").and_then(|error| error.code()), Some(code));
        fetch(&store, store.version(), 2);
        assert_eq!(cached(&store), None);
        // Once expired, the state may be out of date, so the server decides.
        store.expire_in(Duration::ZERO);
        assert!(store.refusal("k").is_none());
    }
    let store = store(state(1));
    fetch(&store, store.version(), 1);
    store.apply("k", None, Authority::Current);
    assert_eq!(cached(&store), None);
}

#[test]
fn values_expire_while_disconnected_and_are_valid_again_if_unchanged() {
    let store = store(state(1));
    fetch(&store, store.version(), 1);
    store.expire_in(Duration::from_mins(1));
    assert_eq!(cached(&store), Some(1));
    store.expire_in(Duration::ZERO);
    assert_eq!(cached(&store), None);
    assert!(store.apply_snapshot(&snapshot(ORG, &[("k", state(1))]), Authority::Final).is_empty());
    assert_eq!(cached(&store), Some(1));
    let outdated = store.apply_snapshot(&snapshot(ORG, &[("k", state(2))]), Authority::Final);
    assert_eq!(outdated, ["k".into()]);
    assert_eq!(cached(&store), None);
}

#[test]
fn another_org_shares_nothing_with_the_one_before() {
    let store = store(state(1));
    fetch(&store, store.version(), 1);
    store.apply_snapshot(&snapshot("other", &[("k", state(1))]), Authority::Final);
    assert_eq!(cached(&store), None);
    let entry = Entry { value: Secret::new("v".into()), revision: 1, updated_at: None };
    assert!(store.admit(store.version(), Fetched { org: ORG.into(), key: "k".into(), entry }).is_err());
}

#[test]
fn changes_are_the_last_of_each_key_in_order() {
    let store = store(state(1));
    let start = store.version();
    assert_eq!(store.changed_since(start), (start, vec![]));
    store.apply("k", Some(&state(2)), Authority::Current);
    store.apply("a", Some(&state(1)), Authority::Current);
    store.apply("k", Some(&state(3)), Authority::Current);
    let (now, changed) = store.changed_since(start);
    assert_eq!(changed, [("a".into(), Some(state(1))), ("k".into(), Some(state(3)))]);
    assert_eq!(store.changed_since(now), (now, vec![]));
}
