//! Reads a row of the extension's tables by its primary key, as a query would, without the executor.
//!
//! The scan sees the same rows as a query, under the same locks. Row security does not apply to the owner of
//! a table, nor do triggers to reads. A snapshot may be older than a lock that had to be waited for; this
//! module handles that case.

use super::error::Raised;
use super::{relation, version};
use pgrx::{FromDatum, IntoDatum, PgMemoryContexts, pg_sys};
use std::ffi::{CStr, c_int};
use std::ops::ControlFlow;

/// `BTEqualStrategyNumber` and `BTGreaterEqualStrategyNumber`, in their type.
const EQUAL: pg_sys::StrategyNumber = 3;
const AT_LEAST: pg_sys::StrategyNumber = 4;

/// `HEAP_XMIN_FROZEN`: older than any snapshot.
const FROZEN: u32 = pg_sys::HEAP_XMIN_COMMITTED | pg_sys::HEAP_XMIN_INVALID;

/// A row that was found, while it is being read.
pub struct Row {
    descriptor: pg_sys::TupleDesc,
    tuple: pg_sys::HeapTuple,
}

impl Row {
    /// Whether this transaction has written it, and may still roll it back.
    pub fn is_uncommitted(&self) -> bool {
        // SAFETY: a tuple that is being read.
        unsafe { pg_sys::TransactionIdIsCurrentTransactionId(xmin(self.tuple)) }
    }

    /// Whether the table has a column, which a table of an earlier version may lack.
    pub fn has(&self, column: &CStr, type_oid: pg_sys::Oid) -> bool {
        // SAFETY: the descriptor of an open relation.
        let mut columns = unsafe { relation::columns(self.descriptor) }.iter();
        columns.any(|attribute| relation::is_column(attribute, column, type_oid))
    }

    /// Whether a bytea column has a value, which may be too long to be read for nothing.
    pub fn has_bytes(&self, column: &CStr) -> bool {
        let attribute = attribute(self.descriptor, column, pg_sys::BYTEAOID);
        // SAFETY: an attribute of this tuple.
        unsafe { !pg_sys::heap_attisnull(self.tuple, attribute.attnum.into(), self.descriptor) }
    }

    /// A column; `None` is NULL.
    pub fn get<T: FromDatum + IntoDatum>(&self, column: &CStr) -> Option<T> {
        // SAFETY: the type is that of the column.
        self.datum(column, T::type_oid())
            .and_then(|datum| unsafe { T::from_polymorphic_datum(datum, false, T::type_oid()) })
    }

    /// How many bytes a column of variable length has, without reading it.
    pub fn size(&self, column: &CStr, type_oid: pg_sys::Oid) -> usize {
        // SAFETY: a column of variable length.
        self.datum(column, type_oid).map_or(0, |datum| unsafe { pg_sys::toast_raw_datum_size(datum) })
    }

    fn datum(&self, column: &CStr, type_oid: pg_sys::Oid) -> Option<pg_sys::Datum> {
        let attribute = attribute(self.descriptor, column, type_oid);
        let mut is_null = false;
        // SAFETY: an attribute of this tuple, whose type was checked.
        let datum = unsafe {
            pg_sys::heap_getattr(self.tuple, attribute.attnum.into(), self.descriptor, &mut is_null)
        };
        (!is_null).then_some(datum)
    }
}

/// The snapshot to read with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// Of the calling statement; under `REPEATABLE READ`, of the transaction.
    Statement,
    /// Of now, in any isolation level: with all changes of this transaction, and all committed ones.
    Now,
}

/// Finds a row. The key's columns, which are texts, are in the order of the primary key.
pub fn find<const N: usize, R>(
    table: &'static CStr,
    key: [(&CStr, &str); N],
    as_of: AsOf,
    read: impl Fn(&Row) -> R,
) -> Option<R> {
    // SAFETY: Postgres closes open relations after an error, and keeps the lock on the table to the end of
    // the transaction, as for a query.
    unsafe {
        let relation = relation::open(table, pg_sys::AccessShareLock);
        let found = match as_of {
            AsOf::Now => latest(|| first(relation, &key, &read)),
            // The statement may have taken its snapshot before it waited for the lock. If the table was
            // rewritten in between, such a snapshot shows no row, because all rows are new.
            AsOf::Statement => first(relation, &key, &read).or_else(|| {
                refuse_if_rewritten(relation);
                transactions(|| first(relation, &key, &read))
            }),
        };
        relation::close(relation);
        found
    }
}

