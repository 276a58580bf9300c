//! The board of `integration_credentials_core::board`, in shared memory, with a clock that all processes share.

use crate::announce::queue;
use integration_credentials_core::board::{Board, Ended};
use pgrx::{PGRXSharedMemory, PgLwLock, PgSharedMemoryInitialization, pg_sys};
use std::time::Duration;

// SAFETY: the name is this extension's own.
static BOARD: PgLwLock<Shared> = unsafe { PgLwLock::new(c"integration_credentials_maintenance") };

#[derive(Default)]
struct Shared(Board);

// SAFETY: plain numbers.
unsafe impl PGRXSharedMemory for Shared {}

/// Requests the shared memory.
pub fn request_memory() {
    // SAFETY: `hooks` calls this in the postmaster, when memory may be requested.
    unsafe { BOARD.on_shmem_request() };
}

/// Initializes the board.
pub fn initialize() {
    // SAFETY: `hooks` calls this in the postmaster, when the shared memory exists.
    unsafe { BOARD.on_shmem_startup(Shared::default()) };
}

/// Asks for a worker for a database, and wakes the launcher.
pub fn request(database: pg_sys::Oid) {
    if request_quietly(database) {
        queue::wake();
    }
}

/// Asks for a worker, in the launcher itself.
pub fn request_quietly(database: pg_sys::Oid) -> bool {
    BOARD.exclusive().0.request(database.to_u32(), now())
}

/// The database whose worker is to be launched now.
pub fn launch() -> Option<pg_sys::Oid> {
    BOARD.exclusive().0.launch(now()).map(pg_sys::Oid::from)
}

/// Notes that a worker could not be launched. Returns whether it is the first time in a row.
pub fn not_launched(database: pg_sys::Oid) -> bool {
    BOARD.exclusive().0.not_launched(database.to_u32(), now())
}

/// How long until the next launch; `None` before a request or the end of a worker.
pub fn wait() -> Option<Duration> {
    // Not less than a millisecond, which the wait of Postgres counts in.
    let micros = BOARD.share().0.wait(now())?.max(1000);
    Some(Duration::from_micros(micros.unsigned_abs()))
}

/// Forgets a database that was dropped.
pub fn forget(database: pg_sys::Oid) {
    BOARD.exclusive().0.forget(database.to_u32());
}

/// Registers this process as the worker of a database; `false` if there is one.
pub fn arrive(database: pg_sys::Oid) -> bool {
    BOARD.exclusive().0.arrive(database.to_u32(), this_process())
}

/// Begins a round.
pub fn begin_round(database: pg_sys::Oid) {
    BOARD.exclusive().0.begin_round(database.to_u32());
}

/// Whether a job may run, as far as its last failure allows.
pub fn may_run(database: pg_sys::Oid, job: usize) -> bool {
    BOARD.share().0.may_run(database.to_u32(), job, now())
}

/// Notes that a job ran.
pub fn ran(database: pg_sys::Oid, job: usize) {
    BOARD.exclusive().0.ran(database.to_u32(), job);
}

/// Notes that a job failed. Returns whether it is the first time in a row.
pub fn failed(database: pg_sys::Oid, job: usize) -> bool {
    BOARD.exclusive().0.failed(database.to_u32(), job, now())
}

/// Whether another database waits for this worker to end.
pub fn is_contended() -> bool {
    BOARD.share().0.is_contended(now())
}

/// Takes this worker off the board.
pub fn leave(database: pg_sys::Oid, ended: Ended) {
    let must_wake = BOARD.exclusive().0.leave(database.to_u32(), this_process(), ended, now());
    if must_wake {
        queue::wake();
    }
}

fn this_process() -> i32 {
    // SAFETY: a variable of this process.
    unsafe { pg_sys::MyProcPid }
}

/// Microseconds since the machine was started, which no one can set back.
fn now() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills in the time; it cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000
}
