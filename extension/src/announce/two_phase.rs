//! A prepared transaction, which may commit in another session, after a restart.
//!
//! What survives with it is its locks. So one with events takes a lock that says so; who commits a prepared transaction
//! while such a lock is held announces that everybody should look again.

use pgrx::pg_sys;

/// No SQL function takes an advisory lock with this in its fourth field.
const MARK: u16 = 0x1C;

fn tag() -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        // SAFETY: a variable of this process.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: 0,
        locktag_field3: 0,
        locktag_field4: MARK,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY.to_le_bytes()[0],
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD.to_le_bytes()[0],
    }
}

/// Marks this transaction, which is being prepared, as one that has something to announce.
pub fn mark() {
    let tag = tag();
    // SAFETY: a valid tag, in a transaction. It waits at most for somebody who is just looking.
    unsafe { pg_sys::LockAcquire(&raw const tag, pg_sys::ShareLock.cast_signed(), false, false) };
}

/// Whether a prepared transaction of this database may have something to announce.
pub fn is_any_marked() -> bool {
    let (tag, mode) = (tag(), pg_sys::ExclusiveLock.cast_signed());
    // SAFETY: a valid tag, in a transaction; it does not wait.
    unsafe {
        let taken = pg_sys::LockAcquire(&raw const tag, mode, false, true);
        if taken == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
            return true;
        }
        pg_sys::LockRelease(&raw const tag, mode, false);
        false
    }
}
