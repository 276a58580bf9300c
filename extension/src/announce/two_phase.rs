//! A prepared transaction, which may commit in another session, after a restart.
//!
//! What survives with it is its locks. So one with events takes a lock that says so; who commits a prepared transaction
//! while such a lock is held announces that everybody should look again.

use crate::pg::advisory_lock::{self, Mode, Purpose};
use pgrx::pg_sys;
use std::cell::Cell;

thread_local! {
    /// Whether any was marked when the last transaction of this process ended.
    static WAS_ANY_MARKED: Cell<bool> = const { Cell::new(false) };
}

/// Marks this transaction, which is being prepared, as one that has something to announce. It waits at most for somebody
/// who is just looking.
pub fn mark() {
    WAS_ANY_MARKED.set(true);
    advisory_lock::wait_for(Purpose::Prepared, 0, Mode::Shared);
}

/// Whether a prepared transaction of this database may have something to announce.
pub fn is_any_marked() -> bool {
    advisory_lock::is_held(Purpose::Prepared, 0, Mode::Exclusive)
}

/// Whether the transaction that commits now may have committed a prepared one with events. A worker of logical replication does
/// so without a command, and for each begins a transaction of its own; the first of a worker only finds out what there is to do.
pub fn may_have_committed_one() -> bool {
    // SAFETY: asks for a variable of this process.
    let is_worker = unsafe { pg_sys::IsLogicalWorker() };
    is_worker && WAS_ANY_MARKED.replace(is_any_marked())
}
