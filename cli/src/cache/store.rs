//! The cached values, and the rules by which they may be returned. Pure: no network.
//!
//! A read takes no lock, and writes to no memory that threads share. Everything else locks [`Keys`].

use super::{
    credential::{Credential, Entry},
    key_state::{Authority, TrackedKey, is_readable},
    slots::Slots,
};
use crate::{
    Error, KeyState, Secret, Snapshot, Timestamp,
    lease::{Holder, Permit, Promises, Report},
};
use integration_credentials_core::{error::Refusal, limits};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// The value of `expires` while the watcher is connected.
const NEVER: u64 = u64::MAX;

pub(super) struct Store {
    slots: Slots,
    keys: Mutex<Keys>,
    began: Instant,
    /// When the cached values expire, in milliseconds since `began`.
    expires: AtomicU64,
    /// Publishes [`Keys::version`].
    versions: watch::Sender<u64>,
    /// Until when values may be used.
    permit: Arc<Permit>,
}

#[derive(Default)]
struct Keys {
    org: Arc<str>,
    by_key: HashMap<Arc<str>, TrackedKey>,
    promises: Promises,
    /// Whether there are promises to keep.
    is_leased: bool,
    /// Raised by each update from the watcher.
    version: u64,
}

/// A key, and its state as the watcher last read it.
pub(super) type ChangedKey = (Arc<str>, Option<KeyState>);

/// A credential as read from the server.
pub(super) struct Fetched {
    pub org: String,
    pub key: String,
    pub value: Secret,
    pub revision: i64,
    pub updated_at: Option<Timestamp>,
}

/// Whether a fetched value was cached.
pub(super) enum Admission {
    Cached(Arc<Entry>),
    /// Not cached, because the key changed during the fetch or is not readable. No older than any value
    /// returned before.
    NotCached(Arc<Entry>),
    /// Older than a value that was seen or returned before.
    Behind(Error),
}

impl Store {
    /// Whether it `is_leased`: values are used only while the permit runs, and for as long as it does they
    /// are counted.
    pub fn new(permit: Arc<Permit>, is_leased: bool) -> Self {
        Self {
            slots: Slots::new(),
            keys: Mutex::new(Keys { is_leased, ..Keys::default() }),
            began: Instant::now(),
            expires: AtomicU64::new(0),
            versions: watch::Sender::new(0),
            permit,
        }
    }

    /// The cached value, unless it has expired.
    pub fn read(&self, key: &str) -> Option<Credential> {
        // Whether the permit is over is seen at the latest when the value is used.
        if !self.is_fresh() || !self.permit.seems_running() {
            return None;
        }
        let entry = self.slots.get(key)?.load();
        entry.is_there().then(|| Credential::of(entry))
    }

    /// The refusal that the server would give, where the watcher's state of the key suffices to tell.
    pub fn refusal(&self, key: &str) -> Option<Error> {
        let state = self.keys().by_key.get(key)?.state.filter(|_| self.is_fresh())?;
        match state {
            KeyState { is_enabled: false, .. } => Some(Refusal::integration_disabled(key).into()),
            KeyState { has_credentials: false, .. } => Some(Refusal::credentials_not_set(key).into()),
            _ => None,
        }
    }

    /// The version before a fetch, to be given to [`Self::admit`] with the fetched value.
    pub fn version(&self) -> u64 {
        self.keys().version
    }

    /// Whether a later revision of the key was seen or returned.
    pub fn is_behind(&self, key: &str, revision: i64) -> bool {
        self.keys().by_key.get(key).is_some_and(|tracked| revision < tracked.min_revision)
    }

    /// Whether the watcher has reported a change of the key since this version.
    pub fn has_changed(&self, key: &str, since: u64) -> bool {
        self.keys().by_key.get(key).is_some_and(|tracked| tracked.changed_at > since)
    }

    /// The version now, and the keys that changed since an earlier one, in the order of their last change.
    pub fn changed_since(&self, since: u64) -> (u64, Vec<ChangedKey>) {
        let keys = self.keys();
        let mut changed: Vec<_> =
            keys.by_key.iter().filter(|(_, tracked)| tracked.changed_at > since).collect();
        changed.sort_unstable_by_key(|(key, tracked)| (tracked.changed_at, *key));
        (keys.version, changed.into_iter().map(|(key, tracked)| (key.clone(), tracked.state)).collect())
    }

