//! Everybody who must agree with the database in the end, and never contradict it before.

use crate::{
    readers::Cached,
    reports::Watched,
    scene::{Scene, pool},
    truth::{self, History, State},
};
use deadpool_postgres::Pool;
use intcred::{CacheOptions, CredentialCache, Error, EventKind, Settings, WatchOptions, Watcher};
use std::{
    collections::BTreeMap,
    io::{Write, stdout},
    time::Duration,
};
use tests::Database;
use tokio::time::{Instant, sleep, timeout};

/// By notifications, and not by the heartbeat.
pub const BY_NOTIFICATION: WatchOptions =
    watch(Duration::from_mins(10), Duration::from_secs(10), Duration::from_millis(50));
/// Where connections die without a word.
pub const VIGILANT: WatchOptions =
    watch(Duration::from_millis(500), Duration::from_secs(1), Duration::from_millis(50));

/// Longer than the busiest machine takes for an answer.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long all may take to agree after an outage that is short. Less than the heartbeat of [`BY_NOTIFICATION`].
pub const LIMIT: Duration = Duration::from_mins(1);

const fn watch(heartbeat: Duration, timeout: Duration, poll: Duration) -> WatchOptions {
    WatchOptions { initial: true, heartbeat, timeout, poll }
}

/// Starts a watcher or a cache, again if a busy machine does not answer in the time of its options.
pub async fn patiently<T>(start: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    let since = Instant::now();
    loop {
        match start().await {
            Err(Error::Disconnected { .. } | Error::Connect { .. }) if since.elapsed() < PATIENCE => {}
            started => return started,
        }
    }
}

/// Waits until something is so.
pub async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let poll = async {
        while !is_so().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, poll).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Caches with their readers, and watchers.
pub struct Observers {
    keys: Vec<String>,
    cached: Vec<Cached>,
    watched: Vec<Watched>,
}

impl Observers {
    pub fn none(scene: &Scene) -> Self {
        Self { keys: scene.keys.clone(), cached: Vec::new(), watched: Vec::new() }
    }

    /// A watcher, a cache, and a cache over a pool, all straight to the server.
    pub async fn direct(scene: &Scene) -> Self {
        let mut observers = Self::none(scene);
        let dsn = scene.reader();
        observers.watch("watcher", &dsn, BY_NOTIFICATION).await;
        observers.cache("cache", &dsn, BY_NOTIFICATION).await;
        observers.cache_over("cache over a pool", &dsn, pool(&dsn), BY_NOTIFICATION).await;
        observers
    }

    pub async fn watch(&mut self, name: &str, dsn: &str, options: WatchOptions) {
        let watcher = patiently(async || Watcher::start(&settings(dsn), options).await).await.unwrap();
        self.watched.push(Watched::start(name, watcher));
    }

    pub async fn cache(&mut self, name: &str, dsn: &str, watch: WatchOptions) {
        let start = async || CredentialCache::start(&settings(dsn), cache_options(watch)).await;
        let cache = patiently(start).await.unwrap();
        self.cached.push(Cached::start(name, cache, &self.keys));
    }

    /// A cache that watches by the DSN and fetches over the pool.
    pub async fn cache_over(&mut self, name: &str, dsn: &str, pool: Pool, watch: WatchOptions) {
        let start =
            async || CredentialCache::over_pool(&settings(dsn), pool.clone(), cache_options(watch)).await;
        let cache = patiently(start).await.unwrap();
        self.cached.push(Cached::start(name, cache, &self.keys));
    }

    /// What a watcher reported so far.
    pub fn told(&self, name: &str) -> Vec<EventKind> {
        self.watched.iter().find(|watched| watched.name == name).expect("there is such a watcher").told()
    }

    /// Waits until everybody agrees with the database, to which nothing happens any more. Panics unless that is within
    /// the limit, and nobody ever contradicted it. Prints how long it took since then.
    pub async fn settle(&self, what: &str, since: Instant, limit: Duration, database: &Database) {
        let superuser = database.superuser().await;
        let truth = truth::current(&superuser).await;
        assert_eq!(truth.len(), self.keys.len());
        while let Some(difference) = self.difference(&truth).await {
            assert!(since.elapsed() < limit, "{what}: {difference}");
            sleep(Duration::from_millis(2)).await;
        }
        let took = since.elapsed();

        let history = History::read(&superuser).await;
        for watched in &self.watched {
            watched.assert_true(&history);
        }
        for cached in &self.cached {
            cached.assert_in_order();
        }
        let all = self.cached.len() + self.watched.len();
        let reads: usize = self.cached.iter().map(Cached::reads).sum();
        let changes: i64 = truth.values().map(|state| state.revision).sum();
        let took = took.as_millis();
        print(&format!("{what}: all {all} agree after {took} ms ({changes} revisions, {reads} reads)"));
    }

    async fn difference(&self, truth: &BTreeMap<String, State>) -> Option<String> {
        if let Some(difference) = self.watched.iter().find_map(|watched| watched.difference(truth)) {
            return Some(difference);
        }
        for cached in &self.cached {
            if let Some(difference) = cached.difference(truth).await {
                return Some(difference);
            }
        }
        None
    }
}

/// Prints a line. What is printed with println! is shown only if the test fails.
pub fn print(line: &str) {
    stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}

pub fn settings(dsn: &str) -> Settings {
    Settings::resolve(Some(dsn)).unwrap()
}

/// What is in memory is used for a short while without word from the server.
pub fn cache_options(watch: WatchOptions) -> CacheOptions {
    CacheOptions {
        watch,
        grace: Duration::from_millis(300),
        timeout: Duration::from_secs(2),
        ..CacheOptions::default()
    }
}
