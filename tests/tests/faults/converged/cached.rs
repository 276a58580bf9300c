//! The library's caches, with callers who keep their handles for a while.

use super::simulated::Clock;
use crate::observers::{patiently, settings};
use fastrand::Rng;
use intcred::{CacheOptions, Credential, CredentialCache, WatchOptions, testing};
use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Longer than a read ever takes.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Cached {
    cache: CredentialCache,
    handles: Arc<Mutex<Vec<(String, Credential)>>>,
    reads: Arc<AtomicUsize>,
    callers: Vec<JoinHandle<()>>,
}

/// For a cache that notices within two seconds that a connection is dead.
pub fn options(lease: Duration, name: &str) -> CacheOptions {
    let watch = WatchOptions {
        initial: false,
        heartbeat: Duration::from_millis(500),
        timeout: Duration::from_secs(1),
        poll: Duration::from_millis(50),
    };
    CacheOptions { watch, grace: lease, name: Some(name.to_owned()), timeout: Duration::from_secs(2) }
}

impl Cached {
    pub async fn start(dsn: &str, lease: Duration, keys: &[String], mut random: Rng) -> Self {
        let clock = Clock::random(&mut random, 0.004);
        let cache = patiently(async || {
            let clock = testing::Clock::of(move || clock.now());
            CredentialCache::start_with_clock(&settings(dsn), options(lease, "cached"), clock).await
        });
        let cache = cache.await.unwrap();
        Self::of(cache, lease, keys, random)
    }

    pub fn of(cache: CredentialCache, lease: Duration, keys: &[String], mut random: Rng) -> Self {
        let (handles, reads) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicUsize>::default());
        let callers = (0..3).map(|_| {
            let caller = Caller {
                cache: cache.clone(),
                handles: handles.clone(),
                reads: reads.clone(),
                keys: keys.to_vec(),
                lease,
                random: random.fork(),
            };
            tokio::spawn(caller.call())
        });
        let callers = callers.collect();
        Self { cache, handles, reads, callers }
    }

    /// How many values were read.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// The oldest revision of a key that may be used at this moment, by a handle or a read from memory.
    pub fn oldest(&self, key: &str) -> Option<i64> {
        let can_use = |credential: &Credential| credential.expose().is_ok().then(|| credential.revision());
        let handles = self.handles.lock().unwrap();
        let held = handles.iter().filter(|(of, _)| of == key).filter_map(|(_, held)| can_use(held)).min();
        let mut context = Context::from_waker(Waker::noop());
        let read = match pin!(self.cache.get(key)).poll(&mut context) {
            Poll::Ready(Ok(credential)) => can_use(&credential),
            _ => None,
        };
        held.into_iter().chain(read).min()
    }
}

impl Drop for Cached {
    fn drop(&mut self) {
        self.callers.iter().for_each(JoinHandle::abort);
    }
}

struct Caller {
    cache: CredentialCache,
    handles: Arc<Mutex<Vec<(String, Credential)>>>,
    reads: Arc<AtomicUsize>,
    keys: Vec<String>,
    lease: Duration,
    random: Rng,
}

impl Caller {
    async fn call(mut self) {
        loop {
            let key = self.random.choice(&self.keys).unwrap().clone();
            let got = timeout(PATIENCE, self.cache.get(&key)).await.unwrap_or_else(|_| panic!("{key} hangs"));
            if let Ok(credential) = got {
                self.reads.fetch_add(1, Ordering::Relaxed);
                let mut handles = self.handles.lock().unwrap();
                // Most callers need it for a moment.
                if handles.len() < 4 && self.random.u8(..8) == 0 {
                    handles.push((key, credential));
                }
            }
            if self.random.u8(..4) == 0 {
                let mut handles = self.handles.lock().unwrap();
                if !handles.is_empty() {
                    handles.remove(0);
                }
            }
            sleep(self.lease.mul_f64(self.random.f64() / 50.0)).await;
        }
    }
}