    pub fn versions(&self) -> watch::Receiver<u64> {
        self.versions.subscribe()
    }

    /// Caches a fetched value, if it is still current. `version` is that from before the fetch.
    pub fn admit(&self, version: u64, fetched: Fetched) -> Result<Admission, Error> {
        let Fetched { org, key, value, revision, updated_at } = fetched;
        let entry = Entry::new(value, revision, updated_at, self.permit.clone());
        let mut keys = self.keys();
        if *keys.org != *org {
            let watched = &keys.org;
            return Err(Error::Unexpected(format!(
                "the connections that fetch are of the org {org:?}, and the watcher's is of the org {watched:?}"
            )));
        }
        if !keys.by_key.contains_key(&*key) {
            self.add_slots(&mut keys, [key.as_str().into()]);
        }
        let keys = &mut *keys;
        let Some(tracked) = keys.by_key.get_mut(&*key) else {
            return Err(Error::Unexpected("the cache has lost a slot".to_owned()));
        };
        // Registered again: the revisions start at 1 again, and may be equal by chance.
        let is_another = tracked
            .state
            .is_some_and(|state| state.revision == entry.revision && state.updated_at != entry.updated_at);
        if entry.revision < tracked.min_revision || is_another {
            let (found, known) = (entry.revision, tracked.min_revision);
            return Ok(Admission::Behind(Error::Behind { key, found, known }));
        }
        match keys.promises.floor(&key) {
            // To be reported once there is a lease.
            _ if !keys.is_leased => drop(keys.promises.want(&key.as_str().into())),
            None => {
                let reason = format!("the use of \"{key}\" is not reported yet");
                return Ok(Admission::Behind(Error::LeaseOver { reason }));
            }
            Some(known) if entry.revision < known => {
                let found = entry.revision;
                return Ok(Admission::Behind(Error::Behind { key, found, known }));
            }
            Some(_) => {}
        }
        let entry = Arc::new(entry);
        tracked.add(&entry);
        if tracked.changed_at > version || tracked.state.is_some_and(|state| !is_readable(state)) {
            return Ok(Admission::NotCached(entry));
        }
        tracked.min_revision = entry.revision;
        tracked.slot.store(entry.clone());
        Ok(Admission::Cached(entry))
    }

    /// Applies what the watcher read of one key. Returns whether a cached value was dropped that can be
    /// fetched again.
    pub fn apply(&self, key: &str, state: Option<&KeyState>, authority: Authority) -> bool {
        let mut keys = self.keys();
        if !keys.by_key.contains_key(key) {
            self.add_slots(&mut keys, [key.into()]);
        }
        let version = keys.version + 1;
        let outdated = keys.apply(key, state.copied(), version, authority);
        self.publish(keys, version);
        outdated
    }

    /// Applies the whole list, and ends the expiry. Returns the keys whose cached values were dropped and can
    /// be fetched again.
    pub fn apply_snapshot(&self, snapshot: &Snapshot, authority: Authority) -> Vec<Arc<str>> {
        let mut keys = self.keys();
        let version = keys.version + 1;
        if *keys.org != *snapshot.org() {
            let Keys { by_key, promises, is_leased, .. } = &mut *keys;
            for (key, tracked) in by_key {
                tracked.apply(None, version, Authority::Final);
                promises.forget(key);
                if *is_leased {
                    tracked.revoke(|_| true);
                }
            }
            keys.org = snapshot.org().into();
        }
        let new = snapshot.iter().map(|(key, _)| key).filter(|key| !keys.by_key.contains_key(*key));
        let new: Vec<Arc<str>> = new.map(Into::into).collect();
        self.add_slots(&mut keys, new);
        let all: Vec<Arc<str>> = keys.by_key.keys().cloned().collect();
        let outdated = all
            .into_iter()
            .filter(|key| keys.apply(key, snapshot.get(key).copied(), version, authority))
            .collect();
        self.expires.store(NEVER, Ordering::Release);
        self.publish(keys, version);
        outdated
    }

    /// Lets the cached values expire after `grace`.
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

