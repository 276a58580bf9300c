//! Whether a statement calls one of our functions, once Postgres has parsed it: by the function, however its name was
//! written.

use integration_credentials_core::sql_text::takes_secret;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

unsafe extern "C-unwind" {
    // Without the guard that pgrx puts around them: an error on any level jumps to the guard of the outermost one.
    fn expression_tree_walker(node: *mut pg_sys::Node, walker: Walker, context: *mut c_void) -> bool;
    fn query_tree_walker(
        query: *mut pg_sys::Query,
        walker: Walker,
        context: *mut c_void,
        flags: c_int,
    ) -> bool;
    fn get_func_name(function: pg_sys::Oid) -> *mut c_char;
}

type Walker = Option<unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> bool>;

/// Whether a query calls one of our functions; also if that cannot be told, as of a query that is too deep.
///
/// # Safety
/// `query` is a valid query.
pub unsafe fn calls_one(query: *mut pg_sys::Query) -> bool {
    let no_context = std::ptr::null_mut();
    // SAFETY: the caller vouches for the query, and the walker only reads. Nothing between the two guards has a destructor.
    let walk = || unsafe { pg_sys::query_tree_walker(query, Some(is_call), no_context, 0) };
    catch_unwind(AssertUnwindSafe(walk)).unwrap_or_else(|payload| {
        let is_cancel = |code| code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED;
        if let Some(CaughtError::PostgresError(report)) = payload.downcast_ref()
            && is_cancel(report.sql_error_code())
        {
            // Whoever cancels means the statement, not this look at it.
            // SAFETY: flags of this process.
            unsafe {
                pg_sys::QueryCancelPending = 1;
                pg_sys::InterruptPending = 1;
            }
        }
        true
    })
}

unsafe extern "C-unwind" fn is_call(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: Postgres passes NULL or a valid node, which says what it is.
    unsafe {
        let Some(tag) = node.as_ref().map(|node| node.type_) else { return false };
        if tag == pg_sys::NodeTag::T_FuncExpr
            && is_ours((*node.cast::<c_void>().cast::<pg_sys::FuncExpr>()).funcid)
        {
            return true;
        }
        if pg_sys::stack_is_too_deep() {
            return true;
        }
        if tag == pg_sys::NodeTag::T_Query {
            return query_tree_walker(node.cast(), Some(is_call), context, 0);
        }
        expression_tree_walker(node, Some(is_call), context)
    }
}

thread_local! {
    /// A function that was not ours, for it is mostly the same again.
    static OTHER: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
}

fn is_ours(function: pg_sys::Oid) -> bool {
    if function.to_u32() < pg_sys::FirstNormalObjectId || function == OTHER.get() {
        return false;
    }
    // SAFETY: a look into the cache that the parser has just filled; NULL or a C string of our own.
    unsafe {
        let name = get_func_name(function);
        let is_ours = !name.is_null() && takes_secret(CStr::from_ptr(name).to_bytes());
        if !is_ours {
            OTHER.set(function);
        }
        is_ours
    }
}
