//! The metrics, in the text format of Prometheus.

use super::change::{Change, Kind, Target};
use intcred::{Event, EventKind, Integration, Lease, Snapshot, Timestamp};
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
    expiries: Family<Labels, Seconds>,
    consumers: Family<ConsumerLabels, Gauge>,
    lease: Gauge,
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
struct ConsumerLabels {
    org: String,
    key: String,
    state: &'static str,
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
        let (expiries, consumers) = (Family::default(), Family::default());
        let lease = Gauge::default();
        let help = "Time at which the credential expires, where whoever set it said so";
        registry.register("expires_timestamp_seconds", help, expiries.clone());
        let help = "Consumers with a lease that hold the current revision, or an older one (behind)";
        registry.register("consumers", help, consumers.clone());
        let help = "1 while the server counts on what the hooks hold, 0 while it does not";
        registry.register("lease", help, lease.clone());
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
        Self {
            registry: Arc::new(registry),
            connected,
            reconnects,
            last_event,
            last_sync,
            revisions,
            expiries,
            consumers,
            lease,
            hooks,
        }
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

    /// Sets the times of expiry, of all keys that have one.
    pub fn expire(&self, snapshot: &Snapshot) {
        self.expiries.clear();
        for (key, state) in snapshot.iter().filter(|(_, state)| state.has_credentials) {
            if let Some(expires_at) = state.expires_at {
                let labels = Labels { org: snapshot.org().to_owned(), key: key.to_owned() };
                self.expiries.get_or_create(&labels).set(seconds(expires_at));
            }
        }
    }

    /// Sets the consumers of each key: how many hold the current revision, and how many an older one.
    pub fn set_consumers(&self, org: &str, by_key: &[(String, i64, i64)]) {
        self.consumers.clear();
        for (key, current, behind) in by_key {
            for (state, number) in [("current", current), ("behind", behind)] {
                let labels = ConsumerLabels { org: org.to_owned(), key: key.clone(), state };
                self.consumers.get_or_create(&labels).set(*number);
            }
        }
    }

    pub fn clear_consumers(&self) {
        self.consumers.clear();
    }

    pub fn set_lease(&self, lease: &Lease) {
        self.lease.set(i64::from(*lease == Lease::Running));
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
