//! Our tables, and sequences, by name: their oids, remembered, and word of their changes.

use crate::boundary::Raised;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::mem::ManuallyDrop;

const SCHEMA: &CStr = c"integration_credentials";

struct Table {
    name: &'static CStr,
    oid: pg_sys::Oid,
    changes: u64,
}

thread_local! {
    // Never dropped: Postgres ends a transaction after the destructors of an exit() have run.
    static TABLES: RefCell<ManuallyDrop<Vec<Table>>> = const { RefCell::new(ManuallyDrop::new(Vec::new())) };
    static IS_FOLLOWED: Cell<bool> = const { Cell::new(false) };
}

/// The oid of a table, or `InvalidOid` if it is not there.
pub fn oid(name: &'static CStr) -> pg_sys::Oid {
    with(name, |table| table.oid)
}

/// How many changes of a table this session has been told of.
pub fn changes(name: &'static CStr) -> u64 {
    with(name, |table| table.changes)
}

/// Locks a table to the end of the transaction, and returns its oid.
pub fn lock(name: &'static CStr, mode: u32) -> pg_sys::Oid {
    let mode = mode.cast_signed();
    loop {
        let found = oid(name);
        if found == pg_sys::InvalidOid {
            Raised::internal(format!("integration_credentials: the table {name:?} is missing")).throw();
        }
        // SAFETY: it waits, and may be cancelled. Meanwhile another table may have got the name.
        unsafe {
            pg_sys::LockRelationOid(found, mode);
            if oid(name) == found {
                return found;
            }
            pg_sys::UnlockRelationOid(found, mode);
        }
    }
}

fn with<R>(name: &'static CStr, read: impl Fn(&Table) -> R) -> R {
    let known = TABLES.with_borrow(|tables| {
        let table = tables.iter().find(|table| table.name == name)?;
        (table.oid != pg_sys::InvalidOid).then(|| read(table))
    });
    known.unwrap_or_else(|| {
        let oid = look_up(name);
        TABLES.with_borrow_mut(|tables| {
            let index = tables.iter().position(|table| table.name == name).unwrap_or_else(|| {
                tables.push(Table { name, oid, changes: 0 });
                tables.len() - 1
            });
            tables[index].oid = oid;
            read(&tables[index])
        })
    })
}

fn look_up(name: &CStr) -> pg_sys::Oid {
    // SAFETY: names that end with a NUL; a function of this library, which stays loaded.
    unsafe {
        if !IS_FOLLOWED.replace(true) {
            pg_sys::CacheRegisterRelcacheCallback(Some(changed), pg_sys::Datum::null());
        }
        let schema = pg_sys::get_namespace_oid(SCHEMA.as_ptr(), false);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    }
}

/// Postgres' message that a table has changed, or (with no table) that any may have. It may be a table no longer.
unsafe extern "C-unwind" fn changed(_: pg_sys::Datum, oid: pg_sys::Oid) {
    TABLES.with_borrow_mut(|tables| {
        for table in tables.iter_mut().filter(|table| [table.oid, pg_sys::InvalidOid].contains(&oid)) {
            table.oid = pg_sys::InvalidOid;
            table.changes += 1;
        }
    });
}
