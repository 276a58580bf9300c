//! The metrics, in the text format of Prometheus.

use super::change::{Change, Kind, Target};
use intcred::{Event, EventKind, Integration, Timestamp};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64},
    },
    time::UNIX_EPOCH,
};

type Seconds = Gauge<f64, AtomicU64>;
type Revisions = Family<Labels, Gauge<i64, AtomicI64>>;

#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    connected: Gauge,
    reconnects: Counter,
    last_event: Seconds,
    last_sync: Seconds,
    revisions: Revisions,
    pub hooks: HookMetrics,
}

#[derive(Clone, Default)]
pub struct HookMetrics {
    pub running: Gauge,
    runs: Family<Run, Counter>,
    failures: Counter,
    failed_revisions: Revisions,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    org: String,
    key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Run {
    outcome: &'static str,
}

/// How a run of a hook ended.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    Succeeded,
    Failed,
    /// No credential could be read.
    Skipped,
}

impl Metrics {
    pub fn new() -> Self {
        let (connected, reconnects) = (Gauge::default(), Counter::default());
        let (last_event, last_sync) = (Seconds::default(), Seconds::default());
        let (revisions, hooks) = (Revisions::default(), HookMetrics::default());
        let mut registry = Registry::with_prefix("intcred");
        registry.register(
            "connected",
            "1 while the changes are followed, 0 while disconnected",
            connected.clone(),
        );
        registry.register("reconnects", "Reconnects to the server", reconnects.clone());
        let help = "Time of the last change; 0 before the first";
        registry.register("last_event_timestamp_seconds", help, last_event.clone());
        let help = "Time of the last connect, when the whole list was read";
        registry.register("last_sync_timestamp_seconds", help, last_sync.clone());
        registry.register("revision", "Revision of each credential that is set", revisions.clone());
        registry.register("hooks_running", "Hooks running now", hooks.running.clone());
        let help = "Runs of hooks by outcome; skipped: no credential could be read";
        registry.register("hook_runs", help, hooks.runs.clone());
        registry.register(
            "hook_failures",
            "Changes whose hook failed after the last retry",
            hooks.failures.clone(),
        );
        let help = "Revision of the last change of a key whose hook failed after the last retry";
        registry.register("hook_failed_revision", help, hooks.failed_revisions.clone());
        Self { registry: Arc::new(registry), connected, reconnects, last_event, last_sync, revisions, hooks }
    }

    /// Sets the revisions from before the first change.
    pub fn seed(&self, org: &str, list: &[Integration]) {
        for integration in list.iter().filter(|integration| integration.has_credentials) {
            let labels = Labels { org: org.to_owned(), key: integration.key.clone() };
            self.revisions.get_or_create(&labels).set(integration.revision);
        }
    }

    pub fn observe(&self, event: &Event) {
        match &event.kind {
            EventKind::Synced { .. } => {
                self.connected.set(1);
                self.last_sync.set(seconds(event.at));
            }
            EventKind::Disconnected { .. } => {
                self.connected.set(0);
            }
            EventKind::Reconnected { .. } => {
                self.connected.set(1);
                self.reconnects.inc();
                self.last_sync.set(seconds(event.at));
            }
            _ => {}
        }
    }

    pub fn count(&self, change: &Change) {
        self.last_event.set(seconds(change.event.at));
        let labels = Labels::from(&change.target);
        match change.kind {
            Kind::Changed => drop(self.revisions.get_or_create(&labels).set(change.revision)),
            Kind::Removed => drop(self.revisions.remove(&labels)),
            Kind::Enabled | Kind::Disabled => {}
        }
    }

    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl HookMetrics {
    pub fn record_run(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Skipped => "skipped",
        };
        self.runs.get_or_create(&Run { outcome }).inc();
    }

    /// After the hook for the last change of the key succeeded.
    pub fn clear_failure(&self, change: &Change) {
        self.failed_revisions.remove(&Labels::from(&change.target));
    }

    /// After the last retry for this change.
    pub fn record_failure(&self, change: &Change) {
        self.failures.inc();
        self.failed_revisions.get_or_create(&Labels::from(&change.target)).set(change.revision);
    }
}

impl From<&Target> for Labels {
    fn from(Target { org, key }: &Target) -> Self {
        Self { org: org.clone(), key: key.clone() }
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.0.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
