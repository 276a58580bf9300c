//! The tables and sequences of the extension by name: their cached oids, their invalidations, opening and
//! columns.

use super::error::Raised;
use super::version;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ffi::CStr;
use std::mem::ManuallyDrop;

const EXTENSION: &CStr = c"integration_credentials";
const SCHEMA: &CStr = c"integration_credentials";

#[derive(Clone, Copy)]
struct Table {
    name: &'static CStr,
    /// `InvalidOid` after an invalidation.
    oid: pg_sys::Oid,
    changes: u64,
}

thread_local! {
    // Never dropped: Postgres ends a transaction after the destructors of an exit() have run.
    static TABLES: RefCell<ManuallyDrop<Vec<Table>>> = const { RefCell::new(ManuallyDrop::new(Vec::new())) };
}

/// Whether this database has the extension, whose schema is then not another role's.
pub fn is_installed() -> bool {
    // SAFETY: names that end with a NUL, in a transaction.
    unsafe {
        pg_sys::get_extension_oid(EXTENSION.as_ptr(), true) != pg_sys::InvalidOid
            && pg_sys::get_namespace_oid(SCHEMA.as_ptr(), true) != pg_sys::InvalidOid
    }
}

/// The oid of a table, or `InvalidOid` if it does not exist.
pub fn oid(name: &'static CStr) -> pg_sys::Oid {
    find(name).oid
}

/// How many invalidations of a table this session has received.
pub fn changes(name: &'static CStr) -> u64 {
    find(name).changes
}

/// Locks a table to the end of the transaction, and returns its oid.
pub fn lock(name: &'static CStr, mode: u32) -> pg_sys::Oid {
    let mode = mode.cast_signed();
    loop {
        let found = oid(name);
        if found == pg_sys::InvalidOid {
            Raised::internal(format!("table {name:?} of integration_credentials does not exist")).throw();
        }
        // SAFETY: the call waits, and may be cancelled. During the wait another table may have got the name.
        unsafe {
            pg_sys::LockRelationOid(found, mode);
            if oid(name) == found {
                return found;
            }
            pg_sys::UnlockRelationOid(found, mode);
        }
    }
}

/// Opens a table, which stays locked to the end of the transaction.
pub fn open(name: &'static CStr, mode: u32) -> pg_sys::Relation {
    // SAFETY: a locked table.
    unsafe { pg_sys::table_open(lock(name, mode), pg_sys::NoLock.cast_signed()) }
}

/// How many pages a table has.
pub fn pages(name: &'static CStr) -> u32 {
    let table = open(name, pg_sys::AccessShareLock);
    // SAFETY: the table opened above.
    unsafe {
        let pages = pg_sys::RelationGetNumberOfBlocksInFork(table, pg_sys::ForkNumber::MAIN_FORKNUM);
        close(table);
        pages
    }
}

/// Closes a table that was opened.
///
/// # Safety
/// The table is open, and not used any more.
pub unsafe fn close(table: pg_sys::Relation) {
    // SAFETY: the caller vouches for it.
    unsafe { pg_sys::table_close(table, pg_sys::NoLock.cast_signed()) }
}

/// The columns of a table, dropped ones included.
///
/// # Safety
/// The descriptor is that of a table, and used only while that is open.
pub unsafe fn columns<'a>(descriptor: pg_sys::TupleDesc) -> &'a [pg_sys::FormData_pg_attribute] {
    // SAFETY: the caller vouches for it.
    unsafe {
        let count = usize::try_from((*descriptor).natts).unwrap_or(0);
        std::slice::from_raw_parts(version::first_column(descriptor), count)
    }
}

/// Whether a column has this name and type.
pub fn is_column(column: &pg_sys::FormData_pg_attribute, name: &CStr, type_oid: pg_sys::Oid) -> bool {
    column.atttypid == type_oid && is_named(column, name)
}

/// Whether a column has this name.
pub fn is_named(column: &pg_sys::FormData_pg_attribute, name: &CStr) -> bool {
    let mut letters = column.attname.data.iter().zip(name.to_bytes_with_nul());
    letters.all(|(a, b)| a.cast_unsigned() == *b)
}

fn find(name: &'static CStr) -> Table {
    let cached = TABLES.with_borrow(|tables| tables.iter().find(|table| table.name == name).copied());
    cached.filter(|table| table.oid != pg_sys::InvalidOid).unwrap_or_else(|| cache(name, look_up(name)))
}

fn look_up(name: &CStr) -> pg_sys::Oid {
    // SAFETY: names that end with a NUL.
    unsafe {
        let schema = pg_sys::get_namespace_oid(SCHEMA.as_ptr(), false);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    }
}

fn cache(name: &'static CStr, oid: pg_sys::Oid) -> Table {
    if TABLES.with_borrow(|tables| tables.is_empty()) {
        // SAFETY: a function of this library, which stays loaded.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(changed), pg_sys::Datum::null()) };
    }
    TABLES.with_borrow_mut(|tables| {
        let cached = tables.iter_mut().find(|table| table.name == name);
        let table = Table { name, oid, changes: cached.as_ref().map_or(0, |table| table.changes) };
        match cached {
            Some(cached) => *cached = table,
            None => tables.push(table),
        }
        table
    })
}

/// The callback of an invalidation: of a table, which may have been dropped, or of all tables (`InvalidOid`).
unsafe extern "C-unwind" fn changed(_: pg_sys::Datum, oid: pg_sys::Oid) {
    TABLES.with_borrow_mut(|tables| {
        for table in tables.iter_mut().filter(|table| [table.oid, pg_sys::InvalidOid].contains(&oid)) {
            table.oid = pg_sys::InvalidOid;
            table.changes += 1;
        }
    });
}
