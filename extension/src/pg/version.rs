//! What differs between the majors of Postgres that this crate is for: 15 to 18. Nothing else asks for the major.

use pgrx::pg_sys;
use std::ffi::CStr;
use std::ptr;

#[cfg(not(feature = "pg18"))]
pub use pg_sys::pqsignal;
#[cfg(feature = "pg18")]
pub use pg_sys::pqsignal_be as pqsignal;

/// The right to set a parameter, in the type of rights, which has been wider since 16.
pub const ACL_SET: pg_sys::AclMode = pg_sys::ACL_SET as pg_sys::AclMode;

/// The setting that has a query run in parallel, for tests of Postgres, by the name it has had since 16.
pub const DEBUG_PARALLEL_QUERY: &CStr =
    if cfg!(feature = "pg15") { c"force_parallel_mode" } else { c"debug_parallel_query" };

unsafe extern "C-unwind" {
    // Without the guard that pgrx puts around it, which would translate every error of every statement.
    fn standard_ExecutorRun(
        query: *mut pg_sys::QueryDesc,
        direction: pg_sys::ScanDirection::Type,
        count: u64,
        #[cfg(not(feature = "pg18"))] is_once: bool,
    );
}

/// What a library does around the execution of a plan.
pub trait Running {
    /// `go_on` executes it, by the hook that comes next or, without one, by Postgres itself.
    ///
    /// # Safety
    /// For the hook of `ExecutorRun` only. An error of Postgres jumps over this frame: nothing in it may be waiting to be
    /// dropped.
    unsafe fn run(query: *mut pg_sys::QueryDesc, go_on: impl FnOnce(pg_sys::ExecutorRun_hook_type));
}

/// The hook of `ExecutorRun`.
pub unsafe extern "C-unwind" fn running<R: Running>(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    #[cfg(not(feature = "pg18"))] is_once: bool,
) {
    // SAFETY: all is handed on as it came.
    unsafe {
        R::run(query, |next| {
            next.unwrap_or(standard_ExecutorRun)(
                query,
                direction,
                count,
                #[cfg(not(feature = "pg18"))]
                is_once,
            );
        });
    }
}

/// Adds a row that was inserted to all indexes of its table.
///
/// # Safety
/// The row is in the slot, and in the table of the target, whose indexes are open.
pub unsafe fn insert_index_tuples(
    target: *mut pg_sys::ResultRelInfo,
    row: *mut pg_sys::TupleTableSlot,
    state: *mut pg_sys::EState,
) {
    let (is_update, may_clash) = (false, false);
    let (clash, arbiters) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the caller vouches for all. The last argument, since 16, would leave out all but summarizing indexes.
    unsafe {
        pg_sys::ExecInsertIndexTuples(
            target,
            row,
            state,
            is_update,
            may_clash,
            clash,
            arbiters,
            #[cfg(not(feature = "pg15"))]
            false,
        );
    }
}

/// The index of a table's primary key, or `InvalidOid`. A deferrable key does not count: it may have two rows for a key.
///
/// # Safety
/// The table is open.
pub unsafe fn primary_key(table: pg_sys::Relation) -> pg_sys::Oid {
    // SAFETY: the caller vouches for the table.
    unsafe {
        pg_sys::RelationGetPrimaryKeyIndex(
            table,
            #[cfg(feature = "pg18")]
            false,
        )
    }
}

/// Pins a buffer, if it still has the page of a place in a table. The caller releases it.
///
/// # Safety
/// The table is open, and the buffer has had a page of a table.
pub unsafe fn pin_again(
    table: pg_sys::Relation,
    place: pg_sys::ItemPointerData,
    buffer: pg_sys::Buffer,
) -> bool {
    let pg_sys::BlockIdData { bi_hi, bi_lo } = place.ip_blkid;
    // SAFETY: the caller vouches for both. Postgres compares what the buffer has now.
    unsafe {
        pg_sys::ReadRecentBuffer(
            #[cfg(feature = "pg15")]
            (*table).rd_node,
            #[cfg(not(feature = "pg15"))]
            (*table).rd_locator,
            pg_sys::ForkNumber::MAIN_FORKNUM,
            u32::from(bi_hi) << 16 | u32::from(bi_lo),
            buffer,
        )
    }
}

/// The first column of a table.
///
/// # Safety
/// The descriptor is that of a table, and used only while that is open.
pub unsafe fn first_column(descriptor: pg_sys::TupleDesc) -> *const pg_sys::FormData_pg_attribute {
    // SAFETY: the caller vouches for it. In 18 the columns follow their short forms, of which there are as many.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        return (*descriptor).attrs.as_ptr();
        #[cfg(feature = "pg18")]
        return (*descriptor)
            .compact_attrs
            .as_ptr()
            .add(usize::try_from((*descriptor).natts).unwrap_or(0))
            .cast();
    }
}

/// The number of the transaction that a process is in.
pub fn transaction_of(process: &pg_sys::PGPROC) -> pg_sys::LocalTransactionId {
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    return process.lxid;
    #[cfg(not(any(feature = "pg15", feature = "pg16")))]
    return process.vxid.lxid;
}
