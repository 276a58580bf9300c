//! Who changes a credential that others are changing waits in line.
//!
//! Postgres would have all of them wait for the row, wake all at each commit, and let all but one find that it has changed
//! again: with 32 in line, 31 attempts for each change. Of those in line for a lock, it wakes the first.

use crate::pg::advisory_lock::{self, Mode, Purpose};
use pgrx::pg_sys;
use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};

thread_local! {
    /// The last transaction that waited.
    static IN_LINE: Cell<pg_sys::LocalTransactionId> = const { Cell::new(0) };
}

/// Waits for the transactions before this one that change the same credential.
///
/// Once a transaction: one that changes several has the first in line and the rest as Postgres has them. So it never waits
/// here while it holds a row that somebody in line waits for, and a transaction of many changes needs few locks.
pub fn wait(org: &str, key: &str) {
    // SAFETY: this process' own entry, which it has while it runs statements.
    let transaction = unsafe { (*pg_sys::MyProc).lxid };
    if IN_LINE.replace(transaction) != transaction {
        advisory_lock::wait_for(Purpose::Turn, digest(org, key), Mode::Exclusive);
    }
}

/// The same in every process, which all have this library. That of another credential would only be one more in the line.
fn digest(org: &str, key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (org, key).hash(&mut hasher);
    hasher.finish()
}
