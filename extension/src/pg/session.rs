//! The server's variables of this process, which Postgres sets before it calls the library.

use super::version;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// The database of this session. The worker, which is connected to no database, sets it for each
/// notification.
pub fn database() -> pg_sys::Oid {
    // SAFETY: a variable of this process.
    unsafe { pg_sys::MyDatabaseId }
}

/// Its name.
pub fn database_name() -> CString {
    // SAFETY: in a transaction of a process that has a database. The name is a palloc'd C string, NULL only if the
    // database was just dropped.
    unsafe {
        let name = pg_sys::get_database_name(database());
        if name.is_null() { CString::default() } else { CStr::from_ptr(name).to_owned() }
    }
}

/// The number of the current transaction, unique in this process.
pub fn transaction() -> pg_sys::LocalTransactionId {
    // SAFETY: this process' own entry, which it has while it runs statements.
    version::transaction_of(unsafe { &*pg_sys::MyProc })
}

/// Whether the postmaster loads the library, so that every process will have it.
pub fn is_preloading() -> bool {
    // SAFETY: a flag of the server, set before it loads a library.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}
