//! The state of one key, and the rules by which its cached value is dropped.

use super::credential::{EMPTY, Entry};
use crate::KeyState;
use arc_swap::ArcSwap;
use std::sync::{Arc, Weak};

/// Holds a cached value, or [`EMPTY`].
pub(super) type Slot = ArcSwap<Entry>;

pub(super) struct TrackedKey {
    pub slot: Arc<Slot>,
    /// Every value that somebody still has: the slot, or a handle.
    live: Vec<Weak<Entry>>,
    /// As the watcher last read it; `None` if the catalog does not have the key.
    pub state: Option<KeyState>,
    /// The highest revision that was seen or returned. A lower one is behind.
    pub min_revision: i64,
    /// The store's version at the last change.
    pub changed_at: u64,
}

/// Whether the watcher's state overrides a higher revision that was fetched.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Authority {
    /// Read from the primary at the start of a session: a higher revision was lost in a failover.
    Final,
    /// Read later in a session, or from a standby: a higher revision was fetched a moment before.
    Current,
}

impl Default for TrackedKey {
    fn default() -> Self {
        Self {
            slot: Arc::new(Slot::new(EMPTY.clone())),
            live: Vec::new(),
            state: None,
            min_revision: 0,
            changed_at: 0,
        }
    }
}

impl TrackedKey {
    /// Counts a value that is given to a caller, from now until the last handle is gone.
    pub fn add(&mut self, entry: &Arc<Entry>) {
        self.live.retain(|entry| entry.strong_count() > 0);
        self.live.push(Arc::downgrade(entry));
    }

    /// The oldest revision that somebody still has, and the newest that is known.
    ///
    /// A reader that has just read the slot is counted, too: `arc_swap` gives it a reference of its own
    /// before the replacement of the slot's value returns.
    pub fn held(&self) -> (Option<i64>, i64) {
        let live = self.live.iter().filter_map(Weak::upgrade).filter(|entry| !entry.is_revoked());
        (live.map(|entry| entry.revision).min(), self.min_revision)
    }

    /// Lets nobody use these values again. Returns whether there were any.
    pub fn revoke(&mut self, is_meant: impl Fn(&Entry) -> bool) -> bool {
        let mut found = false;
        for entry in self.live.iter().filter_map(Weak::upgrade) {
            if !entry.is_revoked() && is_meant(&entry) {
                entry.revoke();
                found = true;
            }
        }
        if self.slot.load().is_there() && self.slot.load().is_revoked() {
            self.slot.store(EMPTY.clone());
        }
        found
    }

    /// Applies what the watcher read. Returns whether a cached value was dropped that can be fetched again.
    pub fn apply(&mut self, state: Option<KeyState>, version: u64, authority: Authority) -> bool {
        let revision = state.map_or(0, |state| state.revision);
        // Restored from a backup, or registered again: the lower revision is the current one.
        let went_back = self.state.is_some_and(|before| revision < before.revision);
        let is_final = authority == Authority::Final || went_back;
        self.min_revision = if is_final { revision } else { self.min_revision.max(revision) };
        if self.state != state {
            self.state = state;
            self.changed_at = version;
        }
        let entry = self.slot.load();
        let is_current = state.is_some_and(|state| {
            is_readable(state) && (state.revision, state.updated_at) == (entry.revision, entry.updated_at)
        });
        let is_ahead = !is_final && state.is_none_or(is_readable) && entry.revision > revision;
        let is_outdated = entry.is_there() && !is_current && !is_ahead;
        if is_outdated {
            self.slot.store(EMPTY.clone());
            self.changed_at = version;
        }
        is_outdated && state.is_some_and(is_readable)
    }
}

/// Whether the server would return the credential.
pub(super) fn is_readable(state: KeyState) -> bool {
    state.is_enabled && state.has_credentials
}
