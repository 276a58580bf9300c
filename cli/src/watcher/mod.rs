//! Following the changes of an org's credentials.
//!
//! Postgres keeps no notification for a listener that is away, and any role may send one. So a notification is only a
//! hint to look: the watcher reads the list, compares it with the one it had, and reports what differs. That is all
//! there is to it, at the start, while it runs, after a reconnect, and once in a while without any hint, which is also
//! how a dead connection is found out. No change is missed, none is reported twice, a forged notification reports
//! nothing, and several changes between two looks collapse into the last.

mod backoff;
mod event;
mod observe;
mod snapshot;

pub use event::{Event, EventKind};

use crate::{Error, Settings};
use backoff::Backoff;
use observe::Observer;
use snapshot::Snapshot;
use std::time::{Duration, Instant};
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};

/// A session that has stood this long proves that the trouble before it is over.
const STABLE: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How far the watcher runs ahead of its reader. Then it waits, and changes collapse in the database.
const BACKLOG: usize = 64;

/// How to watch.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// Whether to report each credential that is there at the start as changed.
    pub initial: bool,
    /// How often to look without a hint.
    pub heartbeat: Duration,
    /// How long to wait for an answer before the connection counts as dead.
    pub timeout: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self { initial: false, heartbeat: Duration::from_secs(15), timeout: Duration::from_secs(10) }
    }
}

/// A stream of [`Event`]s, on a connection of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Watcher {
    events: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Starts watching. That the first connection fails is an error; later ones are tried again for ever.
    pub async fn start(settings: &Settings, options: WatchOptions) -> Result<Self, Error> {
        let mut settings = settings.clone();
        settings.connect_timeout.get_or_insert(CONNECT_TIMEOUT);
        let mut observer = Observer::start(&settings, options.timeout).await?;
        let first = observer.look().await?;
        let (sender, events) = mpsc::channel(BACKLOG);
        let task = tokio::spawn(async move {
            tokio::select! {
                // It only ends when nobody receives any more, and notices that when there is something to send.
                _ = follow(&settings, options, &mut observer, first, &sender) => {}
                () = sender.closed() => {}
            }
            observer.close().await;
        });
        Ok(Self { events, task })
    }

    /// The next event. Safe to cancel. `None` only if the runtime is shutting down.
    pub async fn recv(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Takes leave of the server. Dropping the watcher does so too, without waiting for it.
    pub async fn close(mut self) {
        self.events.close();
        // It fails only if the runtime is shutting down.
        let _ = self.task.await;
    }
}

type Sent = Result<(), mpsc::error::SendError<Event>>;

async fn follow(
    settings: &Settings,
    options: WatchOptions,
    observer: &mut Observer,
    first: Snapshot,
    events: &mpsc::Sender<Event>,
) -> Sent {
    events.send(EventKind::Synced { org: first.org.clone(), keys: first.len() }.now()).await?;
    if options.initial {
        report(first.changes_since(&Snapshot::default()), events).await?;
    }
    let mut known = first;
    let mut backoff = Backoff::default();
    loop {
        let since = Instant::now();
        let lost = watch(observer, options.heartbeat, &mut known, events).await?;
        observer.abort();
        let reason = match lost {
            Error::Disconnected { reason } => reason,
            other => other.to_string(),
        };
        events.send(EventKind::Disconnected { reason }.now()).await?;
        if since.elapsed() >= STABLE {
            backoff = Backoff::default();
        }
        let seen;
        (*observer, seen) = reconnect(settings, options.timeout, &mut backoff).await;
        events.send(EventKind::Reconnected.now()).await?;
        report(seen.changes_since(&known), events).await?;
        known = seen;
    }
}

/// Looks again and again, until the connection is lost; returns why it was.
async fn watch(
    observer: &mut Observer,
    heartbeat: Duration,
    known: &mut Snapshot,
    events: &mpsc::Sender<Event>,
) -> Result<Error, mpsc::error::SendError<Event>> {
    loop {
        let seen = match observer.next_look(heartbeat).await {
            Ok(seen) => seen,
            Err(lost) => return Ok(lost),
        };
        report(seen.changes_since(known), events).await?;
        *known = seen;
    }
}

async fn reconnect(settings: &Settings, timeout: Duration, backoff: &mut Backoff) -> (Observer, Snapshot) {
    loop {
        sleep(backoff.next_delay()).await;
        if let Ok(mut observer) = Observer::start(settings, timeout).await {
            match observer.look().await {
                Ok(seen) => return (observer, seen),
                Err(_) => observer.abort(),
            }
        }
    }
}

async fn report(changes: Vec<EventKind>, events: &mpsc::Sender<Event>) -> Sent {
    for change in changes {
        events.send(change.now()).await?;
    }
    Ok(())
}
