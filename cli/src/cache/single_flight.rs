//! Fetching a key once, for all who ask for it meanwhile.

use super::{
    credential::Entry,
    source::Source,
    store::{Settled, Store},
};
use crate::Error;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

/// How long to wait before asking again for what has changed meanwhile, or has not got to the server yet; then twice
/// as long.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

type Outcome = Result<Arc<Entry>, Error>;
type Flight = watch::Receiver<Option<Outcome>>;

/// What is being fetched. A fetch goes on when those who wait for it no longer do.
pub(super) struct Flights {
    store: Arc<Store>,
    source: Source,
    limit: Duration,
    in_flight: Mutex<HashMap<String, Flight>>,
}

impl Flights {
    pub fn new(store: Arc<Store>, source: Source, limit: Duration) -> Self {
        Self { store, source, limit, in_flight: Mutex::default() }
    }

    /// Has the next fetch use another connection: where the watcher's was lost, that one may be, too, or lead to a server
    /// that others have left.
    pub fn reconnect(&self) {
        self.source.reconnect();
    }

    /// Waits for the one fetch of this key.
    pub async fn fetch(self: &Arc<Self>, key: &str) -> Outcome {
        let mut flight = self.start(key);
        let outcome = flight.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| Err(Error::Unexpected("the fetch was given up".to_owned())))
    }

    /// Fetches a key, unless that is being done.
    pub fn start(self: &Arc<Self>, key: &str) -> Flight {
        let mut in_flight = self.in_flight();
        if let Some(flight) = in_flight.get(key) {
            return flight.clone();
        }
        let (landing, flight) = watch::channel(None);
        in_flight.insert(key.to_owned(), flight.clone());
        let (flights, key) = (self.clone(), key.to_owned());
        tokio::spawn(async move {
            let outcome = flights.fly(&key).await;
            flights.in_flight().remove(&key);
            landing.send_replace(Some(outcome));
        });
        flight
    }

    async fn fly(&self, key: &str) -> Outcome {
        let deadline = Instant::now() + self.limit;
        let mut pause = FIRST_PAUSE;
        let mut may_reconnect = true;
        loop {
            let time = self.store.time();
            let outcome = match self.source.fetch(key).await {
                Ok(fetched) => match self.store.settle(time, fetched)? {
                    Settled::Kept(entry) => return Ok(entry),
                    Settled::Passing(entry) => Ok(entry),
                    Settled::Behind(error) => Err(error),
                },
                // The server may have been restarted since the connection was last used.
                Err(Error::Disconnected { .. }) if may_reconnect => {
                    may_reconnect = false;
                    continue;
                }
                // It was set while it was found missing.
                Err(error) if error.code().is_some() && self.store.has_changed(key, time) => Err(error),
                Err(error) => return Err(error),
            };
            if Instant::now() >= deadline {
                return outcome;
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    /// Fetches all in one round trip. Returns how many are in the cache now by this; those that change meanwhile are
    /// left to their own fetches.
    pub async fn fetch_all(&self) -> Result<usize, Error> {
        let mut may_reconnect = true;
        let (time, all) = loop {
            let time = self.store.time();
            match self.source.fetch_all().await {
                Err(Error::Disconnected { .. }) if may_reconnect => may_reconnect = false,
                all => break (time, all?),
            }
        };
        let mut kept = 0;
        for fetched in all {
            kept += usize::from(matches!(self.store.settle(time, fetched)?, Settled::Kept(_)));
        }
        Ok(kept)
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<String, Flight>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
