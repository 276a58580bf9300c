//! Launching the workers, in the process of the notifier, which is connected to no database.
//!
//! A worker is dynamic: Postgres starts it, and does not start it again. Whether it came is seen on the board.

use super::{JOBS, board};
use crate::pg::error::log;
use pgrx::{IntoDatum, pg_sys};
use std::ffi::{CStr, c_char};
use std::time::Duration;

const LIBRARY: &CStr = c"integration_credentials";
const NAME: &CStr = c"integration_credentials maintenance";
const FUNCTION: &CStr = c"integration_credentials_maintenance";

/// Asks for a worker for every database, for what was left to do when the server stopped. A cluster with more
/// databases than the board has slots leaves that of the others to their next request.
pub fn begin() {
    if is_upgrade() {
        return;
    }
    // SAFETY: a transaction that reads a shared catalog, as the launcher of autovacuum does. An error ends the
    // process, which the postmaster starts again.
    unsafe {
        pg_sys::StartTransactionCommand();
        let relation = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock.cast_signed());
        let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
        loop {
            let row = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if row.is_null() {
                break;
            }
            let database = database_row(row);
            if may_connect(&database) {
                board::request_quietly(database.oid);
            }
        }
        pg_sys::table_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock.cast_signed());
        pg_sys::CommitTransactionCommand();
    }
}

/// Launches the workers that are due. Returns when to look again, if no request comes before.
pub fn attend() -> Option<Duration> {
    if is_upgrade() {
        return None;
    }
    while let Some(database) = board::launch() {
        match state(database) {
            State::Dropped => {
                for job in JOBS {
                    (job.forget)(database);
                }
                board::forget(database);
            }
            State::Closed => {
                board::not_launched(database);
            }
            State::Open => {
                if !launch(database) && board::not_launched(database) {
                    log(
                        "integration_credentials has no free worker for maintenance, and will try again; raise \
                         max_worker_processes"
                            .to_owned(),
                    );
                }
            }
        }
    }
    board::wait()
}

/// Whether `pg_upgrade` runs this server, and wants to be alone in it.
fn is_upgrade() -> bool {
    // SAFETY: a flag of the server.
    unsafe { pg_sys::IsBinaryUpgrade }
}

enum State {
    Dropped,
    Closed,
    Open,
}

/// Whether a worker can connect to a database, so that a worker that cannot does not fill the log.
fn state(database: pg_sys::Oid) -> State {
    // SAFETY: a transaction that reads the cache of a shared catalog, which every process has. An error ends
    // the process.
    unsafe {
        pg_sys::StartTransactionCommand();
        let row = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::DATABASEOID.cast_signed(),
            database.into_datum().unwrap_or(pg_sys::Datum::null()),
        );
        let state = if row.is_null() {
            State::Dropped
        } else {
            let may = may_connect(&database_row(row));
            pg_sys::ReleaseSysCache(row);
            if may { State::Open } else { State::Closed }
        };
        pg_sys::CommitTransactionCommand();
        state
    }
}

#[allow(clippy::cast_ptr_alignment, reason = "Postgres aligns its rows for any type")]
unsafe fn database_row(row: pg_sys::HeapTuple) -> pg_sys::FormData_pg_database {
    // SAFETY: the caller has a valid row of pg_database. The fixed columns are copied.
    unsafe { *pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_database>() }
}

/// Whether connections are allowed, and no DROP DATABASE was interrupted (a limit of -2).
fn may_connect(database: &pg_sys::FormData_pg_database) -> bool {
    database.datallowconn && database.datconnlimit >= -1
}

fn launch(database: pg_sys::Oid) -> bool {
    let mut worker = pg_sys::BackgroundWorker {
        bgw_flags: (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION)
            .cast_signed(),
        bgw_start_time: pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished,
        bgw_restart_time: pg_sys::BGW_NEVER_RESTART,
        bgw_main_arg: database.into_datum().unwrap_or(pg_sys::Datum::null()),
        ..Default::default()
    };
    fill(&mut worker.bgw_name, NAME);
    fill(&mut worker.bgw_type, NAME);
    fill(&mut worker.bgw_library_name, LIBRARY);
    fill(&mut worker.bgw_function_name, FUNCTION);
    // SAFETY: a complete description, which is copied; without a handle, which would have to be freed.
    unsafe { pg_sys::RegisterDynamicBackgroundWorker(&raw mut worker, std::ptr::null_mut()) }
}

/// Copies a name that fits, and leaves the rest zero.
fn fill<const N: usize>(place: &mut [c_char; N], name: &CStr) {
    for (to, from) in place.iter_mut().zip(name.to_bytes_with_nul()) {
        *to = from.cast_signed();
    }
}
