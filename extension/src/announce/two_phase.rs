//! A prepared transaction, which may commit in another session, after a restart.
//!
//! What survives with it is its locks. So one with events takes a lock that says so; who commits a prepared transaction
//! while such a lock is held announces that everybody should look again.

use super::queue;
use crate::pg::lock::{Lock, Mode};
use pgrx::pg_sys;
use std::cell::Cell;

thread_local! {
    /// Whether any was marked when the last transaction of this process ended, and how many had been by then.
    static SEEN: Cell<Option<(bool, u64)>> = const { Cell::new(None) };
}

/// Marks this transaction, which is being prepared, as one that has something to announce. It waits at most for somebody
/// who is just looking.
pub fn mark() {
    Lock::prepared_events().acquire(Mode::Shared);
    queue::count_prepared();
}

/// Whether a prepared transaction of this database may have something to announce.
pub fn is_any_marked() -> bool {
    Lock::prepared_events().is_held(Mode::Exclusive)
}

/// Whether the transaction that commits now may have committed a prepared one with events. A worker of logical replication
/// commits it without a command, in a transaction of its own; a worker's first transaction only finds out what there is to
/// do. Since 16, another worker may have prepared it, so the count of prepared ones is shared.
pub fn may_have_committed_one() -> bool {
    // SAFETY: asks for a variable of this process.
    if !unsafe { pg_sys::IsLogicalWorker() } {
        return false;
    }
    let prepared = queue::prepared();
    let seen = SEEN.replace(Some((is_any_marked(), prepared)));
    seen.is_some_and(|(was_any_marked, before)| was_any_marked || prepared != before)
}
