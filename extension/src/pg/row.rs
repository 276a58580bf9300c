//! A row of a table while it is being read, and its columns.

use super::error::Raised;
use super::relation;
use super::text::Raw;
use pgrx::{FromDatum, IntoDatum, pg_sys};
use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr;

/// No page has more versions of rows: each takes a header of 24 bytes, and 4 for its number. `MaxHeapTuplesPerPage`.
const MOST_VERSIONS: usize = pg_sys::BLCKSZ as usize / (24 + 4);

/// The columns of a table, while it is open.
#[derive(Clone, Copy)]
pub struct Columns(pg_sys::TupleDesc);

impl Columns {
    /// The columns of a table.
    ///
    /// # Safety
    /// The table is open, as long as they are used.
    pub unsafe fn of(table: pg_sys::Relation) -> Self {
        // SAFETY: the caller vouches for the table.
        Self(unsafe { (*table).rd_att })
    }

    /// Finds a column.
    pub fn find<T: IntoDatum>(self, name: &CStr) -> Column<T> {
        Column(attribute(self.0, name, T::type_oid()).attnum, PhantomData)
    }
}

/// A row that was found, while it is being read.
pub struct Row {
    /// The columns of its table.
    pub columns: Columns,
    tuple: pg_sys::HeapTuple,
    /// The slot of the scan, which reads the columns from left to right once; NULL without a scan.
    slot: *mut pg_sys::TupleTableSlot,
}

/// A column of a type, which was found by its name once for many rows.
pub struct Column<T>(pg_sys::AttrNumber, PhantomData<T>);

impl<T> Clone for Column<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Column<T> {}

impl Row {
    /// The row that a scan is at, or none.
    ///
    /// # Safety
    /// The scan has just returned the tuple, and is not moved while the row is used.
    pub unsafe fn of(scan: pg_sys::SysScanDesc, tuple: pg_sys::HeapTuple) -> Option<Self> {
        // SAFETY: the caller vouches for the scan.
        unsafe {
            let columns = Columns::of((*scan).heap_rel);
            (!tuple.is_null()).then_some(Self { columns, tuple, slot: (*scan).slot })
        }
    }

    /// A row without a scan.
    ///
    /// # Safety
    /// The table is open, and its page pinned, while the row is used.
    pub unsafe fn alone(table: pg_sys::Relation, tuple: pg_sys::HeapTuple) -> Self {
        // SAFETY: the caller vouches for both.
        Self { columns: unsafe { Columns::of(table) }, tuple, slot: ptr::null_mut() }
    }

    /// Whether this transaction has written it, and may still roll it back.
    pub fn is_uncommitted(&self) -> bool {
        // SAFETY: a tuple that is being read.
        unsafe { pg_sys::TransactionIdIsCurrentTransactionId(xmin(self.tuple)) }
    }

    /// Whether the table has a column, which a table of an earlier version may lack.
    pub fn has(&self, column: &CStr, type_oid: pg_sys::Oid) -> bool {
        // SAFETY: the descriptor of an open relation.
        let mut columns = unsafe { relation::columns(self.columns.0) }.iter();
        columns.any(|attribute| relation::is_column(attribute, column, type_oid))
    }

    /// Whether a bytea column has a value, which may be too long to be read for nothing.
    pub fn has_bytes(&self, column: &CStr) -> bool {
        self.datum(self.columns.find::<&[u8]>(column)).is_some()
    }

    /// A column; `None` is NULL.
    pub fn get<T: FromDatum + IntoDatum>(&self, column: &CStr) -> Option<T> {
        self.read(self.columns.find(column))
    }

    /// How many bytes a column of variable length has, without reading it.
    pub fn size(&self, column: &CStr, type_oid: pg_sys::Oid) -> usize {
        let datum =
            self.datum::<Raw>(Column(attribute(self.columns.0, column, type_oid).attnum, PhantomData));
        // SAFETY: a column of variable length.
        datum.map_or(0, |datum| unsafe { pg_sys::toast_raw_datum_size(datum) })
    }

