//! Locks of our own, to the end of the transaction. They are advisory locks that no SQL function can take, for the last
//! field of theirs is 1 or 2.

use pgrx::pg_sys;

/// What a lock is for, as that last field.
#[derive(Clone, Copy)]
#[repr(u16)]
pub enum Purpose {
    /// A prepared transaction has something to announce.
    Prepared = 0x1C,
    /// A credential is being changed.
    Turn = 0x1D,
}

/// How a lock is held.
#[derive(Clone, Copy)]
pub enum Mode {
    /// By any number.
    Shared,
    /// By one alone.
    Exclusive,
}

impl Mode {
    fn number(self) -> pg_sys::LOCKMODE {
        let mode = match self {
            Self::Shared => pg_sys::ShareLock,
            Self::Exclusive => pg_sys::ExclusiveLock,
        };
        mode.cast_signed()
    }
}

/// Waits for a lock on `what`.
pub fn wait_for(purpose: Purpose, what: u64, mode: Mode) {
    acquire(tag(purpose, what), mode, false);
}

/// Whether somebody else holds a lock on `what` that would have to be waited for.
pub fn is_held(purpose: Purpose, what: u64, mode: Mode) -> bool {
    let tag = tag(purpose, what);
    let is_free = acquire(tag, mode, true);
    if is_free {
        // SAFETY: a lock that was taken just now.
        unsafe { pg_sys::LockRelease(&raw const tag, mode.number(), false) };
    }
    !is_free
}

fn acquire(tag: pg_sys::LOCKTAG, mode: Mode, at_once: bool) -> bool {
    // SAFETY: a valid tag, in a transaction.
    let taken = unsafe { pg_sys::LockAcquire(&raw const tag, mode.number(), false, at_once) };
    taken != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

fn tag(purpose: Purpose, what: u64) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        // SAFETY: a variable of this process.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: u32::try_from(what >> 32).unwrap_or_default(),
        locktag_field3: u32::try_from(what & u64::from(u32::MAX)).unwrap_or_default(),
        locktag_field4: purpose as u16,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY.to_le_bytes()[0],
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD.to_le_bytes()[0],
    }
}
