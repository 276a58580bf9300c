//! The queue between committing transactions and the worker, in shared memory.

use crate::pg::session;
use integration_credentials_core::ring_buffer::{Batch, Entries, RingBuffer};
use pgrx::{PGRXSharedMemory, PgLwLock, PgSharedMemoryInitialization, pg_sys};
use std::ffi::CString;
use std::ptr;

// SAFETY: the name is this extension's own.
static QUEUE: PgLwLock<Queue> = unsafe { PgLwLock::new(c"integration_credentials") };

#[derive(Default)]
struct Queue {
    ring: RingBuffer,
    /// The worker's latch, NULL while there is no worker. In shared memory, whose address is the same in
    /// every process.
    latch: Latch,
    /// How many transactions with events have been prepared.
    prepared: u64,
}

struct Latch(*mut pg_sys::Latch);

impl Default for Latch {
    fn default() -> Self {
        Self(ptr::null_mut())
    }
}

// SAFETY: plain numbers, and a pointer into shared memory.
unsafe impl PGRXSharedMemory for Queue {}

/// The size of a batch, in bytes: some hundreds of ordinary payloads.
const BATCH: usize = 64 * 1024;

/// Requests the shared memory. By hand, because pgrx's macro has code for majors that this crate does not
/// support.
pub fn request_memory() {
    // SAFETY: `hooks` calls this in the postmaster, when memory may be requested.
    unsafe { QUEUE.on_shmem_request() };
}

/// Initializes the queue.
pub fn initialize() {
    // SAFETY: `hooks` calls this in the postmaster, when the shared memory exists.
    unsafe { QUEUE.on_shmem_startup(Queue::default()) };
}

/// The queued payloads of a transaction that is about to commit.
pub struct HandedOver(Entries);

impl HandedOver {
    /// Queues payloads; `None` without a worker or without room.
    pub fn new<'a>(payloads: impl Iterator<Item = &'a CString> + Clone) -> Option<Self> {
        let database = session::database().to_u32();
        let mut queue = QUEUE.exclusive();
        if queue.latch.0.is_null() {
            return None;
        }
        queue.ring.append(database, payloads.map(CString::as_bytes)).map(Self)
    }

    /// Marks the payloads as committed or aborted, and wakes the worker if they are at the front.
    pub fn settle(self, is_committed: bool) {
        let mut queue = QUEUE.exclusive();
        let is_awaited = queue.ring.settle(self.0, is_committed);
        let latch = queue.latch.0;
        drop(queue);
        if is_awaited && !latch.is_null() {
            // SAFETY: the latch of a slot in shared memory. If the worker has exited, the next process of
            // that slot wakes for nothing.
            unsafe { pg_sys::SetLatch(latch) };
        }
    }
}

/// Wakes the worker, if there is one.
pub fn wake() {
    let latch = QUEUE.share().latch.0;
    if !latch.is_null() {
        // SAFETY: as in `settle`.
        unsafe { pg_sys::SetLatch(latch) };
    }
}

/// Whether the queue is empty.
pub fn is_empty() -> bool {
    QUEUE.share().ring.is_empty()
}

/// The next batch. It stays in the queue until `done`, so that a worker that fails loses nothing.
pub fn next() -> Batch {
    QUEUE.share().ring.front(BATCH)
}

/// Removes a batch that was sent.
pub fn done(batch: &Batch) {
    QUEUE.exclusive().ring.done(batch);
}

/// Counts a transaction with events that is being prepared.
pub fn count_prepared() {
    QUEUE.exclusive().prepared += 1;
}

/// How many transactions with events have been prepared.
pub fn prepared() -> u64 {
    QUEUE.share().prepared
}

/// Registers this process as the worker, until it exits.
pub fn attend() {
    // SAFETY: this process' latch, which is in shared memory, because a background worker has a slot there.
    unsafe {
        QUEUE.exclusive().latch = Latch(pg_sys::MyLatch);
        pg_sys::before_shmem_exit(Some(leave), pg_sys::Datum::null());
    }
}

unsafe extern "C-unwind" fn leave(_: std::ffi::c_int, _: pg_sys::Datum) {
    QUEUE.exclusive().latch = Latch::default();
}