/// Visits the rows of a table, as of now. What a visit has Postgres allocate, such as a detoasted ciphertext, is
/// freed after it, so that a long table takes no more memory than a row.
pub fn visit(table: &'static CStr, mut visit: impl FnMut(&Row)) {
    let mut memory = PgMemoryContexts::new("integration_credentials row");
    // SAFETY: as above; nothing of a visit's memory is used after the visit.
    unsafe {
        let relation = relation::open(table, pg_sys::AccessShareLock);
        latest(|| {
            scan(relation, &[], |row| {
                memory.switch_to(|_| visit(row));
                memory.reset();
                ControlFlow::Continue(())
            });
        });
        relation::close(relation);
    }
}

/// Visits the rows that exist from a number on, in ascending order, by an index on the column of that number. A row
/// exists from its write on, unless that was rolled back: the visit gets whether the transaction is over.
pub fn visit_existing(
    table: &'static CStr,
    index: &'static CStr,
    (column, first): (&CStr, i64),
    mut visit: impl FnMut(&Row, bool) -> ControlFlow<()>,
) {
    let mut memory = PgMemoryContexts::new("integration_credentials row");
    // SAFETY: as above. The snapshot outlives the scan, which writes into it whose each row is.
    unsafe {
        let relation = relation::open(table, pg_sys::AccessShareLock);
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyEntryInitialize(
            &raw mut key,
            0,
            attribute((*relation).rd_att, column, pg_sys::INT8OID).attnum,
            AT_LEAST,
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            pg_sys::F_INT8GE.into(),
            first.into(),
        );
        let mut snapshot = pg_sys::SnapshotData {
            snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY,
            ..Default::default()
        };
        let snapshot = &raw mut snapshot;
        let index = relation::lock(index, pg_sys::AccessShareLock);
        let scan = pg_sys::systable_beginscan(relation, index, true, snapshot, 1, &raw mut key);
        walk(scan, (*relation).rd_att, |row| {
            let is_over = (*snapshot).xmin == pg_sys::InvalidTransactionId;
            let flow = memory.switch_to(|_| visit(row, is_over));
            memory.reset();
            flow
        });
        relation::close(relation);
    }
}

/// Reads the rows whose primary key begins with these texts, as of now. `then` gets them with the snapshot of that
/// moment.
pub fn latest_of<const N: usize, R, T>(
    table: &'static CStr,
    key: [(&CStr, &str); N],
    read: impl Fn(&Row) -> R,
    then: impl FnOnce(Vec<R>, pg_sys::Snapshot) -> T,
) -> T {
    // SAFETY: as above.
    unsafe {
        let relation = relation::open(table, pg_sys::AccessShareLock);
        let mut found = Vec::new();
        let result = latest(|| {
            scan(relation, &key, |row| {
                found.push(read(row));
                ControlFlow::Continue(())
            });
            then(found, pg_sys::GetActiveSnapshot())
        });
        relation::close(relation);
        result
    }
}

