//! The locks of the extension other than table locks, held to the end of the transaction unless released.

use super::session;
use pgrx::pg_sys;

/// A lock.
#[derive(Clone, Copy)]
pub struct Lock(pg_sys::LOCKTAG);

/// How a lock is held.
#[derive(Clone, Copy)]
pub enum Mode {
    /// By any number of transactions. On a table, this mode takes no look at the locks of others.
    RowShare,
    /// By any number of transactions.
    Shared,
    /// By one transaction.
    Exclusive,
    /// By one transaction, in the mode in which NOTIFY takes its lock.
    AccessExclusive,
}

impl Mode {
    fn number(self) -> pg_sys::LOCKMODE {
        let mode = match self {
            Self::RowShare => pg_sys::RowShareLock,
            Self::Shared => pg_sys::ShareLock,
            Self::Exclusive => pg_sys::ExclusiveLock,
            Self::AccessExclusive => pg_sys::AccessExclusiveLock,
        };
        mode.cast_signed()
    }
}

impl Lock {
    /// The mark of a prepared transaction with events.
    pub fn prepared_events() -> Self {
        Self::advisory(0x1C, 0)
    }

    /// The queue for a credential, by a digest of org and key.
    pub fn credential(digest: u64) -> Self {
        Self::advisory(0x1D, digest)
    }

    /// The chain of audit blocks.
    pub fn audit_chain() -> Self {
        Self::advisory(0x1E, 0)
    }

    /// Held from before the id of an audit row is drawn until the row is in the table: a lock on the table of blocks,
    /// which nothing else locks in this mode.
    pub fn audit_append(blocks: pg_sys::Oid) -> Self {
        Self::of(session::database(), blocks, pg_sys::LockTagType::LOCKTAG_RELATION)
    }

    /// The turn to write the read ledger.
    pub fn reads() -> Self {
        Self::advisory(0x2E, 0)
    }

    /// The lock of every transaction with a NOTIFY, from before its commit: `PreCommit_Notify` locks
    /// "database 0".
    pub fn notify() -> Self {
        Self::of(pg_sys::InvalidOid, pg_sys::DatabaseRelationId, pg_sys::LockTagType::LOCKTAG_OBJECT)
    }

    /// A lock of Postgres' own.
    fn of(database: pg_sys::Oid, what: pg_sys::Oid, kind: pg_sys::LockTagType::Type) -> Self {
        Self(pg_sys::LOCKTAG {
            locktag_field1: database.to_u32(),
            locktag_field2: what.to_u32(),
            locktag_field3: 0,
            locktag_field4: 0,
            locktag_type: kind.to_le_bytes()[0],
            locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD.to_le_bytes()[0],
        })
    }

    /// An advisory lock that no SQL function can take: those have 1 or 2 in the last field.
    fn advisory(purpose: u16, what: u64) -> Self {
        Self(pg_sys::LOCKTAG {
            locktag_field1: session::database().to_u32(),
            locktag_field2: u32::try_from(what >> 32).unwrap_or_default(),
            locktag_field3: u32::try_from(what & u64::from(u32::MAX)).unwrap_or_default(),
            locktag_field4: purpose,
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY.to_le_bytes()[0],
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD.to_le_bytes()[0],
        })
    }

    /// Waits for the lock.
    pub fn acquire(self, mode: Mode) {
        self.take(mode, false);
    }

    /// Takes the lock if it is free.
    pub fn try_acquire(self, mode: Mode) -> bool {
        self.take(mode, true)
    }

    /// Whether another session holds a conflicting lock.
    pub fn is_held(self, mode: Mode) -> bool {
        let is_free = self.try_acquire(mode);
        if is_free {
            self.release(mode);
        }
        !is_free
    }

    /// Releases a lock that this transaction has taken, before its end.
    pub fn release(self, mode: Mode) {
        // SAFETY: a valid tag, in a transaction. A lock that is not held is a warning.
        unsafe { pg_sys::LockRelease(&raw const self.0, mode.number(), false) };
    }

    fn take(self, mode: Mode, at_once: bool) -> bool {
        // SAFETY: a valid tag, in a transaction.
        let taken = unsafe { pg_sys::LockAcquire(&raw const self.0, mode.number(), false, at_once) };
        taken != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}
