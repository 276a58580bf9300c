//! `intcred listen`: prints the events and, where asked, runs hooks, serves metrics and notifies the service
//! manager.
//!
//! | module | concept |
//! | --- | --- |
//! | `change` | a change of one key, for hooks and metrics |
//! | `consumers` | the consumers of each key, for the metrics |
//! | `expiry` | the notices that a credential will expire |
//! | `heads` | the heads of the audit log |
//! | `hooks` | the commands run for changes |
//! | `lines` | the events on standard output |
//! | `metrics` | the metrics, in the text format of Prometheus |
//! | `status` | the state of the daemon |
//! | `http` | the pages with metrics and status |
//! | `service_manager` | notifications to systemd |

mod change;
mod consumers;
mod expiry;
mod heads;
mod hooks;
mod http;
mod lines;
mod metrics;
mod service_manager;
mod status;

use crate::{cli::Listen, cli_error::CliError, context::Context, signals::Signals, terminal::log_line};
use change::Change;
use expiry::Notices;
use hooks::Hooks;
use intcred::{Client, Error, Event, Settings, Timestamp, WatchOptions, Watcher, internal::Handovers};
use lines::{Line, Lines};
use metrics::Metrics;
use service_manager::ServiceManager;
use status::Status;
use std::{collections::VecDeque, future::pending, sync::Arc, time::Duration};
use tokio::{
    sync::{
        mpsc::{Permit, Receiver},
        watch,
    },
    time::{MissedTickBehavior, interval},
};

/// How often the list is searched for credentials that will expire.
const NOTICES: Duration = Duration::from_secs(15);

pub async fn run(context: &Context, mut options: Listen) -> Result<(), CliError> {
    let settings = context.settings()?;
    let mut signals = Signals::catch()?;
    let mut daemon = Daemon {
        metrics: Metrics::new(),
        status: watch::Sender::new(Status::Starting),
        manager: ServiceManager::of_environment(),
        hooks: None,
        handovers: None,
        notices: Notices::default(),
        heads: None,
    };
    if let Some(address) = &options.metrics {
        let pages = http::Pages { metrics: daemon.metrics.clone(), status: daemon.status.subscribe() };
        let bound = http::serve(address, pages).await?;
        log_line("intcred", &format!("metrics are on http://{bound}/metrics"));
    }
    let watch = WatchOptions { initial: options.initial, ..WatchOptions::default() };
    let start = async {
        let watcher = Watcher::start(&settings, watch).await?;
        if options.metrics.is_some() {
            seed(&daemon.metrics, &settings).await?;
        }
        if options.heads {
            daemon.heads = Some(heads::follow(&settings).await?);
        }
        Ok::<_, Error>(watcher)
    };
    let mut watcher = tokio::select! {
        started = start => started?,
        () = signals.next() => return Ok(()),
    };
    if let Some(command) = options.exec.take() {
        // With --initial, the first commands replace what an earlier daemon has handed over.
        let handovers = Handovers::start(&watcher, &settings, options.name.take(), options.initial);
        let handovers = Arc::new(handovers);
        let metrics = daemon.metrics.hooks.clone();
        daemon.hooks = Some(Hooks::new(command, &options, &settings, handovers.clone(), metrics));
        daemon.handovers = Some(handovers);
    }
    if options.metrics.is_some() {
        tokio::spawn(consumers::follow(settings.clone(), daemon.metrics.clone(), daemon.handovers.clone()));
    }
    let lines = Lines::start(context.output);
    let result = daemon.follow(&mut watcher, &lines, &mut signals).await;
    let end = async {
        watcher.close().await;
        daemon.drain().await;
        lines.finish().await
    };
    // A second signal drops `end`, which kills the hooks.
    let finished = tokio::select! {
        finished = end => finished,
        () = signals.next() => Ok(()),
    };
    result.and(finished)
}

/// Sets the metrics of the revisions from before the first change. Read after the watcher has started, so
/// that no change is missed.
async fn seed(metrics: &Metrics, settings: &Settings) -> Result<(), Error> {
    let client = Client::connect(settings, |_| ()).await?;
    metrics.seed(&client.current_org().await?, &client.list().await?);
    client.close().await;
    Ok(())
}

struct Daemon {
    metrics: Metrics,
    status: watch::Sender<Status>,
    manager: ServiceManager,
    hooks: Option<Hooks>,
    /// What the hooks have handed over.
    handovers: Option<Arc<Handovers>>,
    notices: Notices,
    heads: Option<Receiver<heads::Notice>>,
}

impl Daemon {
    /// Handles events until a signal, or until the reader of the lines is gone.
    async fn follow(
        &mut self,
        watcher: &mut Watcher,
        lines: &Lines,
        signals: &mut Signals,
    ) -> Result<(), CliError> {
        // They wait for a slow reader, as the events do in the watcher.
        let mut due = VecDeque::new();
        let mut ticks = interval(NOTICES);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                next = next(watcher, lines) => {
                    let (room, event) = next?;
                    self.take(&event);
                    room.send(Line::Event(event));
                }
                (room, head) = next_head(&mut self.heads, lines) => room.send(Line::Head(Box::new(head))),
                _ = ticks.tick() => {
                    let snapshot = watcher.snapshot();
                    self.metrics.expire(&snapshot);
                    due.extend(self.notices.due(&snapshot, Timestamp::now()));
                }
                room = lines.reserve(), if !due.is_empty() => {
                    if let Some(notice) = due.pop_front() {
                        room.send(Line::Notice(notice));
                    }
                }
                () = self.manager.watchdog_due() => ServiceManager::notify_alive(),
                () = lines.closed() => return Ok(()),
                () = signals.next() => return Ok(()),
            }
        }
    }

    fn take(&mut self, event: &Event) {
        self.metrics.observe(event);
        if let Some(status) = Status::after(event) {
            self.set_status(status);
        }
        if let Some(change) = Change::of(event) {
            self.metrics.count(&change);
            if let Some(hooks) = &mut self.hooks {
                hooks.submit(change);
            }
        }
    }

    fn set_status(&mut self, status: Status) {
        self.manager.notify_status(&status);
        self.status.send_replace(status);
    }

    /// Waits for the hooks.
    async fn drain(mut self) {
        self.set_status(Status::Stopping);
        if let Some(hooks) = self.hooks.take() {
            tokio::select! {
                () = hooks.drain() => {}
                () = keep_alive(&mut self.manager) => {}
            }
        }
        if let Some(handovers) = &self.handovers {
            handovers.close().await;
        }
    }
}

async fn keep_alive(manager: &mut ServiceManager) {
    loop {
        manager.watchdog_due().await;
        ServiceManager::notify_alive();
    }
}

/// The next event, and the place of its line in the queue. Safe to cancel: the event stays in the watcher.
async fn next<'a>(watcher: &mut Watcher, lines: &'a Lines) -> Result<(Permit<'a, Line>, Event), Error> {
    let room = lines.reserve().await;
    match watcher.recv().await {
        Some(event) => Ok((room, event)),
        // Never while the runtime runs. The exit status makes the service manager restart the process.
        None => Err(Error::Disconnected { reason: "the watcher has ended".to_owned() }),
    }
}

/// The next head, and the place of its line in the queue; never without --heads. Safe to cancel.
async fn next_head<'a>(
    heads: &mut Option<Receiver<heads::Notice>>,
    lines: &'a Lines,
) -> (Permit<'a, Line>, heads::Notice) {
    let Some(heads) = heads else { return pending().await };
    let room = lines.reserve().await;
    match heads.recv().await {
        Some(head) => (room, head),
        // Never while the runtime runs.
        None => pending().await,
    }
}
