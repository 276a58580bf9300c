//! The connection of a cache's own, for its fetches.

use crate::{Error, Settings, deadline::within, session::Session, watcher::pooler};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{runtime::Handle, sync::watch};

/// Opened by the first fetch, and again after it broke.
///
/// A task opens the session, and goes on when no fetch waits any more: a login that is given up costs the server
/// about as much, and the next one queues behind it. The task and the session belong to the runtime of the cache, which
/// goes on when that of a caller ends.
pub(super) struct Own {
    state: Mutex<State>,
    runtime: Handle,
    /// For what follows the login.
    limit: Duration,
    /// For a fetch that waits for the session.
    patience: Duration,
    /// For the error of a fetch that has waited for long enough.
    targets: String,
}

struct State {
    settings: Settings,
    opening: Option<Opening>,
}

/// A session, or why there is none, once that is known.
type Opening = watch::Receiver<Option<Result<Arc<Session>, Error>>>;

impl Own {
    pub fn new(mut settings: Settings, limit: Duration, runtime: Handle) -> Self {
        let each = *settings.connect_timeout.get_or_insert(limit);
        let patience = settings.targets.iter().map(|_| each).sum();
        let targets: Vec<_> = settings.targets.iter().map(ToString::to_string).collect();
        let state = Mutex::new(State { settings, opening: None });
        Self { state, runtime, limit, patience, targets: targets.join(",") }
    }

    pub async fn session(&self) -> Result<Arc<Session>, Error> {
        let mut opening = self.opening();
        let lost = |reason| Error::Connect { target: self.targets.clone(), reason };
        match within(self.patience, opening.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or_else(|| Err(lost("no outcome".to_owned()))),
            Ok(Err(_)) => Err(lost("the runtime of the cache has ended".to_owned())),
            Err(late) => Err(lost(late.to_string())),
        }
    }

    /// Closes the session, if there is one.
    pub fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_open = |opening: &mut Opening| matches!(*opening.borrow(), Some(Ok(_)));
        if let Some(opening) = state.opening.take_if(is_open)
            && let Some(Ok(session)) = &*opening.borrow()
        {
            state.settings.count_attempt(true);
            session.abort();
        }
    }

    /// The session that there is, or that is being opened, or a new one.
    fn opening(&self) -> Opening {
        let State { settings, opening } = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opening) = opening {
            match &*opening.borrow() {
                Some(Ok(session)) if session.is_closed() => settings.count_attempt(true),
                Some(Err(_)) => settings.count_attempt(false),
                // Its task has ended without an outcome, by a panic or with its runtime.
                None if opening.has_changed().is_err() => {}
                None | Some(Ok(_)) => return opening.clone(),
            }
        }
        let (sender, outcome) = watch::channel(None);
        let (settings, limit) = (settings.clone(), self.limit);
        self.runtime.spawn(async move {
            tokio::select! {
                opened = open(&settings, limit) => drop(sender.send_replace(Some(opened))),
                // The cache is gone.
                () = sender.closed() => {}
            }
        });
        opening.insert(outcome).clone()
    }
}

async fn open(settings: &Settings, limit: Duration) -> Result<Arc<Session>, Error> {
    let session = Session::open(settings, drop).await?;
    let prepared = async {
        if !pooler::is_between(&session).await? {
            session.keep_plans().await?;
        }
        Ok(())
    };
    match within(limit, prepared).await.unwrap_or_else(|late| Err(late.into())) {
        Ok(()) => Ok(Arc::new(session)),
        Err(error) => {
            // Not closed: the session may wait for an answer that never comes.
            session.abort();
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use tokio::runtime::{Builder, Runtime};

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn opening_goes_on_in_the_runtime_of_the_cache_and_ends_with_it() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let dsn = format!("host=127.0.0.1 port={port} user=u sslmode=disable");
        let settings = Settings::resolve(Some(&dsn)).unwrap();
        let (of_cache, of_caller) = (runtime(), runtime());
        let own = Own::new(settings, Duration::from_secs(1), of_cache.handle().clone());
        let reason = |patience: Duration| {
            of_caller.block_on(async { within(patience, own.session()).await.map(Result::err) })
        };
        silent.set_nonblocking(true).unwrap();
        let _ = reason(Duration::from_millis(20));
        assert!(silent.accept().is_err(), "nobody drives the runtime of the cache");
        of_cache
            .block_on(async { within(Duration::from_secs(10), own.session()).await })
            .unwrap()
            .map(drop)
            .unwrap_err();
        assert!(silent.accept().is_ok() && silent.accept().is_err(), "one login served both callers");
        drop(of_cache);
        let reason = reason(Duration::from_secs(10)).unwrap().unwrap().to_string();
        assert!(reason.contains("the runtime of the cache has ended"), "{reason}");
    }
}
