//! The hooks: which of them runs when.
//!
//! Each key has a task and a place for one change, its latest. The task takes it when there is room for one more
//! process, runs the hook until that succeeds, a newer change is there, or it has failed too often, and waits for the next
//! change. So for a key one hook runs at a time, and what is not yet taken collapses into the last.

mod command;
mod failed;
mod value;

use super::{
    change::{Change, Target},
    metrics::{HookMetrics, Outcome},
};
use crate::{cli::Listen, terminal::say};
use failed::Failed;
use intcred::{Settings, internal::Backoff};
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

/// What is the same for each run.
struct Hook {
    command: String,
    timeout: Duration,
    retries: u32,
    room: Semaphore,
    /// Where the credential is read, if the hook gets it.
    values: Option<Settings>,
    metrics: HookMetrics,
}

impl Hooks {
    pub fn new(command: String, options: &Listen, settings: &Settings, metrics: HookMetrics) -> Self {
        let hook = Hook {
            command,
            timeout: Duration::from_secs(options.exec_timeout.into()),
            retries: options.exec_retries,
            room: Semaphore::new(options.exec_concurrency.into()),
            values: options.with_value.then(|| settings.clone()),
            metrics,
        };
        Self { hook: Arc::new(hook), latest: HashMap::new(), tasks: JoinSet::new() }
    }

    /// Has the hook run for a change, in place of an older one of the key that is still waiting.
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

    /// Lets run what is running and what is waiting, for as long as one hook may take; then it kills what is left.
    pub async fn drain(mut self) {
        let mut left: HashSet<Target> = self.latest.into_keys().collect();
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                left.retain(|target| !ended.as_ref().is_ok_and(|ended| ended == target));
            }
        };
        // Those that are left are told of one by one.
        let _ = timeout(self.hook.timeout, all).await;
        for Target { key, .. } in left {
            say(
                "intcred: warning",
                &format!("the hook for the last change of {key:?} has not ended in time"),
            );
        }
        self.tasks.shutdown().await;
    }
}

impl Hook {
    /// Runs the hook for one change of a key after the other, until there will be no more.
    async fn follow(&self, mut changes: watch::Receiver<Change>) {
        let mut change = changes.borrow_and_update().clone();
        let mut failures = 0;
        let mut backoff = BACKOFF;
        loop {
            let result = {
                // Never closed, so that there always will be room.
                let _room = self.room.acquire().await;
                let latest = changes.borrow_and_update().clone();
                if latest != change {
                    (change, failures, backoff) = (latest, 0, BACKOFF);
                }
                self.run(&change).await
            };
            match result {
                Ok(outcome) => {
                    self.metrics.ran(outcome);
                    self.metrics.settled(&change);
                }
                Err(failed) => {
                    self.metrics.ran(Outcome::Failed);
                    failures += u32::from(failed.counts());
                    if failures <= self.retries {
                        let delay = backoff.next_delay();
                        complain(&change, format_args!("{failed}; trying again in {} ms", delay.as_millis()));
                        tokio::select! {
                            () = sleep(delay) => {}
                            Ok(()) = changes.changed() => {}
                        }
                        continue;
                    }
                    complain(&change, format_args!("{failed}; given up (attempts: {failures})"));
                    self.metrics.given_up(&change);
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn run(&self, change: &Change) -> Result<Outcome, Failed> {
        let value = match &self.values {
            Some(settings) if change.leaves_a_value() => {
                match value::read(settings, &change.target.key).await? {
                    // A hook that writes what it reads to a file would empty it.
                    None => return Ok(Outcome::Skipped),
                    value => value,
                }
            }
            _ => None,
        };
        let _running = Running::one(&self.metrics);
        command::run(&self.command, self.timeout, change, value).await?;
        Ok(Outcome::Succeeded)
    }
}

/// Counts a hook for as long as it runs, however that ends.
struct Running<'a>(&'a HookMetrics);

impl<'a> Running<'a> {
    fn one(metrics: &'a HookMetrics) -> Self {
        metrics.running.inc();
        Self(metrics)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.dec();
    }
}

fn complain(change: &Change, what: fmt::Arguments<'_>) {
    let (key, kind, revision) = (&change.target.key, change.kind.as_str(), change.revision);
    say("intcred: warning", &format!("the hook for {key:?} ({kind}, revision {revision}) failed: {what}"));
}
