//! Prepared transactions, which may commit in another session, after a restart.
//!
//! The locks of a prepared transaction survive with it, its events do not. So a transaction with events takes
//! a lock as a mark. A session that commits a prepared transaction while such a lock is held announces a
//! resync.

use super::queue;
use crate::pg::lock::{Lock, Mode};
use pgrx::pg_sys;
use std::cell::Cell;

thread_local! {
    /// Whether a mark was held, and the count of prepared transactions, when this process last committed.
    static SEEN: Cell<Option<(bool, u64)>> = const { Cell::new(None) };
}

/// Marks this transaction, which is being prepared, as one with events. It waits at most for a session that
/// tests the mark at this moment.
pub fn mark() {
    Lock::prepared_events().acquire(Mode::Shared);
    queue::count_prepared();
}

/// Whether a prepared transaction of this database may have events.
pub fn is_any_marked() -> bool {
    Lock::prepared_events().is_held(Mode::Exclusive)
}

/// Whether the transaction that commits now may have committed a prepared one with events. An apply worker of
/// logical replication does so without a command, in a transaction for each. A worker's first transaction
/// only reads the state.
/// Since 16 another worker may have prepared the transaction, so the count of prepared ones is shared.
pub fn may_have_committed_one() -> bool {
    // SAFETY: asks for a variable of this process.
    if !unsafe { pg_sys::IsLogicalWorker() } {
        return false;
    }
    let prepared = queue::prepared();
    let seen = SEEN.replace(Some((is_any_marked(), prepared)));
    seen.is_some_and(|(was_any_marked, before)| was_any_marked || prepared != before)
}
