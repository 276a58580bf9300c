//! What is known of one key, and what may become of its value.

use super::credential::{Entry, NOTHING};
use crate::KeyState;
use arc_swap::ArcSwap;
use std::sync::Arc;

/// Where a value lies, or [`NOTHING`].
pub(super) type Slot = ArcSwap<Entry>;

pub(super) struct Known {
    pub slot: Arc<Slot>,
    /// What the watcher saw; `None` if it saw none.
    pub state: Option<KeyState>,
    /// The highest revision that was seen or handed out.
    pub floor: i64,
    /// When it last became another one, by the time of the book.
    pub changed: u64,
}

/// Whether the watcher's word holds against what was handed out, too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Authority {
    /// Read from the primary at the start of a session. A revision that it does not know was lost in a failover.
    Final,
    /// Read in the course of a session, or from a standby. A higher revision was fetched a moment before.
    Current,
}

impl Default for Known {
    fn default() -> Self {
        Self { slot: Arc::new(Slot::new(NOTHING.clone())), state: None, floor: 0, changed: 0 }
    }
}

impl Known {
    /// Takes in what the watcher saw. Tells whether a value had to go that has a successor.
    pub fn learn(&mut self, state: Option<KeyState>, time: u64, authority: Authority) -> bool {
        let revision = state.map_or(0, |state| state.revision);
        // Restored from a backup, or registered anew: then it counts from there.
        let went_back = self.state.is_some_and(|before| revision < before.revision);
        let is_final = authority == Authority::Final || went_back;
        self.floor = if is_final { revision } else { self.floor.max(revision) };
        if self.state != state {
            self.state = state;
            self.changed = time;
        }
        let entry = self.slot.load();
        let is_current = state.is_some_and(|state| {
            is_readable(state) && (state.revision, state.updated_at) == (entry.revision, entry.updated_at)
        });
        let is_ahead = !is_final && state.is_none_or(is_readable) && entry.revision > revision;
        let must_go = entry.is_there() && !is_current && !is_ahead;
        if must_go {
            self.slot.store(NOTHING.clone());
            self.changed = time;
        }
        must_go && state.is_some_and(is_readable)
    }
}

/// Whether the server would hand out the credential.
pub(super) fn is_readable(state: KeyState) -> bool {
    state.is_enabled && state.has_credentials
}
