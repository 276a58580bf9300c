//! A prepared transaction, which may commit in another session, after a restart.
//!
//! What survives with it is its locks. So one with events takes a lock that says so; who commits a prepared transaction
//! while such a lock is held announces that everybody should look again.

use crate::lock::{self, Mode, Purpose};

/// Marks this transaction, which is being prepared, as one that has something to announce. It waits at most for somebody
/// who is just looking.
pub fn mark() {
    lock::wait_for(Purpose::Prepared, 0, Mode::Shared);
}

/// Whether a prepared transaction of this database may have something to announce.
pub fn is_any_marked() -> bool {
    lock::is_held(Purpose::Prepared, 0, Mode::Exclusive)
}
