//! One fetch of a key for all callers that wait for it.

use super::{
    credential::Entry,
    source::Source,
    store::{Admission, Store},
};
use crate::{Error, deadline::within, lease::Reporter};
use std::{
    collections::{HashMap, hash_map::Entry as Slot},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

/// Before a fetch is repeated, because the key changed during it or the server was behind. Doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// How long a value that nobody asks for waits for a report.
const LATER: Duration = Duration::from_millis(100);

type Outcome = Result<Arc<Entry>, Error>;
type Pending = watch::Receiver<Option<Outcome>>;

/// The fetches in flight. A fetch goes on when its callers no longer wait, in the runtime of the cache.
pub(super) struct SingleFlight {
    runtime: Handle,
    store: Arc<Store>,
    source: Source,
    /// For how long a fetch is repeated.
    limit: Duration,
    /// `None` where no lease is asked for.
    reporter: Option<Reporter>,
    in_flight: Mutex<HashMap<String, Pending>>,
}

impl SingleFlight {
    pub fn new(
        runtime: Handle,
        store: Arc<Store>,
        source: Source,
        limit: Duration,
        reporter: Option<Reporter>,
    ) -> Self {
        Self { runtime, store, source, limit, reporter, in_flight: Mutex::default() }
    }

    pub fn reporter(&self) -> Option<&Reporter> {
        self.reporter.as_ref()
    }

    /// Closes the connection that fetches, after the watcher lost its own: the connection may be dead too, or
    /// lead to a server that is no longer the primary.
    pub fn reconnect(&self) {
        self.source.reconnect();
    }

    /// Waits for the one fetch of this key.
    pub async fn fetch(self: &Arc<Self>, key: &str) -> Outcome {
        let entry = self.outcome(key).await?;
        if self.store.is_behind(key, entry.revision) {
            // That fetch began before a change that the caller may know of. This one does not.
            return self.outcome(key).await;
        }
        Ok(entry)
    }

    async fn outcome(self: &Arc<Self>, key: &str) -> Outcome {
        let mut pending = self.start(key);
        let outcome = pending.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| Err(ended()))
    }

    /// Starts to fetch a key, unless a fetch is in flight.
    pub fn start(self: &Arc<Self>, key: &str) -> Pending {
        let (sender, pending) = watch::channel(None);
        let key = match self.in_flight().entry(key.to_owned()) {
            Slot::Occupied(in_flight) => return in_flight.get().clone(),
            Slot::Vacant(slot) => {
                let key = slot.key().clone();
                slot.insert(pending.clone());
                key
            }
        };
        let flight = Flight { of: self.clone(), key, outcome: None, sender };
        // A runtime that has ended drops the task at once.
        self.runtime.spawn(async move {
            let outcome = flight.of.fetch_current(&flight.key).await;
            flight.land(outcome);
        });
        pending
    }

    /// Starts to fetch a key whose value was dropped, once the server knows that it was: the rotation may
    /// wait for that. Whoever asks for the value does not wait.
    pub fn start_later(self: &Arc<Self>, key: &str) {
        let (single_flight, key) = (self.clone(), key.to_owned());
        self.runtime.spawn(async move {
            if let (Some(number), Some(reporter)) =
                (single_flight.store.has_to_report(), &single_flight.reporter)
            {
                // Without a report, the fetch says why.
                let _ = within(LATER, reporter.report_after(number)).await;
            }
            drop(single_flight.start(&key));
        });
    }

    async fn fetch_current(&self, key: &str) -> Outcome {
        let deadline = Instant::now() + self.limit;
        let mut pause = FIRST_PAUSE;
        let mut may_reconnect = true;
        loop {
            let version = self.store.version();
            let fetched = self.reported(self.store.must_report(key), self.source.fetch(key)).await;
            let outcome = match fetched {
                Ok(fetched) => match self.store.admit(version, fetched)? {
                    Admission::Cached(entry) => return Ok(entry),
                    Admission::NotCached(entry) => Ok(entry),
                    Admission::Behind(error) => Err(error),
                },
                // The server may have restarted since the connection was last used.
                Err(Error::Disconnected { .. }) if may_reconnect => {
                    may_reconnect = false;
                    continue;
                }
                // The refusal may be out of date: the key changed during the fetch.
                Err(error) if error.code().is_some() && self.store.has_changed(key, version) => Err(error),
                Err(error) => {
                    self.store.forget(key);
                    return Err(error);
                }
            };
            if Instant::now() >= deadline {
                return outcome;
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    /// Waits for [`Self::start_all`].
    pub async fn fetch_all(self: &Arc<Self>) -> Result<usize, Error> {
        self.start_all().await.unwrap_or_else(|_| Err(ended()))
    }

    /// Starts to fetch all credentials in one round trip. Returns how many were cached. A key that changes during
    /// the fetch is not cached.
    pub fn start_all(self: &Arc<Self>) -> JoinHandle<Result<usize, Error>> {
        let single_flight = self.clone();
        self.runtime.spawn(async move { single_flight.fetch_all_current().await })
    }

    async fn fetch_all_current(&self) -> Result<usize, Error> {
        let mut may_reconnect = true;
        let (version, all) = loop {
            let version = self.store.version();
            match self.reported(self.store.must_report_all(), self.source.fetch_all()).await {
                Err(Error::Disconnected { .. }) if may_reconnect => may_reconnect = false,
                all => break (version, all?),
            }
        };
        let mut cached = 0;
        for fetched in all {
            cached += usize::from(matches!(self.store.admit(version, fetched)?, Admission::Cached(_)));
        }
        Ok(cached)
    }

    /// Fetches and, at the same time, waits for a report later than that of the number.
    async fn reported<T>(
        &self,
        number: Option<u64>,
        fetch: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let (Some(number), Some(reporter)) = (number, &self.reporter) else { return fetch.await };
        let report = within(self.limit, reporter.report_after(number));
        let (fetched, outcome) = tokio::join!(fetch, report);
        // The refusal of a fetch says more than a report that failed.
        let fetched = fetched?;
        outcome??;
        Ok(fetched)
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<String, Pending>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fetch in flight. However its task ends, the next caller starts another.
struct Flight {
    of: Arc<SingleFlight>,
    key: String,
    outcome: Option<Outcome>,
    sender: watch::Sender<Option<Outcome>>,
}

impl Flight {
    fn land(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.of.in_flight().remove(&self.key);
        self.sender.send_replace(self.outcome.take());
    }
}

/// The task of a fetch has ended without an outcome.
fn ended() -> Error {
    Error::Unexpected("the runtime that the cache was started in has ended".to_owned())
}
