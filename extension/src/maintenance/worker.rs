//! The worker of one database.

use super::{JOBS, Job, board};
use crate::pg::error::{Raised, log};
use crate::pg::ffi::{SignalHandlerForConfigReload, die};
use crate::pg::{latch, relation, session, version};
use integration_credentials_core::board::Ended;
use pgrx::bgworkers::BackgroundWorker;
use pgrx::{check_for_interrupts, pg_guard, pg_sys};
use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// From round to round. A worker whose last round had no work ends, so it is gone two rounds after the last work.
const ROUND: Duration = Duration::from_secs(1);

/// What holds in this process, whatever `ALTER DATABASE ... SET` and `ALTER ROLE ... SET` say: no limit but that of
/// a lock, no session or replication role that changes what a statement means, and commits that wait for the local
/// disk alone. The limit is below the `deadlock_timeout` of a session, one second by default, so that as a rule the
/// worker gives way, and not a `DROP EXTENSION`. Libraries of `session_preload_libraries` are not loaded into a
/// background worker.
const SETTINGS: &[(&CStr, &CStr)] = &[
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"role", c"none"),
    (c"session_replication_role", c"origin"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_deferrable", c"off"),
    (c"statement_timeout", c"0"),
    (c"transaction_timeout", c"0"),
    (c"lock_timeout", c"500ms"),
    (c"synchronous_commit", c"local"),
    (c"jit", c"off"),
];

thread_local! {
    static ENDED: Cell<Ended> = const { Cell::new(Ended::Early) };
}

/// Called by Postgres in the worker's process.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn integration_credentials_maintenance(argument: pg_sys::Datum) {
    // SAFETY: the order in which a background worker starts. `die` waits until the process checks for interrupts.
    unsafe {
        version::pqsignal(pg_sys::SIGTERM.cast_signed(), Some(die));
        version::pqsignal(pg_sys::SIGHUP.cast_signed(), Some(SignalHandlerForConfigReload));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
    let database = database(argument);
    if !board::arrive(database) {
        return;
    }
    // SAFETY: in a process that is attached to shared memory. The callback runs however the process ends, but for
    // a crash, after which there is a new board.
    unsafe { pg_sys::before_shmem_exit(Some(leave), argument) };
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(database), None);
    pin_settings();
    ENDED.set(work(database, &database_name()));
}

fn work(database: pg_sys::Oid, name: &str) -> Ended {
    loop {
        if !round(database, name) {
            return Ended::Idle;
        }
        if board::is_contended() {
            return Ended::WithMore;
        }
        rest();
    }
}

/// Waits for the next round. A signal, or the start of the process, sets the latch before.
fn rest() {
    let begun = Instant::now();
    while let Some(rest) = ROUND.checked_sub(begun.elapsed()).filter(|rest| rest.as_millis() > 0) {
        latch::wait(pg_sys::WL_LATCH_SET, Some(rest));
        check_for_interrupts!();
        reload_if_asked();
    }
}

/// Runs each job once. Returns whether one may have more work.
fn round(database: pg_sys::Oid, database_name: &str) -> bool {
    board::begin_round(database);
    let mut has_more = false;
    for (number, job) in JOBS.iter().enumerate() {
        check_for_interrupts!();
        if !board::may_run(database, number) {
            continue;
        }
        match run(job) {
            Ok(more) => {
                board::ran(database, number);
                has_more |= more;
            }
            Err(Raised { message, .. }) => {
                if board::failed(database, number) {
                    let name = job.name.to_string_lossy();
                    log(format!(
                        "integration_credentials maintenance of database \"{database_name}\": {name} failed, and will be \
                         tried again: {message}"
                    ));
                }
            }
        }
    }
    has_more
}

fn database_name() -> String {
    // SAFETY: a transaction of its own, outside of any other.
    unsafe { pg_sys::StartTransactionCommand() };
    let name = session::database_name().to_string_lossy().into_owned();
    // SAFETY: as above.
    unsafe { pg_sys::CommitTransactionCommand() };
    name
}

/// Runs a job in a transaction of its own.
fn run(job: &Job) -> Result<bool, Raised> {
    let transaction = || {
        // SAFETY: the order of a transaction in a background worker, outside of any transaction.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, job.name.as_ptr());
            let is_installed = relation::is_installed();
            if !is_installed {
                (job.forget)(session::database());
            }
            let has_more = is_installed && (job.run)();
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
            // So that autovacuum hears of what was written.
            pg_sys::pgstat_report_stat(false);
            has_more
        }
    };
    let outcome = catch_unwind(AssertUnwindSafe(transaction)).map_err(|payload| {
        let raised = Raised::from_panic(payload);
        // SAFETY: cleans up after an error, as the main loop of a session does.
        unsafe { pg_sys::AbortCurrentTransaction() };
        raised
    });
    // SAFETY: between transactions.
    unsafe { pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null()) };
    outcome
}

fn pin_settings() {
    for (name, value) in SETTINGS {
        // SAFETY: constant names and values, valid for these settings. Postgres 15 and 16 lack transaction_timeout.
        unsafe {
            if !pg_sys::GetConfigOption(name.as_ptr(), true, false).is_null() {
                pg_sys::SetConfigOption(
                    name.as_ptr(),
                    value.as_ptr(),
                    pg_sys::GucContext::PGC_SUSET,
                    pg_sys::GucSource::PGC_S_OVERRIDE,
                );
            }
        }
    }
}

fn reload_if_asked() {
    // SAFETY: a flag that the handler of SIGHUP sets, between transactions.
    unsafe {
        if pg_sys::ConfigReloadPending != 0 {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

unsafe extern "C-unwind" fn leave(_: c_int, argument: pg_sys::Datum) {
    board::leave(database(argument), ENDED.get());
}

/// The database that the launcher passed.
fn database(argument: pg_sys::Datum) -> pg_sys::Oid {
    pg_sys::Oid::from(u32::try_from(argument.value()).unwrap_or_default())
}
