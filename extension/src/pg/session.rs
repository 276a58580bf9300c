//! What the server knows of this process: variables that Postgres has set before it calls the library.

use super::version;
use pgrx::pg_sys;

/// The database of this session. The worker, which is connected to none, sets it for what it sends.
pub fn database() -> pg_sys::Oid {
    // SAFETY: a variable of this process.
    unsafe { pg_sys::MyDatabaseId }
}

/// The transaction at work: a number that no other of this process has.
pub fn transaction() -> pg_sys::LocalTransactionId {
    // SAFETY: this process' own entry, which it has while it runs statements.
    version::transaction_of(unsafe { &*pg_sys::MyProc })
}

/// Whether the postmaster loads the library, so that every process will have it.
pub fn is_preloading() -> bool {
    // SAFETY: a flag of the server, set before it loads a library.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}
