//! The changes of a cache, for who must do something about them.

use super::store::Store;
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::watch;

/// A key of which the cache no longer has what it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which integration.
    pub key: String,
    /// The revision now; 0 if there is no such integration any more.
    pub revision: i64,
    /// Whether there is a credential to be had: one is set, and the integration is enabled.
    pub is_available: bool,
}

/// A stream of [`Change`]s, from its making on. Who reads it slowly gets the last change of each key, and misses none.
pub struct Changes {
    store: Arc<Store>,
    clock: watch::Receiver<u64>,
    read_up_to: u64,
    unread: VecDeque<Change>,
}

impl Changes {
    pub(super) fn new(store: Arc<Store>) -> Self {
        let clock = store.clock();
        Self { read_up_to: store.time(), store, clock, unread: VecDeque::new() }
    }

    /// The next change; a `get` after it returns no older value. Safe to cancel. Waits for ever once the cache is gone.
    pub async fn recv(&mut self) -> Change {
        loop {
            if let Some(change) = self.unread.pop_front() {
                return change;
            }
            // The sender is in the store, so it does not go.
            if self.clock.wait_for(|&time| time > self.read_up_to).await.is_err() {
                std::future::pending::<()>().await;
            }
            let (time, changed) = self.store.changed_since(self.read_up_to);
            self.read_up_to = time;
            self.unread.extend(changed.into_iter().map(|(key, state)| Change {
                key: key.as_ref().to_owned(),
                revision: state.map_or(0, |state| state.revision),
                is_available: state.is_some_and(|state| state.is_enabled && state.has_credentials),
            }));
        }
    }
}
