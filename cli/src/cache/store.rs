//! What the cache has in memory, and the rules by which it may be handed out. Pure: no network.
//!
//! Reading takes no lock and writes to nothing that threads share. All else goes through the book.

use super::credential::{Credential, Entry, NOTHING};
use crate::{Error, ErrorCode, KeyState, Snapshot};
use arc_swap::ArcSwap;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;

type Slot = ArcSwap<Entry>;
type Slots = HashMap<Arc<str>, Arc<Slot>>;

/// While the watcher is connected.
const NEVER: u64 = u64::MAX;

pub(super) struct Store {
    slots: ArcSwap<Slots>,
    book: Mutex<Book>,
    began: Instant,
    /// Until when what lies in the slots may be handed out, in milliseconds since `began`.
    expires: AtomicU64,
    /// The book's time, for those who wait for it to pass.
    clock: watch::Sender<u64>,
}

#[derive(Default)]
struct Book {
    org: Arc<str>,
    keys: HashMap<Arc<str>, Known>,
    /// Ticks whenever the watcher has news.
    time: u64,
}

struct Known {
    slot: Arc<Slot>,
    /// What the watcher saw; `None` if it saw none.
    state: Option<KeyState>,
    /// The highest revision that was seen or handed out.
    floor: i64,
    /// When it last became another one, by the book's time.
    changed: u64,
}

/// A key and what the watcher saw of it.
pub(super) type Seen = (Arc<str>, Option<KeyState>);

/// What was read from the server.
pub(super) struct Fetched {
    pub org: String,
    pub key: String,
    pub entry: Entry,
}

/// What became of something fetched.
pub(super) enum Settled {
    /// It is in the cache now.
    Kept(Arc<Entry>),
    /// The key changed while it was fetched, or may not be cached; it is no older than anything that was handed out.
    Passing(Arc<Entry>),
    /// Something newer is known.
    Behind(Error),
}

/// Whether the watcher's word is to be taken for what lies in the past, too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Authority {
    /// Read from the primary, at the start of a session: what is known from elsewhere is void.
    Final,
    /// Read in the course of a session.
    Current,
    /// Read from a standby, which may be behind.
    Standby,
}

impl Store {
    pub fn new() -> Self {
        Self {
            slots: ArcSwap::default(),
            book: Mutex::default(),
            began: Instant::now(),
            expires: AtomicU64::new(0),
            clock: watch::Sender::new(0),
        }
    }

    /// What is in memory, if it may be handed out.
    pub fn read(&self, key: &str) -> Option<Credential> {
        if !self.is_fresh() {
            return None;
        }
        let entry = self.slots.load().get(key)?.load();
        entry.is_there().then(|| Credential::of(entry))
    }

    /// Why there is nothing to hand out, where that is known without asking.
    pub fn refusal(&self, key: &str) -> Option<Error> {
        let state = self.book().keys.get(key)?.state.filter(|_| self.is_fresh())?;
        let (code, message) = match state {
            KeyState { is_enabled: false, .. } => {
                (ErrorCode::IntegrationDisabled, format!("integration {key:?} is disabled"))
            }
            KeyState { has_credentials: false, .. } => {
                (ErrorCode::CredentialsNotSet, format!("there is no credential for integration {key:?}"))
            }
            _ => return None,
        };
        Some(Error::Refused { code, message, hint: None })
    }

    /// The book's time, to be handed in with what is fetched from now on.
    pub fn time(&self) -> u64 {
        self.book().time
    }

    /// Whether the watcher has had news of the key since.
    pub fn has_changed(&self, key: &str, since: u64) -> bool {
        self.book().keys.get(key).is_some_and(|known| known.changed > since)
    }

    /// The keys that changed since, in the order of their last change, and the book's time now.
    pub fn changed_since(&self, since: u64) -> (u64, Vec<Seen>) {
        let book = self.book();
        let mut changed: Vec<_> = book.keys.iter().filter(|(_, known)| known.changed > since).collect();
        changed.sort_unstable_by_key(|(key, known)| (known.changed, *key));
        (book.time, changed.into_iter().map(|(key, known)| (key.clone(), known.state)).collect())
    }

    pub fn clock(&self) -> watch::Receiver<u64> {
        self.clock.subscribe()
    }

