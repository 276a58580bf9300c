//! The progress of runs of `reencrypt`, in shared memory, for the view `reencrypt_progress`.

use crate::pg::call::{Answer, Call, VOID};
use crate::pg::session;
use crate::pg::tuplestore::Rows;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{IntoDatum, PGRXSharedMemory, PgLwLock, PgSharedMemoryInitialization, pg_sys};
use std::cell::Cell;

/// So many runs show their progress. A further run is not shown.
const RUNS: usize = 16;
const MAX_ID_BYTES: usize = 64;

// SAFETY: the name is this extension's own.
static SHOWN: PgLwLock<Shown> = unsafe { PgLwLock::new(c"integration_credentials progress") };

#[derive(Default)]
struct Shown([Option<Progress>; RUNS]);

// SAFETY: plain numbers.
unsafe impl PGRXSharedMemory for Shown {}

thread_local! {
    /// Whether a run of this session is shown.
    static IS_SHOWN: Cell<bool> = const { Cell::new(false) };
}

/// How far a run of this session is.
#[derive(Clone, Copy)]
pub struct Progress {
    process: i32,
    database: pg_sys::Oid,
    key_id: [u8; MAX_ID_BYTES],
    key_id_bytes: usize,
    started_at: pg_sys::TimestampTz,
    /// The rows that had another key when the run began.
    pub total: i64,
    /// The rows that the run has reencrypted.
    pub done: i64,
    /// The ciphertexts that cannot be decrypted.
    pub unreadable: i64,
}

impl Progress {
    /// Of a run that begins.
    pub fn begin(key_id: &str) -> Self {
        let mut id = [0; MAX_ID_BYTES];
        let key_id_bytes = key_id.len().min(MAX_ID_BYTES);
        id[..key_id_bytes].copy_from_slice(&key_id.as_bytes()[..key_id_bytes]);
        // SAFETY: a variable and a clock of the server.
        let (process, started_at) = unsafe { (pg_sys::MyProcPid, pg_sys::GetCurrentTimestamp()) };
        let database = session::database();
        Self { process, database, key_id: id, key_id_bytes, started_at, total: 0, done: 0, unreadable: 0 }
    }

    /// Shows it.
    pub fn report(self) {
        let mut shown = SHOWN.exclusive();
        let own = shown.0.iter().position(|run| run.is_some_and(|run| run.process == self.process));
        let free = || shown.0.iter().position(|run| run.is_none_or(|run| run.is_over()));
        if let Some(place) = own.or_else(free) {
            shown.0[place] = Some(self);
            IS_SHOWN.set(true);
        }
    }

    /// Whether the session has ended without a word, as one does that called `reencrypt_batch` by hand.
    fn is_over(&self) -> bool {
        // SAFETY: asks for a process by its id; the answer is not followed.
        unsafe { pg_sys::BackendPidGetProc(self.process) }.is_null()
    }
}

/// Shows the run of this session no longer. Without a run, as at the end of most transactions, does nothing.
pub fn end() {
    if IS_SHOWN.replace(false) {
        // SAFETY: a variable of the server.
        let process = unsafe { pg_sys::MyProcPid };
        let mut shown = SHOWN.exclusive();
        shown
            .0
            .iter_mut()
            .filter(|run| run.is_some_and(|run| run.process == process))
            .for_each(|run| *run = None);
    }
}

/// Requests the shared memory.
pub fn request_memory() {
    // SAFETY: `hooks` calls this in the postmaster, when memory may be requested.
    unsafe { SHOWN.on_shmem_request() };
}

/// Initializes the shared memory.
pub fn initialize() {
    // SAFETY: `hooks` calls this in the postmaster, when the shared memory exists.
    unsafe { SHOWN.on_shmem_startup(Shown::default()) };
}

/// `reencrypt_runs()`
pub fn call(call: &Call) -> Answer {
    crate::settings::require_preload()?;
    let mut rows = Rows::<7>::of(call);
    let shown = SHOWN.share().0;
    for run in shown.into_iter().flatten().filter(|run| !run.is_over()) {
        let key_id = str::from_utf8(&run.key_id[..run.key_id_bytes]).unwrap_or_default();
        rows.push([
            run.process.into_datum(),
            run.database.into_datum(),
            key_id.into_datum(),
            run.total.into_datum(),
            run.done.into_datum(),
            run.unreadable.into_datum(),
            TimestampWithTimeZone::try_from(run.started_at).ok().and_then(IntoDatum::into_datum),
        ]);
    }
    Ok(VOID)
}
