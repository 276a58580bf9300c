//! A cache of credentials, as current as the database.
//!
//! | module | concept |
//! | --- | --- |
//! | `store` | the cached values, and the rules by which they may be returned |
//! | `slots` | the cached values by key, read without a lock |
//! | `key_state` | the state of one key, and when its cached value is dropped |
//! | `credential` | a cached credential, and a handle on it |
//! | `single_flight` | one fetch of a key for all callers that wait for it |
//! | `source` | the connections that credentials are fetched over: one connection, or a pool |
//! | `own` | the one connection |
//! | `changes` | a stream of the keys whose cached values were invalidated |

mod changes;
mod credential;
mod key_state;
mod own;
mod single_flight;
mod slots;
mod source;
mod store;

pub use changes::{Change, Changes};
pub use credential::Credential;

use crate::{
    Error, EventKind, Lease, Mode, Settings, WatchOptions, Watcher,
    deadline::{LONGEST, within},
    lease::{self, Clock, Permit, Primary, Reporter, Terms},
};
use key_state::Authority;
use single_flight::SingleFlight;
use source::Source;
use std::{fmt, sync::Arc, time::Duration};
use store::Store;
use tokio::{runtime::Handle, task::JoinHandle};

/// From this many outdated values on, one round trip for all is cheaper.
const MANY: usize = 16;

/// How to cache: the watcher, the grace period, the timeout and the name.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// How to watch for changes. [`WatchOptions::initial`] is ignored.
    pub watch: WatchOptions,
    /// For how long values may be used while the server does not answer, counted from before the last report
    /// that it answered. 5 minutes by default. It is the lease that the cache asks for; the server grants at
    /// most its setting `integration_credentials.max_lease`, which then is the grace. Zero asks for no lease:
    /// then values are used while the watcher is connected, and `rotation_status` does not wait for this
    /// cache.
    pub grace: Duration,
    /// The name in `rotation_status`. By default the program, the host and the process.
    pub name: Option<String>,
    /// The limit of a fetch: for the connection, and then again for the answer. 5 seconds by default. A
    /// `connect_timeout` of the settings takes its place for each host. The next fetch uses a connection that
    /// comes later.
    pub timeout: Duration,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            watch: WatchOptions::default(),
            grace: Duration::from_mins(5),
            name: None,
            timeout: Duration::from_secs(5),
        }
    }
}

impl CacheOptions {
    /// Without a time that a clock cannot count to.
    fn bounded(self) -> Self {
        let Self { watch, grace, name, timeout } = self;
        Self { watch: watch.bounded(), grace: grace.min(LONGEST), name, timeout: timeout.min(LONGEST) }
    }
}

/// A cache of an org's credentials. A value is invalidated as soon as a change of its key is announced.
///
/// The first [`get`](Self::get) of a key fetches the value. Later ones read it from memory without a lock,
/// until it changes; then the cache fetches the new value at once. See [Guarantees](crate#guarantees). Clones
/// share the cache; dropping the last clone closes the connections. All tasks of a cache run in the tokio runtime
/// that starts the cache, and the cache ends with that runtime. Callers may have runtimes of their own.
#[derive(Clone)]
pub struct CredentialCache(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    single_flight: Arc<SingleFlight>,
    follower: JoinHandle<()>,
}

impl CredentialCache {
    /// Starts a cache with two connections of its own, both with these settings: one that watches and stays
    /// open, and one that fetches and is opened when needed. Nothing is fetched yet.
    ///
    /// # Errors
    /// Those of [`Watcher::start`], which also says which settings are suitable. Once started, the cache
    /// reconnects with backoff and without limit.
    pub async fn start(settings: &Settings, options: CacheOptions) -> Result<Self, Error> {
        Self::start_with_clock(settings, options, Clock::default()).await
    }

    /// [`Self::start`] with a clock of a test.
    ///
    /// # Errors
    /// Those of [`Self::start`].
    #[doc(hidden)]
    pub async fn start_with_clock(
        settings: &Settings,
        options: CacheOptions,
        clock: Clock,
    ) -> Result<Self, Error> {
        let options = options.bounded();
        let source = Source::own(settings.clone(), options.timeout, Handle::current());
        Self::with_source(settings, source, options, clock).await
    }

    /// Starts a cache that fetches over a pool. `settings` are for the connection that watches. The pool must
    /// lead to the same database and org, and may go through a pooler in transaction mode.
    ///
    /// # Errors
    /// Those of [`Watcher::start`].
    #[cfg(feature = "pool")]
    pub async fn over_pool(
        settings: &Settings,
        pool: deadpool_postgres::Pool,
        options: CacheOptions,
    ) -> Result<Self, Error> {
        let options = options.bounded();
        let source = Source::pool(pool, settings.dbname(), options.timeout);
        Self::with_source(settings, source, options, Clock::default()).await
    }

    async fn with_source(
        settings: &Settings,
        source: Source,
        options: CacheOptions,
        clock: Clock,
    ) -> Result<Self, Error> {
        let CacheOptions { watch, grace, name, timeout } = options;
        let watcher = Watcher::start(settings, WatchOptions { initial: false, ..watch }).await?;
        let is_leased = !grace.is_zero();
        let permit = Arc::new(Permit::new(clock));
        let store = Arc::new(Store::new(permit.clone(), is_leased));
        store.apply_snapshot(&watcher.snapshot(), Authority::Final);
        let reporter = if is_leased {
            let primary = Primary::new(settings.clone(), watcher.access(), timeout);
            let terms = Terms { name: lease::name(name), lease: grace, interval: watch.heartbeat, timeout };
            let reporter = Reporter::start(store.clone(), permit, primary, terms);
            // Whether there are leases at all. Without an answer, `get` has the error.
            let _ = within(timeout, reporter.report_after(0)).await;
            Some(reporter)
        } else {
            permit.free();
            None
        };
        let runtime = Handle::current();
        let single_flight = Arc::new(SingleFlight::new(runtime, store.clone(), source, timeout, reporter));
        let following = Following(store.clone());
        let follower = tokio::spawn(follow(watcher, following, single_flight.clone(), grace));
        Ok(Self(Arc::new(Inner { store, single_flight, follower })))
    }

