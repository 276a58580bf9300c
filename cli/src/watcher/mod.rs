//! Following the changes of an org's credentials.
//!
//! Postgres keeps no notification for a listener that is away, and any role may send one. So a notification
//! only marks a key as dirty: the watcher reads the dirty keys, compares them with its snapshot, and reports
//! the differences. The watcher reads the whole list at the start, after a reconnect, at each heartbeat, and
//! when it cannot parse a notification. The heartbeat also detects a dead connection. No change is missed,
//! and none is reported twice. A forged notification reports nothing. Several changes between two queries
//! collapse into the last.
//!
//! | module | concept |
//! | --- | --- |
//! | `options` | how often to query, and the timeout |
//! | `event` | an event that a watcher reports |
//! | `snapshot` | the list at one moment, and its differences from an earlier one |
//! | `dirty_keys` | the keys that notifications named since the last query |
//! | `pooler` | whether a pooler drops notifications |
//! | `observe` | a session that listens, or polls, and reads the list |
//! | `state` | the state that the task publishes, and the events between two states |

mod dirty_keys;
mod event;
mod observe;
mod options;
pub(crate) mod pooler;
mod snapshot;
mod state;

pub use event::{Event, EventKind, Mode};
pub use options::WatchOptions;
pub use snapshot::{KeyState, Snapshot};

use crate::{Error, Settings, backoff::Backoff, lease::Access};
use observe::Observer;
use snapshot::Listing;
use state::State;
use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

/// The backoff between two attempts to reconnect.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream of [`Event`]s, on a connection of its own. Dropping the watcher closes the connection.
///
/// A task drives the connection, whether or not [`recv`](Self::recv) is called. A slow reader delays nothing,
/// needs no more memory than the list, and gets the latest revision of each key that changed.
#[derive(Debug)]
pub struct Watcher {
    states: watch::Receiver<State>,
    reported: State,
    events: VecDeque<Event>,
    access: watch::Receiver<Access>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Connects, and reads the list. Later the watcher reconnects without limit, with a backoff of up to 10
    /// seconds.
    ///
    /// `connect_timeout` is the limit for each address, 10 seconds by default. While the watcher reconnects,
    /// each failed attempt doubles the limit of a login, up to a minute: a server that has restarted may have
    /// many to carry out. The limit for reaching the address stays.
    ///
    /// On a hot standby, where Postgres refuses LISTEN, the watcher polls every [`WatchOptions::poll`] until
    /// the standby is promoted; see [`Mode`].
    ///
    /// # Errors
    /// Any error of the first connection. [`Error::NotificationsLost`] if the settings lead through a pooler
    /// in transaction mode, which drops notifications.
    pub async fn start(settings: &Settings, options: WatchOptions) -> Result<Self, Error> {
        let (mut settings, options) = (settings.clone(), options.bounded());
        settings.connect_timeout.get_or_insert(CONNECT_TIMEOUT);
        let (mut observer, first) = Observer::start(&settings, options).await?;
        let state = State::first(&first, observer.mode());
        let events = state.first_events(options.initial).into();
        let (publisher, states) = watch::channel(state.clone());
        let (accesses, access) = watch::channel(observer.access());
        let task = tokio::spawn(async move {
            tokio::select! {
                never = follow(&settings, options, &mut observer, &publisher, &accesses) => match never {},
                () = publisher.closed() => {}
            }
            drop(accesses);
            observer.close().await;
        });
        Ok(Self { states, reported: state, events, access, task })
    }

    /// The next event. Safe to cancel. Returns `None` only while the runtime shuts down.
    pub async fn recv(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            self.states.changed().await.ok()?;
            let state = self.states.borrow_and_update().clone();
            self.events = state.events_since(&self.reported).into();
            self.reported = state;
        }
    }

    /// The list, as of the last event that was received.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.reported.snapshot.clone()
    }

    /// Whether the watcher listens or polls, as of the last event that was received.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.reported.mode
    }

    /// The session, for the reports of the same process.
    pub(crate) fn access(&self) -> watch::Receiver<Access> {
        self.access.clone()
    }

    /// Closes the connection, and waits for at most a second. Dropping the watcher closes it without waiting.
    pub async fn close(self) {
        drop((self.states, self.access));
        // Fails only while the runtime shuts down.
        let _ = self.task.await;
    }
}

async fn follow(
    settings: &Settings,
    options: WatchOptions,
    observer: &mut Observer,
    states: &watch::Sender<State>,
    accesses: &watch::Sender<Access>,
) -> Infallible {
    let mut settings = settings.clone();
    let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
    loop {
        let Ended { lost, was_healthy } = watch(observer, states).await;
        observer.abort();
        accesses.send_modify(|access| access.lose(&lost));
        states.send_modify(|state| state.disconnect(lost));
        if was_healthy {
            backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
            settings.count_attempt(true);
        }
        let listing;
        (*observer, listing) = reconnect(&mut settings, options, &mut backoff, states, accesses).await;
        let mode = observer.mode();
        states.send_modify(|state| state.reconnect(&listing, mode));
        accesses.send_replace(observer.access());
    }
}

/// How a session ended.
struct Ended {
    lost: Error,
    /// Whether the server answered a query after the first, which proves that the outage before was over. A
    /// long session proves nothing: a server that no longer answers is detected late.
    was_healthy: bool,
}

/// Publishes each change, until the connection is lost.
async fn watch(observer: &mut Observer, states: &watch::Sender<State>) -> Ended {
    let mut was_healthy = false;
    loop {
        match observer.next_listing().await {
            Ok(listing) => {
                was_healthy = true;
                states.send_if_modified(|state| state.update(&listing));
            }
            Err(lost) => return Ended { lost, was_healthy },
        }
    }
}

/// Reconnects with backoff. Publishes only a reason that differs from that of the outage: a pooler drops
/// notifications.
async fn reconnect(
    settings: &mut Settings,
    options: WatchOptions,
    backoff: &mut Backoff,
    states: &watch::Sender<State>,
    accesses: &watch::Sender<Access>,
) -> (Observer, Listing) {
    loop {
        sleep(backoff.next_delay()).await;
        match Observer::start(settings, options).await {
            Ok(started) => return started,
            // The server answers, but the watcher cannot follow: reports need not wait for it.
            Err(Error::Refused { .. }) => drop(accesses.send_replace(Access::Disconnected)),
            Err(error @ Error::NotificationsLost) => {
                accesses.send_replace(Access::Disconnected);
                states.send_modify(|state| state.disconnect(error));
            }
            // The outage goes on; the reader knows its reason.
            Err(_) => {}
        }
        settings.count_attempt(false);
    }
}
