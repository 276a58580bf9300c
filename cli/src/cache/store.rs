//! What the cache has in memory, and the rules by which it may be handed out. Pure: no network.
//!
//! Reading takes no lock and writes to nothing that threads share. All else goes through the book.

use super::{
    credential::{Credential, Entry},
    key_state::{Authority, Known, Slot, is_readable},
};
use crate::{Error, KeyState, Snapshot};
use arc_swap::ArcSwap;
use integration_credentials_core::error::Refusal;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Hashing is a good part of a read. The keys are those of the catalog, so that nobody can choose them to collide.
type Slots = HashMap<Arc<str>, Arc<Slot>, foldhash::fast::RandomState>;

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
        match state {
            KeyState { is_enabled: false, .. } => Some(Refusal::integration_disabled(key).into()),
            KeyState { has_credentials: false, .. } => Some(Refusal::credentials_not_set(key).into()),
            _ => None,
        }
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
            let known = Known::default();
            slots.insert(key.clone(), known.slot.clone());
            book.keys.insert(key, known);
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

#[cfg(test)]
mod tests;
