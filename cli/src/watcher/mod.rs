//! Following the changes of an org's credentials.
//!
//! Postgres keeps no notification for a listener that is away, and any role may send one. So a notification is only a
//! hint to look: the watcher reads the keys that were named, compares them with what it knew, and reports what differs.
//! The whole list is read at the start, after a reconnect, once in a while without any hint (which is also how a dead
//! connection is found out), and when a hint cannot be understood. No change is missed, none is reported twice, a
//! forged notification reports nothing, and several changes between two looks collapse into the last.
//!
//! | module | concept |
//! | --- | --- |
//! | `snapshot` | the list as it was at one moment, and what differs from an earlier one |
//! | `dirty_keys` | what the notifications since the last look said to look at |
//! | `observe` | a session that listens for hints, or polls, and reads the list |
//! | `pooler` | whether a pooler in between loses notifications |
//! | `state` | all that the task knows and the reader may be told: a state, never a queue |
//! | `event` | what the reader is told |
//! | `options` | how often to look, and how long to wait |

mod dirty_keys;
mod event;
mod observe;
mod options;
mod pooler;
mod snapshot;
mod state;

pub use event::{Event, EventKind, Mode};
pub use options::WatchOptions;
pub use snapshot::{KeyState, Snapshot};

use crate::{Error, Settings, backoff::Backoff};
use observe::Observer;
use snapshot::Look;
use state::State;
use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

/// Before a session is begun again, at most: after the first failure, and after many.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream of [`Event`]s, on a connection of its own. Dropping it ends it.
///
/// The connection is kept up whether or not anybody reads: a slow reader holds up nothing, needs no more memory than
/// the list does, and is told the latest revision of each key that changed meanwhile.
#[derive(Debug)]
pub struct Watcher {
    views: watch::Receiver<State>,
    told: State,
    events: VecDeque<Event>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Starts watching. That the first connection fails is an error; later ones are tried again for ever.
    ///
    /// The settings must not lead through a pooler in transaction mode, which loses notifications: that is found out,
    /// and is [`Error::NotificationsLost`]. On a hot standby, where Postgres refuses to listen, the watcher looks every
    /// [`WatchOptions::poll`] instead, until the standby is promoted; see [`Mode`].
    pub async fn start(settings: &Settings, options: WatchOptions) -> Result<Self, Error> {
        let mut settings = settings.clone();
        settings.connect_timeout.get_or_insert(CONNECT_TIMEOUT);
        let (mut observer, first) = Observer::start(&settings, options).await?;
        let view = State::first(&first, observer.mode());
        let events = view.introduction(options.initial).into();
        let (publisher, views) = watch::channel(view.clone());
        let task = tokio::spawn(async move {
            tokio::select! {
                never = follow(&settings, options, &mut observer, &publisher) => match never {},
                () = publisher.closed() => {}
            }
            observer.close().await;
        });
        Ok(Self { views, told: view, events, task })
    }

    /// The next event. Safe to cancel. `None` only if the runtime is shutting down.
    pub async fn recv(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            self.views.changed().await.ok()?;
            let view = self.views.borrow_and_update().clone();
            self.events = view.events_since(&self.told).into();
            self.told = view;
        }
    }

    /// The list, at least as new as the last event that was received.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.told.snapshot.clone()
    }

    /// How changes come in, as of the last event that was received.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.told.mode
    }

    /// Takes leave of the server. Dropping the watcher does so too, without waiting for it.
    pub async fn close(self) {
        drop(self.views);
        // It fails only if the runtime is shutting down.
        let _ = self.task.await;
    }
}

async fn follow(
    settings: &Settings,
    options: WatchOptions,
    observer: &mut Observer,
    views: &watch::Sender<State>,
) -> Infallible {
    let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
    loop {
        let Ended { lost, was_healthy } = watch(observer, views).await;
        observer.abort();
        views.send_modify(|view| view.disconnect(lost));
        if was_healthy {
            backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        }
        let look;
        (*observer, look) = reconnect(settings, options, &mut backoff, views).await;
        let mode = observer.mode();
        views.send_modify(|view| view.reconnect(&look, mode));
    }
}

/// How a session ended.
struct Ended {
    lost: Error,
    /// Whether it answered more than it was begun with. That proves that the trouble before it is over; how long it stood
    /// does not, for a server that has fallen silent is found out late.
    was_healthy: bool,
}

/// Looks again and again, until the connection is lost.
async fn watch(observer: &mut Observer, views: &watch::Sender<State>) -> Ended {
    let mut was_healthy = false;
    loop {
        match observer.next_look().await {
            Ok(look) => {
                was_healthy = true;
                views.send_if_modified(|view| view.update(&look));
            }
            Err(lost) => return Ended { lost, was_healthy },
        }
    }
}

/// Tries until it succeeds. What stands in the way is told where it is another thing than the reader knows of.
async fn reconnect(
    settings: &Settings,
    options: WatchOptions,
    backoff: &mut Backoff,
    views: &watch::Sender<State>,
) -> (Observer, Look) {
    loop {
        sleep(backoff.next_delay()).await;
        match Observer::start(settings, options).await {
            Ok(started) => return started,
            Err(error @ Error::NotificationsLost) => views.send_modify(|view| view.disconnect(error)),
            // The server is not back yet.
            Err(_) => {}
        }
    }
}
