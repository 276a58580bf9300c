//! The rules, one by one.

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

/// A store that knows of `k` what is given.
fn store(known: KeyState) -> Store {
    let store = Store::new();
    store.learn_all(&snapshot(ORG, &[("k", known)]), Authority::Final);
    store
}

fn fetch(store: &Store, time: u64, revision: i64) -> Settled {
    let entry = Entry { value: Secret::new(revision.to_string()), revision, updated_at: None };
    store.settle(time, Fetched { org: ORG.into(), key: "k".into(), entry }).unwrap()
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
    assert!(matches!(fetch(&store, store.time(), 1), Settled::Kept(_)));
    assert_eq!(cached(&store), Some(1));
    assert!(!store.learn("k", Some(&state(1)), Authority::Current));
    assert_eq!(cached(&store), Some(1));
    assert!(store.learn("k", Some(&state(2)), Authority::Current));
    assert_eq!(cached(&store), None);
    assert!(store.refusal("k").is_none());
}

#[test]
fn what_overlaps_a_change_is_not_kept() {
    let store = store(state(1));
    let time = store.time();
    store.learn("k", Some(&state(2)), Authority::Current);
    assert!(matches!(fetch(&store, time, 1), Settled::Behind(_)));
    assert!(matches!(fetch(&store, time, 2), Settled::Passing(_)));
    assert_eq!(cached(&store), None);
    assert!(store.has_changed("k", time) && !store.has_changed("k", store.time()));
    // The news of another key is no news of this one.
    let time = store.time();
    store.learn("other", Some(&state(1)), Authority::Current);
    assert!(matches!(fetch(&store, time, 2), Settled::Kept(_)));
}

#[test]
fn a_revision_that_was_handed_out_or_seen_is_the_least() {
    let store = store(state(5));
    assert!(matches!(fetch(&store, store.time(), 4), Settled::Behind(_)));
    assert!(matches!(fetch(&store, store.time(), 7), Settled::Kept(_)));
    // The watcher is a moment late.
    store.learn("k", Some(&state(6)), Authority::Current);
    assert_eq!(cached(&store), Some(7));
    store.learn("k", Some(&state(8)), Authority::Current);
    assert!(matches!(fetch(&store, store.time(), 7), Settled::Behind(_)));
    let another = Some(crate::Timestamp::now());
    store.learn("k", Some(&KeyState { updated_at: another, ..state(8) }), Authority::Current);
    assert!(matches!(fetch(&store, store.time(), 8), Settled::Behind(_)));
}

#[test]
fn the_database_may_go_back_when_the_primary_says_so() {
    for (authority, expected) in [(Authority::Final, None), (Authority::Current, Some(7))] {
        // The watcher is a moment late; or the primary that had 7 is lost.
        let store = store(state(6));
        fetch(&store, store.time(), 7);
        store.learn_all(&snapshot(ORG, &[("k", state(6))]), authority);
        assert_eq!(cached(&store), expected);
        assert_eq!(matches!(fetch(&store, store.time(), 6), Settled::Kept(_)), expected.is_none());
    }
    // Restored, or registered anew, under the eyes of the watcher.
    let store = store(state(7));
    fetch(&store, store.time(), 7);
    assert!(store.learn("k", Some(&state(1)), Authority::Current));
    assert!(matches!(fetch(&store, store.time(), 1), Settled::Kept(_)));
}

#[test]
fn a_value_that_may_not_be_used_is_gone_at_once_and_does_not_come_back() {
    for (gone, code) in [
        (KeyState { is_enabled: false, ..state(1) }, ErrorCode::IntegrationDisabled),
        (KeyState { has_credentials: false, ..state(2) }, ErrorCode::CredentialsNotSet),
    ] {
        let store = store(state(1));
        fetch(&store, store.time(), 1);
        assert!(!store.learn("k", Some(&gone), Authority::Current));
        assert_eq!(cached(&store), None);
        assert_eq!(store.refusal("k").and_then(|error| error.code()), Some(code));
        fetch(&store, store.time(), 2);
        assert_eq!(cached(&store), None);
        // Without word from the server, only the server can tell.
        store.expire_in(Duration::ZERO);
        assert!(store.refusal("k").is_none());
    }
    let store = store(state(1));
    fetch(&store, store.time(), 1);
    store.learn("k", None, Authority::Current);
    assert_eq!(cached(&store), None);
}

#[test]
fn without_word_from_the_server_values_expire_and_come_back_if_they_are_the_same() {
    let store = store(state(1));
    fetch(&store, store.time(), 1);
    store.expire_in(Duration::from_mins(1));
    assert_eq!(cached(&store), Some(1));
    store.expire_in(Duration::ZERO);
    assert_eq!(cached(&store), None);
    assert!(store.learn_all(&snapshot(ORG, &[("k", state(1))]), Authority::Final).is_empty());
    assert_eq!(cached(&store), Some(1));
    let outdated = store.learn_all(&snapshot(ORG, &[("k", state(2))]), Authority::Final);
    assert_eq!(outdated, ["k".into()]);
    assert_eq!(cached(&store), None);
}

#[test]
fn another_org_shares_nothing_with_the_one_before() {
    let store = store(state(1));
    fetch(&store, store.time(), 1);
    store.learn_all(&snapshot("other", &[("k", state(1))]), Authority::Final);
    assert_eq!(cached(&store), None);
    let entry = Entry { value: Secret::new("v".into()), revision: 1, updated_at: None };
    assert!(store.settle(store.time(), Fetched { org: ORG.into(), key: "k".into(), entry }).is_err());
}

#[test]
fn who_follows_the_changes_gets_the_last_of_each_key_in_order() {
    let store = store(state(1));
    let start = store.time();
    assert_eq!(store.changed_since(start), (start, vec![]));
    store.learn("k", Some(&state(2)), Authority::Current);
    store.learn("a", Some(&state(1)), Authority::Current);
    store.learn("k", Some(&state(3)), Authority::Current);
    let (now, changed) = store.changed_since(start);
    assert_eq!(changed, [("a".into(), Some(state(1))), ("k".into(), Some(state(3)))]);
    assert_eq!(store.changed_since(now), (now, vec![]));
}