/// Runs a query of these tables, which are locked before the query takes its snapshot.
pub fn query<R>(tables: &[&'static CStr], query: impl FnOnce() -> R) -> R {
    for &table in tables {
        // SAFETY: opened just now. Postgres closes it after an error.
        unsafe {
            let relation = relation::open(table, pg_sys::AccessShareLock);
            refuse_if_rewritten(relation);
            relation::close(relation);
        }
    }
    transactions(query)
}

/// Under a snapshot of now.
fn latest<R>(scan: impl FnOnce() -> R) -> R {
    // SAFETY: within a transaction, and in no parallel worker: no function that comes here is declared
    // PARALLEL SAFE.
    under(
        unsafe {
            pg_sys::CommandCounterIncrement();
            pg_sys::GetLatestSnapshot()
        },
        scan,
    )
}

/// Under the snapshot that a new statement of this transaction would have.
fn transactions<R>(scan: impl FnOnce() -> R) -> R {
    // SAFETY: within a transaction.
    under(unsafe { pg_sys::GetTransactionSnapshot() }, scan)
}

fn under<R>(snapshot: pg_sys::Snapshot, scan: impl FnOnce() -> R) -> R {
    // SAFETY: a valid snapshot, which is copied. After an error, the end of the transaction or subtransaction
    // pops it.
    unsafe {
        pg_sys::PushActiveSnapshot(snapshot);
        let result = scan();
        pg_sys::PopActiveSnapshot();
        result
    }
}

unsafe fn first<const N: usize, R>(
    relation: pg_sys::Relation,
    key: &[(&CStr, &str); N],
    read: impl Fn(&Row) -> R,
) -> Option<R> {
    let mut found = None;
    // SAFETY: the caller vouches for the relation.
    unsafe {
        scan(relation, key, |row| {
            found = Some(read(row));
            ControlFlow::Break(())
        });
    }
    found
}

/// Visits the rows that the active snapshot shows: the row of a primary key or, without a key, all.
unsafe fn scan<const N: usize>(
    relation: pg_sys::Relation,
    key: &[(&CStr, &str); N],
    visit: impl FnMut(&Row) -> ControlFlow<()>,
) {
    // SAFETY: an open relation; names and keys outlive the scan.
    unsafe {
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
        let index = if N == 0 { pg_sys::InvalidOid } else { version::primary_key(relation) };
        let scan = pg_sys::systable_beginscan(
            relation,
            index,
            N > 0,
            pg_sys::GetActiveSnapshot(),
            c_int::try_from(N).unwrap_or_default(),
            keys.as_mut_ptr(),
        );
        walk(scan, descriptor, visit);
    }
}

/// Visits the rows of a scan, and ends it.
unsafe fn walk(
    scan: pg_sys::SysScanDesc,
    descriptor: pg_sys::TupleDesc,
    mut visit: impl FnMut(&Row) -> ControlFlow<()>,
) {
    // SAFETY: the caller vouches for the scan of a relation with this descriptor.
    unsafe {
        loop {
            pg_sys::check_for_interrupts!();
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() || visit(&Row { descriptor, tuple }).is_break() {
                break;
            }
        }
        pg_sys::systable_endscan(scan);
    }
}

/// Raises a serialization failure in a transaction whose snapshot may be older than a rewrite of the table:
/// that snapshot shows no rows, which must not be reported as missing.
unsafe fn refuse_if_rewritten(relation: pg_sys::Relation) {
    if !sees_an_old_snapshot() {
        return;
    }
    // SAFETY: a relation that is open and locked, so that the syscache has its row of pg_class.
    let is_rewritten = unsafe {
        let class = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::RELOID.cast_signed(),
            (*relation).rd_id.into_datum().unwrap_or(pg_sys::Datum::null()),
        );
        if class.is_null() {
            return;
        }
        let changed_by = xmin(class);
        let is_frozen = u32::from((*(*class).t_data).t_infomask) & FROZEN == FROZEN;
        pg_sys::ReleaseSysCache(class);
        !is_frozen
            && !pg_sys::TransactionIdIsCurrentTransactionId(changed_by)
            && pg_sys::XidInMVCCSnapshot(changed_by, pg_sys::GetTransactionSnapshot())
    };
    if is_rewritten {
        let problem =
            "could not serialize access: a table of integration_credentials was altered concurrently";
        Raised::try_again(problem).throw();
    }
}

/// Whether this transaction keeps its snapshot, so that it does not see concurrent commits.
pub fn sees_an_old_snapshot() -> bool {
    // SAFETY: a variable of the server.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ.cast_signed() }
}

unsafe fn xmin(tuple: pg_sys::HeapTuple) -> pg_sys::TransactionId {
    // SAFETY: the header of a tuple on its page, where every tuple has an xmin.
    unsafe { (*(*tuple).t_data).t_choice.t_heap.t_xmin }
}

fn attribute<'a>(
    descriptor: pg_sys::TupleDesc,
    column: &CStr,
    type_oid: pg_sys::Oid,
) -> &'a pg_sys::FormData_pg_attribute {
    // SAFETY: the descriptor of an open relation.
    let mut columns = unsafe { relation::columns(descriptor) }.iter();
    columns.find(|attribute| relation::is_column(attribute, column, type_oid)).unwrap_or_else(|| {
        let problem = format!(
            "a table of integration_credentials lacks its column {column:?}, or has it with another type"
        );
        Raised::internal(problem).throw()
    })
}
