//! A result of many rows, which stays in memory unless its rows have no secrets. Above `work_mem`, Postgres writes the
//! rows of an SQL function, or of a function that returns row by row, to a temporary file, and these rows hold
//! plaintext.

use super::call::Call;
use super::error::Raised;
use pgrx::{PgMemoryContexts, pg_sys};

/// No limit: a store within its limit never writes to disk.
const UNLIMITED_KILOBYTES: i32 = i32::MAX;

/// The rows of a `RETURNS TABLE` with `COLUMNS` columns.
pub struct Rows<const COLUMNS: usize> {
    store: *mut pg_sys::Tuplestorestate,
    descriptor: pg_sys::TupleDesc,
}

impl<const COLUMNS: usize> Rows<COLUMNS> {
    /// Makes the rows that will be pushed the result of the call.
    pub fn of(call: &Call) -> Self {
        Self::within(call, UNLIMITED_KILOBYTES)
    }

    /// As `of`, for rows that may be in a temporary file, where they take more than `work_mem`.
    pub fn without_secrets(call: &Call) -> Self {
        // SAFETY: a setting of this process.
        Self::within(call, unsafe { pg_sys::work_mem })
    }

    #[allow(
        clippy::cast_ptr_alignment,
        reason = "Postgres' nodes are told apart by their tag, and so aligned"
    )]
    fn within(call: &Call, kilobytes: i32) -> Self {
        let fcinfo = call.raw();
        // SAFETY: a valid call; where its result info is a ReturnSetInfo, the fields are the executor's and
        // outlive it.
        unsafe {
            let info = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            if info.is_null() || (*info).type_ != pg_sys::NodeTag::T_ReturnSetInfo {
                Raised::internal(
                    "integration_credentials: a function that returns rows was called for a single value",
                )
                .throw()
            }
            let modes = (*info).allowedModes.cast_unsigned();
            if modes & pg_sys::SetFunctionReturnMode::SFRM_Materialize == 0 {
                Raised::internal("integration_credentials: the caller does not accept a materialized result")
                    .throw()
            }
            PgMemoryContexts::For((*(*info).econtext).ecxt_per_query_memory).switch_to(|_| {
                let mut descriptor = std::ptr::null_mut();
                pg_sys::get_call_result_type(fcinfo, std::ptr::null_mut(), &raw mut descriptor);
                if descriptor.is_null() || usize::try_from((*descriptor).natts) != Ok(COLUMNS) {
                    Raised::internal(
                        "integration_credentials: the SQL function declares other columns than its library",
                    )
                    .throw()
                }
                let descriptor = pg_sys::CreateTupleDescCopy(descriptor);
                let random = modes & pg_sys::SetFunctionReturnMode::SFRM_Materialize_Random != 0;
                let store = pg_sys::tuplestore_begin_heap(random, false, kilobytes);
                (*info).returnMode = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
                (*info).setResult = store;
                (*info).setDesc = descriptor;
                Self { store, descriptor }
            })
        }
    }

    /// Adds a row; `None` is NULL.
    pub fn push(&mut self, row: [Option<pg_sys::Datum>; COLUMNS]) {
        let mut nulls = row.map(|value| value.is_none());
        let mut values = row.map(|value| value.unwrap_or(pg_sys::Datum::null()));
        // SAFETY: both arrays are as long as the descriptor, which `of` checked; the store copies the values.
        unsafe {
            pg_sys::tuplestore_putvalues(
                self.store,
                self.descriptor,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
        }
    }
}