    /// Adds keys that are not there yet.
    fn add_slots(&self, keys: &mut Keys, new: impl IntoIterator<Item = Arc<str>>) {
        let there_are = keys.by_key.len();
        let new: Vec<_> = new
            .into_iter()
            .map(|key| {
                let tracked = TrackedKey::default();
                let slot = (key.clone(), tracked.slot.clone());
                keys.by_key.insert(key, tracked);
                slot
            })
            .collect();
        if !new.is_empty() {
            self.slots.add(there_are, &new);
        }
    }

    fn publish(&self, mut keys: MutexGuard<'_, Keys>, version: u64) {
        keys.version = version;
        drop(keys);
        self.versions.send_replace(version);
        self.permit.wake.notify_one();
    }

    /// The number of the last report, if a later one must be confirmed before a value of the key is accepted.
    pub fn must_report(&self, key: &str) -> Option<u64> {
        let mut keys = self.keys();
        // The server refuses a report of what cannot be a key, as it refuses the fetch.
        if !keys.is_leased || limits::key(Some(key)).is_err() {
            return None;
        }
        let number = keys.promises.want(&key.into());
        (!keys.promises.is_confirmed(key) || !self.permit.is_running()).then_some(number)
    }

    /// The number of the last report, if the next one says more.
    pub fn has_to_report(&self) -> Option<u64> {
        let keys = self.keys();
        (keys.is_leased && keys.has_news()).then_some(keys.promises.number())
    }

    /// No longer reports a key of which nothing is known: the catalog does not have it, or nobody has answered.
    pub fn forget(&self, key: &str) {
        let keys = &mut *self.keys();
        if keys.by_key.get(key).is_none_or(|tracked| tracked.state.is_none() && tracked.held().0.is_none()) {
            keys.promises.forget(key);
        }
    }

    /// As [`Self::must_report`], for all keys that can be read.
    pub fn must_report_all(&self) -> Option<u64> {
        let mut keys = self.keys();
        if !keys.is_leased {
            return None;
        }
        let Keys { by_key, promises, .. } = &mut *keys;
        let mut must = (!self.permit.is_running()).then_some(0);
        let readable = by_key.iter().filter(|(_, tracked)| tracked.state.is_some_and(is_readable));
        for (key, _) in readable {
            let number = promises.want(key);
            if must.is_some() || !promises.is_confirmed(key) {
                must = Some(must.unwrap_or_default().max(number));
            }
        }
        must
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys {
    fn has_news(&self) -> bool {
        let Self { by_key, promises, .. } = self;
        promises.has_news(|key| by_key.get(key).map_or((None, 0), TrackedKey::held))
    }

    /// Applies what the watcher read of one key. Returns whether a cached value was dropped that can be
    /// fetched again.
    fn apply(&mut self, key: &str, state: Option<KeyState>, version: u64, authority: Authority) -> bool {
        let Some(tracked) = self.by_key.get_mut(key) else { return false };
        let before = tracked.min_revision;
        let outdated = tracked.apply(state, version, authority);
        if self.is_leased {
            // The database has gone back, and will use the same revisions for other values.
            let now = tracked.min_revision;
            let is_another = |entry: &Entry, state: KeyState| {
                entry.revision == state.revision && entry.updated_at != state.updated_at
            };
            let is_lost = |entry: &Entry| {
                now < before && entry.revision > now || state.is_some_and(|state| is_another(entry, state))
            };
            if tracked.revoke(is_lost) || now < before {
                self.promises.doubt(key);
            }
        }
        if state.is_none() && tracked.held().0.is_none() {
            self.promises.forget(key);
        }
        outdated
    }
}

impl Holder for Store {
    fn begin(&self) -> Report {
        let Keys { by_key, promises, .. } = &mut *self.keys();
        promises.begin(|key| by_key.get(key).map_or((None, 0), TrackedKey::held))
    }

    fn confirm(&self, report: &Report, current: &BTreeMap<String, i64>, is_resumption: bool) {
        let Keys { by_key, promises, .. } = &mut *self.keys();
        promises.confirm(report, current);
        if is_resumption {
            for (key, tracked) in by_key {
                let floor = promises.floor(key);
                tracked.revoke(|entry| floor.is_none_or(|floor| entry.revision < floor));
            }
        }
    }

    fn doubt_all(&self) {
        self.keys().promises.doubt_all();
    }

    fn set_leased(&self, is_leased: bool) {
        self.keys().is_leased = is_leased;
    }

    fn has_news(&self) -> bool {
        self.keys().has_news()
    }
}

#[cfg(test)]
mod tests;
