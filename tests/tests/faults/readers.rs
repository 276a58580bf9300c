//! Callers of a cache who read all the time, and judge what they get.

use crate::{scene::is_fickle, truth::State};
use intcred::{CredentialCache, Error, ErrorCode};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

const READERS: usize = 2;
/// Longer than a read ever takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cache and those who read from it.
pub struct Cached {
    pub name: String,
    cache: CredentialCache,
    readers: Vec<JoinHandle<()>>,
    reads: Arc<AtomicUsize>,
}

impl Cached {
    pub fn start(name: &str, cache: CredentialCache, keys: &[String]) -> Self {
        let reads = Arc::<AtomicUsize>::default();
        let readers = (0..READERS)
            .map(|_| tokio::spawn(read(name.to_owned(), cache.clone(), keys.to_vec(), reads.clone())))
            .collect();
        Self { name: name.to_owned(), cache, readers, reads }
    }

    /// How many values were read so far.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// Panics if a reader did, or has got nothing.
    pub fn assert_in_order(&self) {
        assert!(self.reads() > 0, "{}: nothing was read", self.name);
        assert!(!self.readers.iter().any(JoinHandle::is_finished), "{}: a reader has failed", self.name);
    }

    /// Where it differs from this.
    pub async fn difference(&self, truth: &BTreeMap<String, State>) -> Option<String> {
        for (key, state) in truth {
            let expected = match state {
                State { is_enabled: false, .. } => Err(ErrorCode::IntegrationDisabled),
                State { has_credentials: false, .. } => Err(ErrorCode::CredentialsNotSet),
                State { revision, .. } => Ok(*revision),
            };
            let found = match self.cache.get(key).await {
                Ok(credential) => {
                    let revision = credential.revision();
                    match credential.expose() {
                        Ok(value) => assert_eq!(value, format!("{key} {revision}")),
                        Err(error) => return Some(format!("{}: {key}: {error}", self.name)),
                    }
                    Ok(revision)
                }
                Err(error) => match error.code() {
                    Some(code) => Err(code),
                    None => return Some(format!("{}: {key}: {error}", self.name)),
                },
            };
            if found != expected {
                return Some(format!("{}: {key}: {found:?} instead of {expected:?}", self.name));
            }
        }
        None
    }
}

impl Drop for Cached {
    fn drop(&mut self) {
        self.readers.iter().for_each(JoinHandle::abort);
    }
}

/// Each value is the one of its revision, and none is older than the one before.
async fn read(name: String, cache: CredentialCache, keys: Vec<String>, reads: Arc<AtomicUsize>) {
    let mut last = HashMap::new();
    loop {
        for key in &keys {
            match timeout(PATIENCE, cache.get(key)).await.unwrap_or_else(|_| panic!("{name}: {key} hangs")) {
                Ok(credential) => {
                    let revision = credential.revision();
                    match credential.expose() {
                        Ok(value) => assert_eq!(value, format!("{key} {revision}"), "{name}"),
                        Err(error) => assert!(is_plausible(&error, key), "{name}: {key}: {error:?}"),
                    }
                    let before = last.insert(key, revision).unwrap_or_default();
                    assert!(before <= revision, "{name}: {key}: {revision} after {before}");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => assert!(is_plausible(&error, key), "{name}: {key}: {error:?}"),
            }
        }
        sleep(Duration::from_millis(2)).await;
    }
}

fn is_plausible(error: &Error, key: &str) -> bool {
    match error {
        Error::Connect { .. }
        | Error::Disconnected { .. }
        | Error::Behind { .. }
        | Error::LeaseOver { .. } => true,
        // The statement_timeout of a watcher that reports for the reader.
        Error::Database { sqlstate, .. } => sqlstate == "57014",
        Error::Refused { code, .. } => {
            is_fickle(key) && matches!(code, ErrorCode::IntegrationDisabled | ErrorCode::CredentialsNotSet)
        }
        _ => false,
    }
}
