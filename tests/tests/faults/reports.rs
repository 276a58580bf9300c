//! Who follows a watcher, and remembers what it was told.

use crate::truth::{History, State};
use intcred::{EventKind, KeyState, Snapshot, Watcher};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};
use tokio::task::JoinHandle;

/// A watcher, of which nothing is known but how it began and what it reported.
pub struct Watched {
    pub name: String,
    began: Arc<Snapshot>,
    told: Arc<Mutex<Vec<EventKind>>>,
    task: JoinHandle<()>,
}

impl Watched {
    pub fn start(name: &str, mut watcher: Watcher) -> Self {
        let began = watcher.snapshot();
        let told = Arc::<Mutex<Vec<_>>>::default();
        let task = tokio::spawn({
            let told = told.clone();
            async move {
                while let Some(event) = watcher.recv().await {
                    told.lock().unwrap().push(event.kind);
                }
            }
        });
        Self { name: name.to_owned(), began, told, task }
    }

    /// What it reported so far.
    pub fn told(&self) -> Vec<EventKind> {
        self.told.lock().unwrap().clone()
    }

    /// Where what it reported does not add up to this.
    pub fn difference(&self, truth: &BTreeMap<String, State>) -> Option<String> {
        let began = self.began.iter().map(|(key, state)| {
            let KeyState { revision, has_credentials, is_enabled, .. } = *state;
            (key.to_owned(), State { revision, has_credentials, is_enabled })
        });
        let mut states: HashMap<_, _> = began.collect();
        for event in self.told() {
            let Some((key, word, revision)) = parts(&event) else { continue };
            let state = states.get_mut(key).expect("the catalog has not grown");
            state.revision = revision;
            match word {
                "changed" | "removed" => state.has_credentials = word == "changed",
                _ => state.is_enabled = word == "enabled",
            }
        }
        let (key, expected) = truth.iter().find(|(key, state)| states.get(*key) != Some(state))?;
        Some(format!("{}: {key}: {:?} instead of {expected:?}", self.name, states.get(key)))
    }

    /// Panics unless all of it happened, and of each key in this order.
    pub fn assert_true(&self, history: &History) {
        let mut last = HashMap::new();
        for event in self.told() {
            let Some((key, word, revision)) = parts(&event) else { continue };
            let happened = match word {
                "changed" | "removed" => history.has(key, word, revision),
                _ => history.has_up_to(key, word, revision),
            };
            assert!(happened, "{}: never happened: {event:?}", self.name);
            let before = last.insert(key.to_owned(), revision).unwrap_or_default();
            assert!(before <= revision, "{}: after revision {before}: {event:?}", self.name);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Which key, what happened to it, and at which revision it is.
fn parts(event: &EventKind) -> Option<(&str, &'static str, i64)> {
    match event {
        EventKind::Changed { key, revision, .. } => Some((key, "changed", *revision)),
        EventKind::Removed { key, revision, .. } => Some((key, "removed", *revision)),
        EventKind::Enabled { key, revision, .. } => Some((key, "enabled", *revision)),
        EventKind::Disabled { key, revision, .. } => Some((key, "disabled", *revision)),
        _ => None,
    }
}
