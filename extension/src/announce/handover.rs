//! The queue from the transactions that committed to the worker, in shared memory.

use integration_credentials_core::ring::{Batch, Ring};
use pgrx::{PGRXSharedMemory, PgLwLock, PgSharedMemoryInitialization, pg_sys};
use std::ffi::CString;
use std::ptr;
use std::sync::OnceLock;

// SAFETY: the name is this extension's own.
static QUEUE: PgLwLock<Queue> = unsafe { PgLwLock::new(c"integration_credentials") };

#[derive(Default)]
struct Queue {
    ring: Ring,
    /// The worker's latch, NULL while there is no worker. In shared memory, so that it is where it is in every process.
    latch: Latch,
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

/// Asks for the shared memory. By hand, for pgrx's macro asks for the versions of Postgres that this crate is not for.
pub fn install() {
    // SAFETY: variables of the postmaster, which has one thread.
    unsafe {
        let next = Next { request: pg_sys::shmem_request_hook, startup: pg_sys::shmem_startup_hook };
        if NEXT.set(next).is_ok() {
            pg_sys::shmem_request_hook = Some(request);
            pg_sys::shmem_startup_hook = Some(startup);
        }
    }
}

static NEXT: OnceLock<Next> = OnceLock::new();

struct Next {
    request: pg_sys::shmem_request_hook_type,
    startup: pg_sys::shmem_startup_hook_type,
}

unsafe extern "C-unwind" fn request() {
    // SAFETY: called by the postmaster, when memory may be asked for.
    unsafe {
        if let Some(next) = NEXT.get().and_then(|next| next.request) {
            next();
        }
        QUEUE.on_shmem_request();
    }
}

unsafe extern "C-unwind" fn startup() {
    // SAFETY: called by the postmaster, when the memory is there.
    unsafe {
        if let Some(next) = NEXT.get().and_then(|next| next.startup) {
            next();
        }
        QUEUE.on_shmem_startup(Queue::default());
    }
}

/// Room in the queue for payloads that are handed over when their transaction has committed.
pub struct Reservation(usize);

impl Reservation {
    /// Reserves room; `None` if there is no worker or not that much room.
    pub fn for_payloads<'a>(payloads: impl Iterator<Item = &'a CString>) -> Option<Self> {
        let room = payloads.map(|payload| Ring::room_for(payload.as_bytes())).sum();
        let mut queue = QUEUE.exclusive();
        (!queue.latch.0.is_null() && queue.ring.reserve(room)).then_some(Self(room))
    }

    /// Hands the payloads over.
    pub fn redeem<'a>(self, payloads: impl Iterator<Item = &'a CString>) {
        let mut queue = QUEUE.exclusive();
        queue.ring.release(self.0);
        // SAFETY: a variable of this process.
        let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
        for payload in payloads {
            queue.ring.push(database, payload.as_bytes());
        }
        let latch = queue.latch.0;
        drop(queue);
        if !latch.is_null() {
            // SAFETY: the latch of a slot in shared memory. If the worker is gone, whoever has its slot wakes for nothing.
            unsafe { pg_sys::SetLatch(latch) };
        }
    }

    /// Gives the room back.
    pub fn cancel(self) {
        QUEUE.exclusive().ring.release(self.0);
    }
}

/// Whether all that was handed over has been sent.
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
