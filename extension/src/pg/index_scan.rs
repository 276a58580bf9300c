//! Reads a row of the extension's tables by its primary key, as a query would, without the executor, and without the
//! index where the row still is in the place where it was found last.
//!
//! The scan sees the same rows as a query, under the same locks. Row security does not apply to the owner of
//! a table, nor do triggers to reads. A snapshot may be older than a lock that had to be waited for; this
//! module handles that case.

use super::error::Raised;
use super::row::{attribute, xmin};
use super::{relation, version};
use pgrx::{IntoDatum, PgMemoryContexts, pg_sys};
use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::ops::ControlFlow;
use std::ptr;

pub use super::row::{Column, Columns, Row};

/// `BTEqualStrategyNumber` and `BTGreaterEqualStrategyNumber`, in their type.
const EQUAL: pg_sys::StrategyNumber = 3;
const AT_LEAST: pg_sys::StrategyNumber = 4;

/// `HEAP_XMIN_FROZEN`: older than any snapshot.
const FROZEN: u32 = pg_sys::HEAP_XMIN_COMMITTED | pg_sys::HEAP_XMIN_INVALID;

/// Where the versions of a row were found last. [`find_again`] looks there first, because the way down the index takes
/// most of the time of a read. A hint may be wrong: the row may have moved, and the buffer may have another page.
#[derive(Default)]
pub struct Hint(Cell<Option<Place>>);

#[derive(Clone, Copy)]
struct Place {
    buffer: pg_sys::Buffer,
    row: pg_sys::ItemPointerData,
    /// How often a read has looked there.
    uses: u8,
}

/// So many reads later the index is read again. A buffer that is pinned by its number does not count as used, and
/// Postgres would evict a page that everybody reads as if nobody did.
const MOST_USES: u8 = 64;

/// Entries of the catalog that differ only in their hints are equal.
impl PartialEq for Hint {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Hint {}

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
    // SAFETY: an open relation.
    search(table, as_of, |relation| unsafe { first(relation, &key, &read) })
}

/// Finds a row, first where it was found last.
pub fn find_again<const N: usize, R>(
    table: &'static CStr,
    key: [(&CStr, &str); N],
    as_of: AsOf,
    hint: &Hint,
    read: impl Fn(&Row) -> R,
) -> Option<R> {
    // SAFETY: an open relation.
    search(table, as_of, |relation| unsafe {
        at(relation, hint, &key, &read).or_else(|| {
            first(relation, &key, |row| {
                let place = row.place().map(|(buffer, row)| Place { buffer, row, uses: 0 });
                hint.0.set(place);
                read(row)
            })
        })
    })
}

/// Searches a table under a snapshot. The statement may have taken its snapshot before it waited for the lock. If the
/// table was rewritten in between, such a snapshot shows no row, because all rows are new.
fn search<R>(table: &'static CStr, as_of: AsOf, find: impl Fn(pg_sys::Relation) -> Option<R>) -> Option<R> {
    // SAFETY: Postgres closes open relations after an error, and keeps the lock on the table to the end of
    // the transaction, as for a query.
    unsafe {
        let relation = relation::open(table, pg_sys::AccessShareLock);
        let found = match as_of {
            AsOf::Now => latest(|| find(relation)),
            AsOf::Statement => find(relation).or_else(|| {
                refuse_if_rewritten(relation);
                transactions(|| find(relation))
            }),
        };
        relation::close(relation);
        found
    }
}

