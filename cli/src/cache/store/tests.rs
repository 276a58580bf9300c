//! The rules of the cache, one by one.

use super::*;
use crate::{ErrorCode, Secret, lease::Clock};

const ORG: &str = "acme";

fn state(revision: i64) -> KeyState {
    KeyState { revision, has_credentials: true, is_enabled: true, updated_at: None, expires_at: None }
}

fn snapshot(org: &str, states: &[(&str, KeyState)]) -> Snapshot {
    let states = states.iter().map(|&(key, state)| (key.into(), state)).collect();
    Snapshot::new(org.into(), states)
}

/// A store with this state of `k`.
fn store(known: KeyState) -> Store {
    let permit = Arc::new(Permit::new(Clock::default()));
    permit.free();
    let store = Store::new(permit, false);
    store.apply_snapshot(&snapshot(ORG, &[("k", known)]), Authority::Final);
    store
}

fn fetched(revision: i64) -> Fetched {
    let value = Secret::new(revision.to_string());
    Fetched { org: ORG.into(), key: "k".into(), value, revision, updated_at: None }
}

fn fetch(store: &Store, version: u64, revision: i64) -> Admission {
    store.admit(version, fetched(revision)).unwrap()
}

fn cached(store: &Store) -> Option<i64> {
    let credential = store.read("k")?;
    assert_eq!(credential.expose().unwrap(), credential.revision().to_string());
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
    assert!(store.admit(store.version(), fetched(1)).is_err());
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

/// A store with a lease of a minute, in which `k` is at revision 5 and may be read.
fn leased() -> Store {
    let permit = Arc::new(Permit::new(Clock::default()));
    permit.run_until(permit.now() + Duration::from_mins(1));
    let store = Store::new(permit, true);
    store.apply_snapshot(&snapshot(ORG, &[("k", state(5))]), Authority::Final);
    assert!(store.must_report("k").is_some());
    report(&store, 5, true);
    store
}

/// Reports, while the primary is at this revision. Returns what is reported of `k`.
fn report(store: &Store, current: i64, is_resumption: bool) -> [i64; 2] {
    if is_resumption {
        store.doubt_all();
    }
    let report = store.begin();
    store.confirm(&report, &[("k".to_owned(), current)].into(), is_resumption);
    report.held["k"]
}

#[test]
fn a_value_is_accepted_once_its_key_is_reported() {
    let permit = Arc::new(Permit::new(Clock::default()));
    permit.run_until(permit.now() + Duration::from_mins(1));
    let store = Store::new(permit, true);
    store.apply_snapshot(&snapshot(ORG, &[("k", state(5))]), Authority::Final);
    assert!(matches!(fetch(&store, store.version(), 5), Admission::Behind(Error::LeaseOver { .. })));
    store.must_report("k");
    let begun = store.begin();
    assert!(matches!(fetch(&store, store.version(), 5), Admission::Behind(Error::LeaseOver { .. })));
    // A rotation that the watcher has not seen.
    store.confirm(&begun, &[("k".to_owned(), 6)].into(), false);
    assert!(matches!(fetch(&store, store.version(), 5), Admission::Behind(Error::Behind { .. })));
    assert!(matches!(fetch(&store, store.version(), 6), Admission::Cached(_)));
    assert_eq!(store.must_report("k"), None);
}

#[test]
fn handles_count_until_they_are_dropped() {
    let store = leased();
    fetch(&store, store.version(), 5);
    let handle = store.read("k").unwrap();
    assert_eq!(report(&store, 5, false), [5, 5]);
    assert!(!store.has_news());
    store.apply("k", Some(&state(6)), Authority::Current);
    assert!(store.has_news());
    assert_eq!(report(&store, 6, false), [5, 6]);
    fetch(&store, store.version(), 6);
    assert_eq!(report(&store, 6, false), [5, 6]);
    assert_eq!(handle.expose().unwrap(), "5");
    assert!(!store.has_news());
    drop(handle);
    assert!(store.has_news());
    assert_eq!(report(&store, 6, false), [6, 6]);
    // Without a value in memory too.
    store.apply("k", Some(&state(7)), Authority::Current);
    assert_eq!(report(&store, 7, false), [7, 7]);
    // What was fetched during a change and is not cached counts as well.
    let version = store.version();
    store.apply("k", Some(&state(8)), Authority::Current);
    let Admission::NotCached(entry) = fetch(&store, version, 8) else { panic!() };
    store.apply("k", Some(&state(9)), Authority::Current);
    assert_eq!(report(&store, 9, false), [8, 9]);
    drop(entry);
    assert_eq!(report(&store, 9, false), [9, 9]);
}

#[test]
fn an_answer_in_flight_is_not_accepted_after_a_report_that_excludes_it() {
    let store = leased();
    let version = store.version();
    store.apply("k", Some(&state(6)), Authority::Current);
    store.begin();
    assert!(matches!(fetch(&store, version, 5), Admission::Behind(Error::Behind { .. })));
}

#[test]
fn after_a_lapse_what_is_no_longer_current_is_never_used_again() {
    let store = leased();
    fetch(&store, store.version(), 5);
    let handle = store.read("k").unwrap();
    store.permit.run_until(store.permit.now());
    assert!(handle.expose().is_err());
    assert_eq!(report(&store, 5, true), [5, 5]);
    store.permit.run_until(store.permit.now() + Duration::from_mins(1));
    assert_eq!((handle.expose().unwrap(), cached(&store)), ("5", Some(5)));
    assert_eq!(report(&store, 6, true), [5, 5]);
    assert!(handle.expose().is_err());
    assert_eq!(cached(&store), None);
    // It counts no more.
    assert_eq!(report(&store, 6, false), [6, 6]);
}

#[test]
fn a_database_that_went_back_is_believed_after_a_new_report() {
    let store = leased();
    fetch(&store, store.version(), 5);
    let handle = store.read("k").unwrap();
    store.apply("k", Some(&state(4)), Authority::Final);
    assert!(handle.expose().is_err());
    assert!(matches!(fetch(&store, store.version(), 4), Admission::Behind(Error::LeaseOver { .. })));
    assert_eq!(report(&store, 4, false), [4, 4]);
    assert!(matches!(fetch(&store, store.version(), 4), Admission::Cached(_)));
}

#[test]
fn values_used_without_a_lease_are_reported_once_there_is_one() {
    let store = store(state(5));
    fetch(&store, store.version(), 5);
    let handle = store.read("k").unwrap();
    assert_eq!(store.must_report("k"), None);
    store.doubt_all();
    let begun = store.begin();
    assert_eq!(begun.held["k"], [5, 5]);
    store.set_leased(true);
    store.confirm(&begun, &[("k".to_owned(), 5)].into(), true);
    assert_eq!(handle.expose().unwrap(), "5");
}

#[test]
fn key_of_which_nothing_is_known_is_not_reported_for_good() {
    let store = leased();
    for key in ["k", "unknown"] {
        store.must_report(key);
    }
    assert_eq!(store.begin().held.len(), 2);
    for key in ["k", "unknown"] {
        store.forget(key);
    }
    assert_eq!(store.begin().held.keys().map(|key| &**key).collect::<Vec<_>>(), ["k"]);
}

#[test]
fn revision_is_behind_once_a_later_one_was_seen() {
    let store = store(state(1));
    assert!(!store.is_behind("k", 1) && !store.is_behind("unknown", 1));
    store.apply("k", Some(&state(2)), Authority::Current);
    assert!(store.is_behind("k", 1) && !store.is_behind("k", 2));
}
