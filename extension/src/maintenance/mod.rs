//! Jobs that are off the path of a call, in a background worker for each database that has work.
//!
//! A worker comes after a request, and ends after a round in which no job had work. So it is not in the way of
//! `DROP DATABASE` and `CREATE DATABASE ... TEMPLATE`, which wait five seconds for others to leave. There is none
//! on a standby: Postgres starts the launcher when recovery has ended.
//!
//! | module | concept |
//! | --- | --- |
//! | `board` | the databases with work, and their workers, in shared memory |
//! | `launcher` | launching workers, in the notifier's process |
//! | `worker` | the worker of one database |

use crate::audit::seal;
use crate::pg::session;
use crate::{reads, settings};
use integration_credentials_core::board::JOBS as MOST_JOBS;
use pgrx::pg_sys;
use std::ffi::CStr;

pub mod board;
pub mod launcher;
mod worker;

/// A job.
pub struct Job {
    /// What `pg_stat_activity` and the log call it.
    name: &'static CStr,
    /// Runs in a transaction of its own, as a superuser, with a snapshot and a pinned `search_path`. Returns
    /// whether the job may have more work soon. An error is logged once, and the job is tried again later.
    ///
    /// A job writes to a table by [`crate::pg::owner::as_table_owner`], since another role may own the table.
    run: fn() -> bool,
    /// Drops what memory has of a database that was dropped or has no extension.
    forget: fn(pg_sys::Oid),
}

/// The jobs, in the order of their runs. To add a job: a line here, and a call of [`request`] where its work
/// arises. When the notifier starts, every database gets a worker, for work from before a restart.
const JOBS: &[Job] = &[
    Job {
        name: c"integration_credentials: writing the read ledger",
        run: reads::job,
        forget: reads::memory::forget,
    },
    Job { name: c"integration_credentials: sealing the audit log", run: seal::run_job, forget: |_| () },
];

const _: () = assert!(JOBS.len() <= MOST_JOBS);

/// Asks for a worker for this database, within a second. Call this when the work is visible to others: after the
/// commit, where it is in a table.
///
/// A session asks each time: a worker that found nothing after an earlier request has ended.
pub fn request() {
    // SAFETY: a flag of the server.
    if settings::require_preload().is_ok() && !unsafe { pg_sys::RecoveryInProgress() } {
        board::request(session::database());
    }
}
