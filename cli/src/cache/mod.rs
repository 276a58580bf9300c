//! Credentials in memory, as current as the database.
//!
//! | module | concept |
//! | --- | --- |
//! | `store` | what is in memory, and the rules by which it may be handed out |
//! | `key_state` | what is known of one key |
//! | `credential` | a handle on a value in memory |
//! | `single_flight` | fetching a key once, for all who ask for it meanwhile |
//! | `source` | where it is fetched from: a connection, or a pool |
//! | `changes` | the changes, for who must do something about them |

mod changes;
mod credential;
mod key_state;
mod single_flight;
mod source;
mod store;

pub use changes::{Change, Changes};
pub use credential::Credential;

use crate::{Error, EventKind, Mode, Settings, WatchOptions, Watcher};
use key_state::Authority;
use single_flight::Flights;
use source::Source;
use std::{fmt, sync::Arc, time::Duration};
use store::Store;
use tokio::task::JoinHandle;

/// From this many values on, fetching all is cheaper than each by itself.
const MANY: usize = 16;

/// How to cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheOptions {
    /// How to watch for changes.
    pub watch: WatchOptions,
    /// For how long what is in memory may be used without word from the server, counted from its last answer.
    pub grace: Duration,
    /// How long to wait for a fetch, at most: for a connection, and then for the answer.
    pub timeout: Duration,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            watch: WatchOptions::default(),
            grace: Duration::from_mins(5),
            timeout: Duration::from_secs(5),
        }
    }
}

/// The credentials of an org in memory, dropped the moment that a change of theirs is announced.
///
/// What is read once is then read from memory, without a lock, until it changes; then it is fetched anew at once, for
/// the next who asks. See the [crate's documentation](crate#guarantees) for what may be relied on. Clones share what is
/// in memory; the last one to be dropped ends the connections.
#[derive(Clone)]
pub struct CredentialCache(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    flights: Arc<Flights>,
    follower: JoinHandle<()>,
}

impl CredentialCache {
    /// Starts a cache with two connections of its own, both by these settings: one to watch, which stays open, and one
    /// to fetch, which is opened when it is needed. Nothing is fetched yet. That the first connection fails is an error;
    /// later ones are tried again for ever.
    ///
    /// The settings must be fit for a [`Watcher`]: see [`Watcher::start`].
    pub async fn start(settings: &Settings, options: CacheOptions) -> Result<Self, Error> {
        Self::with_source(settings, Source::own(settings.clone(), options.timeout), options).await
    }

    /// Starts a cache that fetches over a pool, which may be one in transaction mode, and which must be of the same
    /// database and org. `settings` are for the connection that watches.
    #[cfg(feature = "pool")]
    pub async fn over_pool(
        settings: &Settings,
        pool: deadpool_postgres::Pool,
        options: CacheOptions,
    ) -> Result<Self, Error> {
        let source = Source::pool(pool, settings.dbname(), options.timeout);
        Self::with_source(settings, source, options).await
    }

    async fn with_source(settings: &Settings, source: Source, options: CacheOptions) -> Result<Self, Error> {
        let watcher = Watcher::start(settings, WatchOptions { initial: false, ..options.watch }).await?;
        let store = Arc::new(Store::new());
        store.learn_all(&watcher.snapshot(), Authority::Final);
        let flights = Arc::new(Flights::new(store.clone(), source, options.timeout));
        let follower = tokio::spawn(follow(watcher, store.clone(), flights.clone(), options.grace));
        Ok(Self(Arc::new(Inner { store, flights, follower })))
    }

    /// The current credential: from memory or, if it is not there, from the server.
    ///
    /// # Errors
    /// [`Error::Refused`] with one of the codes [`IntegrationNotFound`], [`IntegrationDisabled`] and
    /// [`CredentialsNotSet`] as soon as that is so, whatever was in memory before; and, only where the value is not in
    /// memory or the watcher has been away for longer than [`CacheOptions::grace`], any error of connecting and reading.
    ///
    /// [`IntegrationNotFound`]: crate::ErrorCode::IntegrationNotFound
    /// [`IntegrationDisabled`]: crate::ErrorCode::IntegrationDisabled
    /// [`CredentialsNotSet`]: crate::ErrorCode::CredentialsNotSet
    pub async fn get(&self, key: &str) -> Result<Credential, Error> {
        let Inner { store, flights, .. } = &*self.0;
        if let Some(credential) = store.read(key) {
            return Ok(credential);
        }
        match store.refusal(key) {
            Some(refusal) => Err(refusal),
            None => flights.fetch(key).await.map(Into::into),
        }
    }

    /// The same, with its revision beside it; see [`Self::reread`].
    pub async fn get_with_revision(&self, key: &str) -> Result<(Credential, i64), Error> {
        self.get(key).await.map(|credential| {
            let revision = credential.revision();
            (credential, revision)
        })
    }

    /// The credential to try next, after one of `refused` was refused by whom it is for: what is in memory if that is
    /// another revision, else what the server has now. If it is of the same revision still, then there is no better one.
    pub async fn reread(&self, key: &str, refused: i64) -> Result<Credential, Error> {
        let credential = self.get(key).await?;
        if credential.revision() != refused {
            return Ok(credential);
        }
        let fetched = self.0.flights.fetch(key).await?;
        if fetched.revision != refused {
            return Ok(fetched.into());
        }
        // That fetch may have been under way already, from before the refusal.
        self.0.flights.fetch(key).await.map(Into::into)
    }

    /// Fetches all credentials of the org in one round trip, and returns how many. One that cannot be decrypted is not among
    /// them, and [`Self::get`] says why.
    pub async fn warm(&self) -> Result<usize, Error> {
        self.0.flights.fetch_all().await
    }

    /// The changes from now on, for clients that must do something about them, such as connect anew.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes::new(self.0.store.clone())
    }
}

/// Without what is in it.
impl fmt::Debug for CredentialCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialCache").finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // With it goes the watcher.
        self.follower.abort();
    }
}

/// Keeps the store as the watcher sees the database, and has what was in use fetched anew.
async fn follow(mut watcher: Watcher, store: Arc<Store>, flights: Arc<Flights>, grace: Duration) {
    while let Some(event) = watcher.recv().await {
        match event.kind {
            EventKind::Synced { mode, .. } | EventKind::Reconnected { mode } => {
                let authority = match mode {
                    Mode::Listening => Authority::Final,
                    Mode::Polling => Authority::Current,
                };
                let outdated = store.learn_all(&watcher.snapshot(), authority);
                if outdated.len() < MANY {
                    for key in outdated {
                        drop(flights.start(&key));
                    }
                } else {
                    let flights = flights.clone();
                    // Whoever asks for one of them meanwhile, or after this failed, fetches it.
                    tokio::spawn(async move { flights.fetch_all().await });
                }
            }
            EventKind::Changed { key, .. }
            | EventKind::Removed { key, .. }
            | EventKind::Enabled { key, .. }
            | EventKind::Disabled { key, .. } => {
                let snapshot = watcher.snapshot();
                if store.learn(&key, snapshot.get(&key), Authority::Current) {
                    drop(flights.start(&key));
                }
            }
            EventKind::Disconnected { since, .. } => {
                flights.reconnect();
                store.expire_in(grace.saturating_sub(since.0.elapsed().unwrap_or_default()));
            }
        }
    }
    // Nobody watches any more: the runtime is shutting down.
    store.expire_in(Duration::ZERO);
}
