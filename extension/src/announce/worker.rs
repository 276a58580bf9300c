//! The background worker that sends the queue: one for the whole cluster, connected to no database. Between
//! batches it launches the workers of maintenance: so these need no launcher of their own, which would take
//! another of `max_worker_processes` for good.

use super::queue;
use crate::maintenance::launcher;
use crate::pg::ffi::die;
use crate::pg::{latch, version};
use integration_credentials_core::ring_buffer::Batch;
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder};
use pgrx::{check_for_interrupts, pg_guard, pg_sys};
use std::collections::HashMap;
use std::ffi::{CString, c_int};
use std::time::Duration;

/// How long to rest after a batch, for each session that it may have woken. So with many sessions, one
/// transaction sends the events of many, and waking listeners does not take the whole machine.
const REST_PER_SESSION: Duration = Duration::from_micros(20);
/// With 1 ms, 8 callers that set credentials get through 2.7 % fewer calls, and 32 get through 1.7 % fewer.
const SHORTEST_REST: Duration = Duration::from_millis(3);
const LONGEST_REST: Duration = Duration::from_millis(10);

/// Registers the worker with the postmaster, which restarts it a second after a failure. Its batch is still
/// queued.
pub fn register() {
    BackgroundWorkerBuilder::new("integration_credentials notifier")
        .set_library("integration_credentials")
        .set_function("integration_credentials_notifier")
        .set_restart_time(Some(Duration::from_secs(1)))
        .enable_spi_access()
        .load();
}

/// Called by Postgres in the worker's process.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn integration_credentials_notifier(_argument: pg_sys::Datum) {
    // SAFETY: the order in which a background worker starts. The default handler of SIGTERM ends the process
    // at once, and in the middle of a commit that takes the server down. `die` waits until the process checks
    // for interrupts.
    unsafe {
        version::pqsignal(pg_sys::SIGTERM.cast_signed(), Some(die));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
    BackgroundWorker::connect_worker_to_spi(None, None);
    // SAFETY: a setting of this process. No listener misses a notification that a crash loses, because no
    // connection outlives the crash.
    unsafe {
        pg_sys::SetConfigOption(
            c"synchronous_commit".as_ptr(),
            c"off".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
    queue::attend();
    launcher::begin();
    loop {
        check_for_interrupts!();
        let until_next_launch = launcher::attend();
        let batch = queue::next();
        if batch.is_empty() {
            latch::wait(pg_sys::WL_LATCH_SET, until_next_launch);
            continue;
        }
        let databases = send(&batch);
        queue::done(&batch);
        rest(&databases);
    }
}

/// Sends a batch, with a transaction for each database. Returns the databases.
fn send(batch: &Batch) -> Vec<pg_sys::Oid> {
    let mut databases: HashMap<u32, Vec<CString>> = HashMap::new();
    for (database, payload) in &batch.payloads {
        if let Ok(payload) = CString::new(payload.as_slice()) {
            databases.entry(*database).or_default().push(payload);
        }
    }
    databases
        .into_iter()
        .map(|(database, payloads)| {
            let database = pg_sys::Oid::from(database);
            // SAFETY: a transaction that does nothing but notify. Postgres reads MyDatabaseId at commit for
            // the database of a notification, and nothing else of this commit reads it. An error ends the
            // process.
            unsafe {
                pg_sys::SetCurrentStatementStartTimestamp();
                pg_sys::StartTransactionCommand();
                for payload in &payloads {
                    super::send::send(payload);
                }
                pg_sys::MyDatabaseId = database;
                pg_sys::CommitTransactionCommand();
                pg_sys::MyDatabaseId = pg_sys::InvalidOid;
            }
            database
        })
        .collect()
}

fn rest(databases: &[pg_sys::Oid]) {
    let sessions: c_int = databases.iter().map(|&database| super::pending::count_sessions(database)).sum();
    let rest = REST_PER_SESSION * sessions.unsigned_abs();
    latch::wait(0, Some(rest.clamp(SHORTEST_REST, LONGEST_REST)));
}
