//! One transaction at a time changes a credential; the others queue for a lock.
//!
//! Without this lock, all of them would wait for the row. At each commit Postgres wakes every waiter of a
//! row, and all but one find that the row has changed again: with 32 waiters, 31 attempts for each change. Of
//! the waiters for a heavyweight lock, Postgres wakes only the first.

use crate::pg::lock::{Lock, Mode};
use crate::pg::session;
use pgrx::pg_sys;
use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};

thread_local! {
    /// The last transaction that queued.
    static QUEUED: Cell<pg_sys::LocalTransactionId> = const { Cell::new(0) };
}

/// Waits for the transactions before this one that change the same credential.
///
/// A transaction queues for its first credential only; for the others it waits on ordinary row locks. So it
/// never queues while it holds a row that another transaction in the queue waits for, and a transaction of
/// many changes needs few locks.
pub fn acquire(org: &str, key: &str) {
    let transaction = session::transaction();
    if QUEUED.replace(transaction) != transaction {
        Lock::credential(digest(org, key)).acquire(Mode::Exclusive);
    }
}

/// Equal in every process, because all run this library. Two credentials with one digest share a queue, which
/// costs only time.
fn digest(org: &str, key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (org, key).hash(&mut hasher);
    hasher.finish()
}
