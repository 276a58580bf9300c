//! Reading one row of a table of ours by its primary key, as a query would, without the executor.
//!
//! What a query sees is what the index leads to, under the same snapshot and with the same locks. What a query would do
//! besides does not apply: row security not to who owns the table, and triggers not to reading.

use crate::boundary::Raised;
use crate::table;
use pgrx::{FromDatum, IntoDatum, pg_sys};
use std::ffi::{CStr, c_int};

/// `BTEqualStrategyNumber`, in its type.
const EQUAL: pg_sys::StrategyNumber = 3;

/// A row that was found, while it is being read.
pub struct Row {
    descriptor: pg_sys::TupleDesc,
    tuple: pg_sys::HeapTuple,
}

impl Row {
    /// Whether this transaction has written it, and may still take it back.
    pub fn is_uncommitted(&self) -> bool {
        // SAFETY: the header of the tuple, whose xmin is the field that every tuple on a page has.
        unsafe { pg_sys::TransactionIdIsCurrentTransactionId((*(*self.tuple).t_data).t_choice.t_heap.t_xmin) }
    }

    /// A column; `None` is NULL.
    pub fn get<T: FromDatum + IntoDatum>(&self, column: &CStr) -> Option<T> {
        let attribute = attribute(self.descriptor, column, T::type_oid());
        let mut is_null = false;
        // SAFETY: an attribute of this tuple, whose type has been looked at.
        unsafe {
            let datum =
                pg_sys::heap_getattr(self.tuple, attribute.attnum.into(), self.descriptor, &mut is_null);
            T::from_polymorphic_datum(datum, is_null, attribute.atttypid)
        }
    }
}

/// Finds a row as of the snapshot that the running statement has. The key's columns, which are texts, are in the order of
/// the primary key.
pub fn find<const N: usize, R>(
    table: &'static CStr,
    key: [(&CStr, &str); N],
    read: impl FnOnce(&Row) -> R,
) -> Option<R> {
    // SAFETY: names and keys outlive the scan. What an error leaves open is closed at the end of the transaction, to which
    // the lock on the table is kept, as that of a query is.
    unsafe {
        let relation = table::open(table, pg_sys::AccessShareLock);
        let descriptor = (*relation).rd_att;
        let mut keys = key.map(|(column, text)| {
            let attribute = attribute(descriptor, column, pg_sys::TEXTOID);
            let mut key = pg_sys::ScanKeyData::default();
            pg_sys::ScanKeyEntryInitialize(
                &raw mut key,
                0,
                attribute.attnum,
                EQUAL,
                pg_sys::InvalidOid,
                attribute.attcollation,
                pg_sys::F_TEXTEQ.into(),
                text.into_datum().unwrap_or(pg_sys::Datum::null()),
            );
            key
        });
        let scan = pg_sys::systable_beginscan(
            relation,
            pg_sys::RelationGetPrimaryKeyIndex(relation),
            true,
            pg_sys::GetActiveSnapshot(),
            c_int::try_from(N).unwrap_or_default(),
            keys.as_mut_ptr(),
        );
        let tuple = pg_sys::systable_getnext(scan);
        let found = (!tuple.is_null()).then(|| read(&Row { descriptor, tuple }));
        pg_sys::systable_endscan(scan);
        table::close(relation);
        found
    }
}

/// Looks as a volatile function does: at what this transaction has done so far, and others have committed by now.
pub fn anew<R>(look: impl FnOnce() -> R) -> R {
    // SAFETY: within a transaction. An error pops the snapshot at the end of the transaction or subtransaction.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let result = look();
        pg_sys::PopActiveSnapshot();
        result
    }
}

fn attribute<'a>(
    descriptor: pg_sys::TupleDesc,
    column: &CStr,
    type_oid: pg_sys::Oid,
) -> &'a pg_sys::FormData_pg_attribute {
    // SAFETY: the descriptor of a relation that is open.
    let mut columns = unsafe { table::columns(descriptor) }.iter();
    columns.find(|attribute| table::is_column(attribute, column, type_oid)).unwrap_or_else(|| {
        let problem = format!(
            "integration_credentials: the table has no column {column:?} of the type it was made with"
        );
        Raised::internal(problem).throw()
    })
}
