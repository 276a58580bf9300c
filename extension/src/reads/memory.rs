//! The ledger of `integration_credentials_core::read_ledger`, in shared memory, with a lock for each partition.
//!
//! By hand, because pgrx has a lock for each static, and no array of locks.

use crate::pg::ffi::{LWLockAcquire, LWLockRelease};
use integration_credentials_core::read_ledger::{
    Loss, Losses, PARTITIONS, Partition, Recorded, Subject, fits, partition_of,
};
use pgrx::pg_sys;
use std::ffi::{CStr, c_int};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

const NAME: &CStr = c"integration_credentials_reads";
/// One for each partition, and one for the losses.
const LOCKS: c_int = 65;
const _: () = assert!(PARTITIONS == 64);
/// The place of Postgres' `AddinShmemInitLock` among its locks, in all supported majors.
const ADDIN_SHMEM_INIT_LOCK: usize = 21;

#[repr(C)]
struct Ledger {
    partitions: [Partition; PARTITIONS],
    losses: Losses,
    /// The partition that is written next. So entries that are read all the time do not keep others from the table.
    turn: AtomicUsize,
}

// Set in the postmaster, and inherited by every process. NULL where the library is not preloaded.
static LEDGER: AtomicPtr<Ledger> = AtomicPtr::new(ptr::null_mut());
static LEDGER_LOCKS: AtomicPtr<pg_sys::LWLockPadded> = AtomicPtr::new(ptr::null_mut());

/// Requests the shared memory.
pub fn request_memory() {
    // SAFETY: `hooks` calls this in the postmaster, when memory may be requested.
    unsafe {
        pg_sys::RequestAddinShmemSpace(size_of::<Ledger>());
        pg_sys::RequestNamedLWLockTranche(NAME.as_ptr(), LOCKS);
    }
}

/// Initializes the ledger.
pub fn initialize() {
    let mut is_there = false;
    // SAFETY: `hooks` calls this in the postmaster, when the shared memory exists. Postgres aligns it to a cache
    // line. Zeroes are an empty ledger, and are not written on the stack, which the ledger would overflow.
    unsafe {
        let lock = &raw mut (*pg_sys::MainLWLockArray.add(ADDIN_SHMEM_INIT_LOCK)).lock;
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let ledger =
            pg_sys::ShmemInitStruct(NAME.as_ptr(), size_of::<Ledger>(), &raw mut is_there).cast::<Ledger>();
        if !is_there {
            ptr::write_bytes(ledger, 0, 1);
        }
        pg_sys::LWLockRelease(lock);
        LEDGER.store(ledger, Relaxed);
        LEDGER_LOCKS.store(pg_sys::GetNamedLWLockTranche(NAME.as_ptr()), Relaxed);
    }
}

/// A lock of the ledger, while it is held.
struct Held(*mut pg_sys::LWLock);

impl Held {
    fn take(ledger_lock: usize) -> Self {
        // SAFETY: one of the locks that `initialize` found.
        unsafe {
            let lock = &raw mut (*LEDGER_LOCKS.load(Relaxed).add(ledger_lock)).lock;
            LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
            Self(lock)
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: held since `take`. Nothing under a lock of the ledger calls Postgres, so no error has released it.
        unsafe { LWLockRelease(self.0) };
    }
}

/// Works on a partition, under its lock; `None` where the library is not preloaded. `work` calls nothing of Postgres.
fn with<R>(number: usize, work: impl FnOnce(&mut Partition) -> R) -> Option<R> {
    let ledger = LEDGER.load(Relaxed);
    if ledger.is_null() {
        return None;
    }
    let _held = Held::take(number);
    // SAFETY: under the lock of the partition.
    Some(work(unsafe { &mut (*ledger).partitions[number] }))
}

fn with_losses<R>(work: impl FnOnce(&mut Losses) -> R) -> Option<R> {
    let ledger = LEDGER.load(Relaxed);
    if ledger.is_null() {
        return None;
    }
    let _held = Held::take(PARTITIONS);
    // SAFETY: under the lock of the losses.
    Some(work(unsafe { &mut (*ledger).losses }))
}

/// Works on each partition in turn.
pub fn each(mut work: impl FnMut(&mut Partition)) {
    for number in 0..PARTITIONS {
        with(number, &mut work);
    }
}

/// Works on each partition, beginning with the one at which `work` had enough the last time: it returns whether it has.
pub fn each_in_turn(mut work: impl FnMut(&mut Partition) -> bool) {
    let ledger = LEDGER.load(Relaxed);
    if ledger.is_null() {
        return;
    }
    // SAFETY: shared memory that stays mapped.
    let turn = unsafe { &(*ledger).turn };
    let first = turn.load(Relaxed) % PARTITIONS;
    for number in (first..PARTITIONS).chain(0..first) {
        if with(number, &mut work).unwrap_or(true) {
            return turn.store(number, Relaxed);
        }
    }
}

/// Records a read, or counts it as lost; `None` where the library is not preloaded.
pub fn record(subject: &Subject, revision: i64, now: i64) -> Option<Recorded> {
    let digest = subject.digest();
    let recorded = if fits(subject.org, subject.key) {
        with(partition_of(digest), |partition| partition.record(subject, digest, revision, now))?
    } else {
        Recorded::Lost
    };
    if recorded == Recorded::Lost {
        with_losses(|losses| losses.count(subject.database, now));
    }
    Some(recorded)
}

/// What was lost of a database.
pub fn lost(database: u32) -> Option<Loss> {
    with_losses(|losses| losses.of(database)).flatten()
}

/// How many losses of a database no one was told of yet.
pub fn untold(database: u32) -> Option<u64> {
    with_losses(|losses| losses.tell(database)).flatten()
}

/// Drops the reads of a database that has no table for them.
pub fn forget(database: pg_sys::Oid) {
    each(|partition| partition.forget(database.to_u32()));
}