    /// Whether a text column has this text.
    pub fn has_text(&self, column: &CStr, text: &str) -> bool {
        self.bytes(self.columns.find(column)) == Some(text.as_bytes())
    }

    /// Reads a column.
    pub fn read<T: FromDatum + IntoDatum>(&self, column: Column<T>) -> Option<T> {
        // SAFETY: the type is that of the column.
        self.datum(column).and_then(|datum| unsafe { T::from_polymorphic_datum(datum, false, T::type_oid()) })
    }

    /// The bytes of a text.
    pub fn bytes(&self, column: Column<Raw>) -> Option<&[u8]> {
        // SAFETY: a text is of variable length, as a bytea is.
        self.datum(column)
            .and_then(|datum| unsafe { <&[u8]>::from_polymorphic_datum(datum, false, pg_sys::BYTEAOID) })
    }

    /// A column as it is stored, for as long as the row is being read.
    pub fn datum<T>(&self, Column(number, _): Column<T>) -> Option<pg_sys::Datum> {
        // SAFETY: a column of this row. A slot has the columns that it has read in two arrays, and reads all that there
        // are at once, because each call of Postgres costs as much as some columns.
        unsafe {
            let slot = self.slot;
            if slot.is_null() {
                let mut is_null = false;
                let datum = pg_sys::heap_getattr(self.tuple, number.into(), self.columns.0, &mut is_null);
                return (!is_null).then_some(datum);
            }
            if number > (*slot).tts_nvalid {
                pg_sys::slot_getsomeattrs_int(slot, (*self.columns.0).natts);
            }
            let at = usize::try_from(number - 1).unwrap_or_default();
            (!*(*slot).tts_isnull.add(at)).then(|| *(*slot).tts_values.add(at))
        }
    }

    /// Where the index finds the row, with all its versions on one page, and the buffer of that page; `None` for a row
    /// of another kind of table than the heap.
    #[allow(
        clippy::cast_ptr_alignment,
        reason = "the callbacks of a slot tell its type, and so its alignment"
    )]
    pub fn place(&self) -> Option<(pg_sys::Buffer, pg_sys::ItemPointerData)> {
        let slot = self.slot;
        // SAFETY: a row that is being read, whose scan has its page pinned.
        unsafe {
            let is_of_heap =
                !slot.is_null() && ptr::eq((*slot).tts_ops, &raw const pg_sys::TTSOpsBufferHeapTuple);
            if !is_of_heap {
                return None;
            }
            let buffer = (*slot.cast::<pg_sys::BufferHeapTupleTableSlot>()).buffer;
            let mut place = (*self.tuple).t_self;
            let is_later = u32::from((*(*self.tuple).t_data).t_infomask2) & pg_sys::HEAP_ONLY_TUPLE != 0;
            if is_later {
                place.ip_posid = root(buffer, place.ip_posid)?;
            }
            Some((buffer, place))
        }
    }
}

/// The number on its page under which an index has a version of a row.
unsafe fn root(buffer: pg_sys::Buffer, version: pg_sys::OffsetNumber) -> Option<pg_sys::OffsetNumber> {
    // SAFETY: the caller vouches for the buffer, which is pinned, so that no version is removed meanwhile. Postgres fills
    // in as many numbers as a page may have.
    unsafe {
        let mut roots = [0; MOST_VERSIONS];
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE.cast_signed());
        pg_sys::heap_get_root_tuples(pg_sys::BufferGetPage(buffer), roots.as_mut_ptr());
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_UNLOCK.cast_signed());
        roots.get(usize::from(version).checked_sub(1)?).copied().filter(|&root| root > 0)
    }
}

/// The transaction that wrote a row.
///
/// # Safety
/// The row is being read.
pub unsafe fn xmin(tuple: pg_sys::HeapTuple) -> pg_sys::TransactionId {
    // SAFETY: the header of a tuple on its page, where every tuple has an xmin.
    unsafe { (*(*tuple).t_data).t_choice.t_heap.t_xmin }
}

/// A column by its name and type.
pub fn attribute<'a>(
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
