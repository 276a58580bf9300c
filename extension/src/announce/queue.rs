//! The queue from the transactions that committed to the worker, in shared memory.

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
    /// The worker's latch, NULL while there is no worker. In shared memory, so that it is where it is in every process.
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

/// How much is handed over at once, in bytes: some hundreds of ordinary payloads.
const BATCH: usize = 64 * 1024;

/// Asks for the shared memory, when Postgres lets libraries ask. By hand, for pgrx's macro asks for the versions of Postgres
/// that this crate is not for.
pub fn request_memory() {
    // SAFETY: `hooks` calls this in the postmaster, when memory may be asked for.
    unsafe { QUEUE.on_shmem_request() };
}

/// Makes the queue, when Postgres has the shared memory.
pub fn initialize() {
    // SAFETY: `hooks` calls this in the postmaster, when the memory is there.
    unsafe { QUEUE.on_shmem_startup(Queue::default()) };
}

/// Payloads in the queue, of a transaction that is about to commit.
pub struct HandedOver(Entries);

impl HandedOver {
    /// Puts payloads into the queue; `None` if there is no worker or no room.
    pub fn new<'a>(payloads: impl Iterator<Item = &'a CString> + Clone) -> Option<Self> {
        let database = session::database().to_u32();
        let mut queue = QUEUE.exclusive();
        if queue.latch.0.is_null() {
            return None;
        }
        queue.ring.append(database, payloads.map(CString::as_bytes)).map(Self)
    }

    /// Says how the transaction ended, and wakes the worker if it waits for that.
    pub fn settle(self, is_committed: bool) {
        let mut queue = QUEUE.exclusive();
        let is_awaited = queue.ring.settle(self.0, is_committed);
        let latch = queue.latch.0;
        drop(queue);
        if is_awaited && !latch.is_null() {
            // SAFETY: the latch of a slot in shared memory. If the worker is gone, whoever has its slot wakes for nothing.
            unsafe { pg_sys::SetLatch(latch) };
        }
    }
}

/// Whether all that was put into the queue has been sent, or its transaction has aborted.
pub fn is_empty() -> bool {
    QUEUE.share().ring.is_empty()
}

/// What is to be sent next. It stays in the queue until it is `done`, so that a worker that fails loses nothing.
pub fn next() -> Batch {
    QUEUE.share().ring.front(BATCH)
}

/// Takes off the queue what has been sent.
pub fn done(batch: &Batch) {
    QUEUE.exclusive().ring.done(batch);
}

/// Counts a transaction with events that is being prepared.
pub fn count_prepared() {
    QUEUE.exclusive().prepared += 1;
}

/// How many there have been.
pub fn prepared() -> u64 {
    QUEUE.share().prepared
}

/// Says that this process is the worker, until it exits.
pub fn attend() {
    // SAFETY: this process' latch, which is in shared memory for one that has a slot there.
    unsafe {
        QUEUE.exclusive().latch = Latch(pg_sys::MyLatch);
        pg_sys::before_shmem_exit(Some(leave), pg_sys::Datum::null());
    }
}

unsafe extern "C-unwind" fn leave(_: std::ffi::c_int, _: pg_sys::Datum) {
    QUEUE.exclusive().latch = Latch::default();
}
