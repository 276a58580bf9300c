//! The keys that notifications named since the last query.

use integration_credentials_core::event::Event;
use std::{
    collections::BTreeSet,
    mem,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::mpsc::{self, error::TrySendError};

/// Beyond this many keys, reading the whole list is cheaper. Any role may send notifications, so the set is
/// bounded.
const MAX_KEYS: usize = 256;

/// The keys to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Whole,
    Keys(BTreeSet<String>),
}

impl Scope {
    const NONE: Self = Self::Keys(BTreeSet::new());

    fn add(&mut self, key: String) {
        if let Self::Keys(keys) = self {
            keys.insert(key);
            if keys.len() > MAX_KEYS {
                *self = Self::Whole;
            }
        }
    }
}

/// Records notifications, without waiting. Dropped with the connection.
pub(super) struct Recorder {
    shared: Arc<Mutex<Shared>>,
    wake: mpsc::Sender<()>,
}

/// Receives the recorded keys.
pub(super) struct DirtyKeys {
    shared: Arc<Mutex<Shared>>,
    woken: mpsc::Receiver<()>,
}

struct Shared {
    scope: Scope,
    /// The org of the session, once a query has returned it.
    org: Option<Arc<str>>,
}

pub(super) fn channel() -> (Recorder, DirtyKeys) {
    let shared = Arc::new(Mutex::new(Shared { scope: Scope::NONE, org: None }));
    let (wake, woken) = mpsc::channel(1);
    (Recorder { shared: shared.clone(), wake }, DirtyKeys { shared, woken })
}

impl Recorder {
    /// Records the key of a payload. Its revision and operation are not trusted.
    pub fn record(&self, payload: &str) {
        {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            match Event::parse(payload) {
                Ok(event) if shared.org.as_ref().is_some_and(|org| **org != event.org) => return,
                Ok(event) => shared.scope.add(event.key),
                // Sent by a later version, or malformed.
                Err(_) => shared.scope = Scope::Whole,
            }
        }
        // Full: the reader is woken already. Closed: the watcher has ended.
        let (Ok(()) | Err(TrySendError::Full(()) | TrySendError::Closed(()))) = self.wake.try_send(());
    }
}

impl DirtyKeys {
    /// Waits for a notification; `false` when the connection has ended.
    pub async fn wait(&mut self) -> bool {
        self.woken.recv().await.is_some()
    }

    /// Takes the keys recorded so far.
    pub fn take(&self) -> Scope {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        mem::replace(&mut shared.scope, Scope::NONE)
    }

    /// From now on, ignores notifications of other orgs.
    pub fn only_of(&self, org: Arc<str>) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).org = Some(org);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(org: &str, key: &str) -> String {
        format!(r#"{{"v":1,"org":"{org}","key":"{key}","revision":1,"op":"set"}}"#)
    }

    fn keys<const N: usize>(keys: [&str; N]) -> Scope {
        Scope::Keys(keys.map(str::to_owned).into())
    }

    #[test]
    fn keys_are_recorded_once_and_those_of_other_orgs_ignored() {
        let (recorder, dirty_keys) = channel();
        assert_eq!(dirty_keys.take(), keys([]));
        for (org, key) in [("acme", "b"), ("acme", "a"), ("acme", "b"), ("other", "c")] {
            recorder.record(&payload(org, key));
        }
        assert_eq!(dirty_keys.take(), keys(["a", "b", "c"]));
        assert_eq!(dirty_keys.take(), keys([]));
        dirty_keys.only_of("acme".into());
        recorder.record(&payload("other", "c"));
        assert_eq!(dirty_keys.take(), keys([]));
    }

    #[test]
    fn payloads_that_cannot_be_parsed_and_too_many_keys_mean_the_whole_list() {
        let (recorder, dirty_keys) = channel();
        dirty_keys.only_of("acme".into());
        let set = payload("acme", "k");
        for odd in ["hello", &set.replace("\"v\":1", "\"v\":2"), &set.replace("\"set\"", "\"resync\"")] {
            recorder.record(&set);
            recorder.record(odd);
            recorder.record(&set);
            assert_eq!(dirty_keys.take(), Scope::Whole, "{odd}");
        }
        for number in 0..=MAX_KEYS {
            recorder.record(&payload("acme", &number.to_string()));
        }
        assert_eq!(dirty_keys.take(), Scope::Whole);
    }
}