    /// Whether the cache holds a lease, so that `rotation_status` knows which revisions it uses.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.0.single_flight.reporter().map_or(Lease::Off, Reporter::lease)
    }

    /// Ends the lease and closes the connections, for all clones and handles, and waits for at most a second.
    /// Where the last clone is dropped, that is done without waiting; where the process ends before, the
    /// lease runs out.
    pub async fn close(self) {
        if let Some(reporter) = self.0.single_flight.reporter() {
            reporter.close().await;
        }
    }

    /// The current credential: from memory or, if it is not cached, from the server.
    ///
    /// # Errors
    /// [`Error::Refused`] with the code [`IntegrationNotFound`], [`IntegrationDisabled`] or
    /// [`CredentialsNotSet`], as soon as the watcher sees that state, even if a value was cached. Where the
    /// value is not cached, or the watcher has been disconnected for longer than [`CacheOptions::grace`], any
    /// error of connecting and reading.
    ///
    /// [`IntegrationNotFound`]: crate::ErrorCode::IntegrationNotFound
    /// [`IntegrationDisabled`]: crate::ErrorCode::IntegrationDisabled
    /// [`CredentialsNotSet`]: crate::ErrorCode::CredentialsNotSet
    pub async fn get(&self, key: &str) -> Result<Credential, Error> {
        let Inner { store, single_flight, .. } = &*self.0;
        if let Some(credential) = store.read(key) {
            return Ok(credential);
        }
        match store.refusal(key) {
            Some(refusal) => Err(refusal),
            None => single_flight.fetch(key).await.map(Into::into),
        }
    }

    /// [`Self::get`], with the revision, to be given to [`Self::reread`].
    pub async fn get_with_revision(&self, key: &str) -> Result<(Credential, i64), Error> {
        self.get(key).await.map(|credential| {
            let revision = credential.revision();
            (credential, revision)
        })
    }

    /// The credential to try after the vendor refused the one of revision `refused`: the cached credential if
    /// it has another revision, else a fresh read. The same revision again means that the database has no
    /// other credential.
    ///
    /// # Errors
    /// Those of [`Self::get`], and any error of connecting and reading.
    pub async fn reread(&self, key: &str, refused: i64) -> Result<Credential, Error> {
        let credential = self.get(key).await?;
        if credential.revision() != refused {
            return Ok(credential);
        }
        let fetched = self.0.single_flight.fetch(key).await?;
        if fetched.revision != refused {
            return Ok(fetched.into());
        }
        // That fetch may have been in flight since before the refusal.
        self.0.single_flight.fetch(key).await.map(Into::into)
    }

    /// Fetches all credentials of the org in one round trip, and returns how many were cached. A credential
    /// that cannot be decrypted is left out; [`Self::get`] returns its error.
    ///
    /// # Errors
    /// Any error of connecting and reading.
    pub async fn warm(&self) -> Result<usize, Error> {
        self.0.single_flight.fetch_all().await
    }

    /// The changes from now on, for a service that must act on them, for example reconnect.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes::new(self.0.store.clone())
    }
}

/// Shows no credential.
impl fmt::Debug for CredentialCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialCache").finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Now, because fetches in flight may hold the reporter.
        if let Some(reporter) = self.single_flight.reporter() {
            reporter.stop();
        }
        // The task owns the watcher.
        self.follower.abort();
    }
}

/// The values are used while somebody follows their changes.
struct Following(Arc<Store>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.expire_in(Duration::ZERO);
    }
}

/// Applies what the watcher reads to the store, and fetches the new values of invalidated keys. Ends with the runtime, or
/// with the cache.
async fn follow(
    mut watcher: Watcher,
    following: Following,
    single_flight: Arc<SingleFlight>,
    grace: Duration,
) {
    let store = &following.0;
    while let Some(event) = watcher.recv().await {
        match event.kind {
            EventKind::Synced { mode, .. } | EventKind::Reconnected { mode } => {
                let authority = match mode {
                    Mode::Listening => Authority::Final,
                    Mode::Polling => Authority::Current,
                };
                let outdated = store.apply_snapshot(&watcher.snapshot(), authority);
                if outdated.len() < MANY {
                    for key in outdated {
                        single_flight.start_later(&key);
                    }
                } else {
                    // A caller of `get` fetches a key that this did not, or not yet.
                    drop(single_flight.start_all());
                }
            }
            EventKind::Changed { key, .. }
            | EventKind::Removed { key, .. }
            | EventKind::Enabled { key, .. }
            | EventKind::Disabled { key, .. } => {
                let snapshot = watcher.snapshot();
                if store.apply(&key, snapshot.get(&key), Authority::Current) {
                    single_flight.start_later(&key);
                }
            }
            EventKind::Disconnected { since, .. } => {
                single_flight.reconnect();
                store.expire_in(grace.saturating_sub(since.0.elapsed().unwrap_or_default()));
            }
        }
    }
}
