//! The place of a row version in its table: `ctid`.

use pgrx::itemptr::{item_pointer_get_both, item_pointer_set_all};
use pgrx::{FromDatum, IntoDatum, pg_sys};

/// A `tid`: block and offset.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tid {
    block: u32,
    offset: u16,
}

impl Tid {
    /// Before every row of a block.
    pub const fn start_of(block: u32) -> Self {
        Self { block, offset: 0 }
    }
}

impl FromDatum for Tid {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the caller vouches for a datum of type tid, which points to an ItemPointerData.
        let (block, offset) =
            item_pointer_get_both(unsafe { datum.cast_mut_ptr::<pg_sys::ItemPointerData>().read() });
        Some(Self { block, offset })
    }
}

impl IntoDatum for Tid {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let mut pointer = pg_sys::ItemPointerData::default();
        item_pointer_set_all(&mut pointer, self.block, self.offset);
        // SAFETY: memory of the current context, which is as large as the pointer.
        unsafe {
            let copy = pg_sys::palloc(size_of::<pg_sys::ItemPointerData>()).cast::<pg_sys::ItemPointerData>();
            copy.write(pointer);
            Some(copy.into())
        }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TIDOID
    }
}