    /// Takes in what was fetched since `time`.
    pub fn settle(&self, time: u64, fetched: Fetched) -> Result<Settled, Error> {
        let Fetched { org, key, entry } = fetched;
        let mut book = self.book();
        if *book.org != *org {
            let watched = &book.org;
            return Err(Error::Unexpected(format!(
                "credentials are fetched for the org {org:?}, and watched for the org {watched:?}"
            )));
        }
        if !book.keys.contains_key(&*key) {
            self.add_slots(&mut book, [key.as_str().into()]);
        }
        let Some(known) = book.keys.get_mut(&*key) else {
            return Err(Error::Unexpected("a slot was lost".to_owned()));
        };
        let is_another = known
            .state
            .is_some_and(|state| state.revision == entry.revision && state.updated_at != entry.updated_at);
        if entry.revision < known.floor || is_another {
            let (found, known) = (entry.revision, known.floor);
            return Ok(Settled::Behind(Error::Behind { key, found, known }));
        }
        let entry = Arc::new(entry);
        if known.changed > time || known.state.is_some_and(|state| !is_readable(state)) {
            return Ok(Settled::Passing(entry));
        }
        known.floor = entry.revision;
        known.slot.store(entry.clone());
        Ok(Settled::Kept(entry))
    }

    /// Takes in what the watcher knows of one key. Tells whether a value had to go that has a successor.
    pub fn learn(&self, key: &str, state: Option<&KeyState>, authority: Authority) -> bool {
        let mut book = self.book();
        if !book.keys.contains_key(key) {
            self.add_slots(&mut book, [key.into()]);
        }
        let time = book.time + 1;
        let Some(known) = book.keys.get_mut(key) else { return false };
        let outdated = known.learn(state.copied(), time, authority);
        self.tick(book, time);
        outdated
    }

    /// Takes in all that the watcher knows, from now on without expiry. Tells which values had to go that have a
    /// successor.
    pub fn learn_all(&self, snapshot: &Snapshot, authority: Authority) -> Vec<Arc<str>> {
        let mut book = self.book();
        let time = book.time + 1;
        if *book.org != *snapshot.org() {
            // Nothing is known of the other org.
            for known in book.keys.values_mut() {
                known.learn(None, time, Authority::Final);
            }
            book.org = snapshot.org().into();
        }
        let new = snapshot.iter().map(|(key, _)| key).filter(|key| !book.keys.contains_key(*key));
        let new: Vec<Arc<str>> = new.map(Into::into).collect();
        self.add_slots(&mut book, new);
        let mut outdated = Vec::new();
        for (key, known) in &mut book.keys {
            if known.learn(snapshot.get(key).copied(), time, authority) {
                outdated.push(key.clone());
            }
        }
        self.expires.store(NEVER, Ordering::Release);
        self.tick(book, time);
        outdated
    }

    /// Has what is in memory expire, from now.
    pub fn expire_in(&self, grace: Duration) {
        let until = (self.began.elapsed() + grace).as_millis();
        self.expires.store(u64::try_from(until).unwrap_or(NEVER), Ordering::Release);
    }

    fn is_fresh(&self) -> bool {
        match self.expires.load(Ordering::Acquire) {
            NEVER => true,
            until => self.began.elapsed().as_millis() < u128::from(until),
        }
    }

    /// Slots are found without a lock, in a map that is never changed but replaced.
    fn add_slots(&self, book: &mut Book, keys: impl IntoIterator<Item = Arc<str>>) {
        let mut keys = keys.into_iter().peekable();
        if keys.peek().is_none() {
            return;
        }
        let mut slots = Slots::clone(&self.slots.load());
        for key in keys {
            let slot = Arc::new(Slot::new(NOTHING.clone()));
            slots.insert(key.clone(), slot.clone());
            book.keys.insert(key, Known { slot, state: None, floor: 0, changed: 0 });
        }
        self.slots.store(Arc::new(slots));
    }

    fn tick(&self, mut book: MutexGuard<'_, Book>, time: u64) {
        book.time = time;
        drop(book);
        self.clock.send_replace(time);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Tells whether a value had to go that has a successor.
    fn learn(&mut self, state: Option<KeyState>, time: u64, authority: Authority) -> bool {
        let went_back = match (self.state, state) {
            (Some(before), Some(now)) => now.revision < before.revision,
            (_, None) => true,
            (None, Some(_)) => false,
        };
        let revision = state.map_or(0, |state| state.revision);
        let is_reset = authority == Authority::Final || (went_back && authority == Authority::Current);
        self.floor = if is_reset { revision } else { self.floor.max(revision) };
        if self.state != state {
            self.state = state;
            self.changed = time;
        }
        let entry = self.slot.load();
        let is_current = state.is_some_and(|state| {
            is_readable(state) && (state.revision, state.updated_at) == (entry.revision, entry.updated_at)
        });
        // Fetched a moment before the watcher saw it.
        let is_ahead = !is_reset && state.is_none_or(is_readable) && entry.revision > revision;
        let must_go = entry.is_there() && !is_current && !is_ahead;
        if must_go {
            self.slot.store(NOTHING.clone());
            self.changed = time;
        }
        must_go && state.is_some_and(is_readable)
    }
}

fn is_readable(state: KeyState) -> bool {
    state.is_enabled && state.has_credentials
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

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
        for (authority, expected) in [(Authority::Final, None), (Authority::Standby, Some(7))] {
            let store = store(state(7));
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
}
