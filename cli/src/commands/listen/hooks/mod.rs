//! The schedule of the hooks.
//!
//! Each key has a task and its latest change. The task waits for a permit to run, then runs the hook until
//! the hook succeeds, a newer change arrives, or the retries are used up. Then the task waits for the next
//! change. So one hook runs at a time for a key, and changes in the meantime collapse into the last.
//!
//! | module | concept |
//! | --- | --- |
//! | `command` | one run of a hook |
//! | `value` | reading the credential for a hook |
//! | `failed` | why a run of a hook failed |

mod command;
mod failed;
mod value;

use super::{
    change::{Change, Target},
    metrics::{HookMetrics, Outcome},
};
use crate::{cli::Listen, terminal::log_line};
use failed::Failed;
use intcred::{
    Settings,
    internal::{Backoff, Handovers},
};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

/// Before a hook that failed is run again.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

pub struct Hooks {
    hook: Arc<Hook>,
    latest: HashMap<Target, watch::Sender<Change>>,
    tasks: JoinSet<Target>,
}

/// The settings of all runs.
struct Hook {
    command: String,
    timeout: Duration,
    retries: u32,
    permits: Semaphore,
    /// The connection settings to read the credential, with --with-value.
    values: Option<Settings>,
    /// What the runs have handed over.
    handovers: Arc<Handovers>,
    metrics: HookMetrics,
}

impl Hooks {
    pub fn new(
        command: String,
        options: &Listen,
        settings: &Settings,
        handovers: Arc<Handovers>,
        metrics: HookMetrics,
    ) -> Self {
        let hook = Hook {
            command,
            timeout: Duration::from_secs(options.exec_timeout.into()),
            retries: options.exec_retries,
            permits: Semaphore::new(options.exec_concurrency.into()),
            values: options.with_value.then(|| settings.clone()),
            handovers,
            metrics,
        };
        Self { hook: Arc::new(hook), latest: HashMap::new(), tasks: JoinSet::new() }
    }

    /// Queues a change, in place of a queued older one of the same key.
    pub fn submit(&mut self, change: Change) {
        if let Some(latest) = self.latest.get(&change.target) {
            latest.send_replace(change);
            return;
        }
        let target = change.target.clone();
        let (latest, changes) = watch::channel(change);
        self.latest.insert(target.clone(), latest);
        let hook = self.hook.clone();
        self.tasks.spawn(async move {
            hook.follow(changes).await;
            target
        });
    }

    /// Waits for running and queued hooks, at most for the time limit of one hook, and kills the others.
    pub async fn drain(mut self) {
        let mut left: HashSet<Target> = self.latest.into_keys().collect();
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                left.retain(|target| !ended.as_ref().is_ok_and(|ended| ended == target));
            }
        };
        // A warning for each hook that is left.
        let _ = timeout(self.hook.timeout, all).await;
        for Target { key, .. } in left {
            log_line(
                "intcred: warning",
                &format!("the hook for the last change of {key:?} did not end in time"),
            );
        }
        self.tasks.shutdown().await;
    }
}

impl Hook {
    /// Runs the hook for the changes of one key, until the sender is dropped.
    async fn follow(&self, mut changes: watch::Receiver<Change>) {
        let mut change = changes.borrow_and_update().clone();
        let mut failures = 0;
        let mut backoff = BACKOFF;
        loop {
            let result = {
                // The semaphore is never closed.
                let _permit = self.permits.acquire().await;
                let latest = changes.borrow_and_update().clone();
                if latest != change {
                    (change, failures, backoff) = (latest, 0, BACKOFF);
                }
                self.run(&change).await
            };
            match result {
                Ok(outcome) => {
                    self.metrics.record_run(outcome);
                    self.metrics.clear_failure(&change);
                }
                Err(failed) => {
                    self.metrics.record_run(Outcome::Failed);
                    failures += u32::from(failed.uses_retry());
                    if failures <= self.retries {
                        let delay = backoff.next_delay();
                        warn(&change, format_args!("{failed}; retrying in {} ms", delay.as_millis()));
                        tokio::select! {
                            () = sleep(delay) => {}
                            Ok(()) = changes.changed() => {}
                        }
                        continue;
                    }
                    warn(&change, format_args!("{failed}; given up (attempts: {failures})"));
                    self.metrics.record_failure(&change);
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn run(&self, change: &Change) -> Result<Outcome, Failed> {
        let key = &change.target.key;
        let (value, revision) = match &self.values {
            Some(settings) if change.leaves_a_value() => {
                // The server must know of the use before the value is read.
                self.handovers.report(key).await.map_err(Failed::Value)?;
                // A hook that writes its input to a file would empty the file.
                let Some((value, revision)) = value::read(settings, key).await? else {
                    return Ok(Outcome::Skipped);
                };
                self.handovers.begin_value(key, revision).map_err(Failed::Value)?;
                (Some(value), revision)
            }
            _ => {
                self.handovers.begin(key, change.revision);
                (None, change.revision)
            }
        };
        let _running = Running::start(&self.metrics);
        command::run(&self.command, self.timeout, change, value).await?;
        self.handovers.succeed(key, change.leaves_a_value().then_some(revision));
        Ok(Outcome::Succeeded)
    }
}

/// Counts a running hook until dropped.
struct Running<'a>(&'a HookMetrics);

impl<'a> Running<'a> {
    fn start(metrics: &'a HookMetrics) -> Self {
        metrics.running.inc();
        Self(metrics)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.dec();
    }
}

fn warn(change: &Change, what: fmt::Arguments<'_>) {
    let (key, kind, revision) = (&change.target.key, change.kind.as_str(), change.revision);
    log_line(
        "intcred: warning",
        &format!("the hook for {key:?} ({kind}, revision {revision}) failed: {what}"),
    );
}