/// The row in the place of a hint, if it has the key and the active snapshot shows it. The key is unique, so no other row
/// has it in that snapshot.
unsafe fn at<const N: usize, R>(
    relation: pg_sys::Relation,
    hint: &Hint,
    key: &[(&CStr, &str); N],
    read: impl Fn(&Row) -> R,
) -> Option<R> {
    let place = hint.0.get().filter(|place| place.uses < MOST_USES)?;
    hint.0.set(Some(Place { uses: place.uses + 1, ..place }));
    let Place { buffer, mut row, .. } = place;
    // SAFETY: an open relation. Reading a page that is not there would be an error, and VACUUM takes empty pages off the
    // end of a table. A page in a buffer is there and, while the table is locked, stays there. After an error Postgres
    // unlocks and unpins it.
    unsafe {
        if !version::pin_again(relation, row, buffer) {
            return None;
        }
        let mut tuple = pg_sys::HeapTupleData::default();
        let tuple = &raw mut tuple;
        let (all_dead, is_first) = (ptr::null_mut(), true);
        let snapshot = pg_sys::GetActiveSnapshot();
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE.cast_signed());
        let is_found = pg_sys::heap_hot_search_buffer(
            &raw mut row,
            relation,
            buffer,
            snapshot,
            tuple,
            all_dead,
            is_first,
        );
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_UNLOCK.cast_signed());
        let row = is_found.then(|| Row::alone(relation, tuple));
        let is_it = |row: &Row| key.iter().all(|&(column, text)| row.has_text(column, text));
        let found = row.filter(is_it).map(|row| read(&row));
        pg_sys::ReleaseBuffer(buffer);
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
        walk(scan, |row| {
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

/// The rows of a table in the order of its primary key, one at a time.
pub struct InOrder {
    /// The columns of the table.
    pub columns: Columns,
    scan: pg_sys::SysScanDesc,
    row: Option<Row>,
}

impl InOrder {
    /// Goes on to the next row; `None` after the last.
    pub fn advance(&mut self) -> Option<&Row> {
        pg_sys::check_for_interrupts!();
        // SAFETY: a scan that has not ended.
        unsafe {
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            self.row = Row::of(self.scan, pg_sys::systable_getnext_ordered(self.scan, forward));
        }
        self.row()
    }

    /// The row that the scan is at, before the first and after the last `None`.
    pub fn row(&self) -> Option<&Row> {
        self.row.as_ref()
    }
}

/// Reads the rows whose primary key begins with these texts in the order of that key, as of the active snapshot.
pub fn in_order<const N: usize, R>(
    table: &'static CStr,
    key: [(&CStr, &str); N],
    work: impl FnOnce(&mut InOrder) -> R,
) -> R {
    // SAFETY: as above. The rows are used only while the scan goes on.
    unsafe {
        let relation = relation::open(table, pg_sys::AccessShareLock);
        let index = version::primary_key(relation);
        if index == pg_sys::InvalidOid {
            Raised::internal(format!("table {table:?} of integration_credentials lacks its primary key"))
                .throw()
        }
        let index = pg_sys::index_open(index, pg_sys::AccessShareLock.cast_signed());
        let mut keys = scan_keys(relation, &key);
        let scan = pg_sys::systable_beginscan_ordered(
            relation,
            index,
            pg_sys::GetActiveSnapshot(),
            c_int::try_from(N).unwrap_or_default(),
            keys.as_mut_ptr(),
        );
        let result = work(&mut InOrder { columns: Columns::of(relation), scan, row: None });
        pg_sys::systable_endscan_ordered(scan);
        pg_sys::index_close(index, pg_sys::NoLock.cast_signed());
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
        let mut keys = scan_keys(relation, key);
        let index = if N == 0 { pg_sys::InvalidOid } else { version::primary_key(relation) };
        let scan = pg_sys::systable_beginscan(
            relation,
            index,
            N > 0,
            pg_sys::GetActiveSnapshot(),
            c_int::try_from(N).unwrap_or_default(),
            keys.as_mut_ptr(),
        );
        walk(scan, visit);
    }
}

/// The conditions that the columns of a key have these texts.
unsafe fn scan_keys<const N: usize>(
    relation: pg_sys::Relation,
    key: &[(&CStr, &str); N],
) -> [pg_sys::ScanKeyData; N] {
    key.map(|(column, text)| {
        let mut key = pg_sys::ScanKeyData::default();
        // SAFETY: fills in the key, for a column of an open relation.
        unsafe {
            let attribute = attribute((*relation).rd_att, column, pg_sys::TEXTOID);
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
        }
        key
    })
}

/// Visits the rows of a scan, and ends it.
unsafe fn walk(scan: pg_sys::SysScanDesc, mut visit: impl FnMut(&Row) -> ControlFlow<()>) {
    // SAFETY: the caller vouches for the scan.
    unsafe {
        loop {
            pg_sys::check_for_interrupts!();
            let Some(row) = Row::of(scan, pg_sys::systable_getnext(scan)) else { break };
            if visit(&row).is_break() {
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
