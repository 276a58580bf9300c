//! A stream of the keys whose cached values were invalidated.

use super::{key_state::is_readable, store::Store};
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::watch;

/// A key whose credential has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The integration's key.
    pub key: String,
    /// The revision now; 0 if the catalog no longer has the key.
    pub revision: i64,
    /// Whether the cache can return a credential: a credential is set, and the integration is enabled.
    pub is_available: bool,
}

/// A stream of [`Change`]s since it was made. A slow reader gets the last change of each key, and misses no
/// key.
pub struct Changes {
    store: Arc<Store>,
    versions: watch::Receiver<u64>,
    /// The version up to which changes are in `unread` or were returned.
    reported: u64,
    unread: VecDeque<Change>,
}

impl Changes {
    pub(super) fn new(store: Arc<Store>) -> Self {
        let versions = store.versions();
        Self { reported: store.version(), store, versions, unread: VecDeque::new() }
    }

    /// The next change; a `get` after it returns no older value. Safe to cancel. Never returns once the last
    /// [`CredentialCache`](crate::CredentialCache) is dropped.
    pub async fn recv(&mut self) -> Change {
        loop {
            if let Some(change) = self.unread.pop_front() {
                return change;
            }
            // The sender is in the store, which this stream holds.
            if self.versions.wait_for(|&version| version > self.reported).await.is_err() {
                std::future::pending::<()>().await;
            }
            let (version, changed) = self.store.changed_since(self.reported);
            self.reported = version;
            self.unread.extend(changed.into_iter().map(|(key, state)| Change {
                key: key.as_ref().to_owned(),
                revision: state.map_or(0, |state| state.revision),
                is_available: state.is_some_and(is_readable),
            }));
        }
    }
}
