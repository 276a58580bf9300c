//! The boundary between Postgres and a call: its arguments, its result, and its errors and panics.

use super::error::{Raised, raise};
use super::jsonb::{self, Document, Unreadable};
use super::text::Raw;
use super::timestamp::Moment;
use crate::calls::caller::Caller;
use crate::memory;
use integration_credentials_core::error::{ErrorCode, Refusal};
use integration_credentials_core::rules::RulesError;
use pgrx::datum::{Array, Interval, Uuid};
use pgrx::{FromDatum, IntoDatum, PgMemoryContexts, check_for_interrupts, fcinfo, pg_sys};
use serde::Serialize;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Declares `name => function` pairs to Postgres, under the names that `sql/functions.sql` refers to.
macro_rules! sql_functions {
    ($($name:ident => $function:expr,)*) => {$(
        #[doc = concat!("Answers the SQL function `", stringify!($name), "`.")]
        ///
        /// # Safety
        /// For Postgres' function manager only.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(
            fcinfo: pgrx::pg_sys::FunctionCallInfo,
        ) -> pgrx::pg_sys::Datum {
            // SAFETY: the function manager passes a valid call, with the arguments that sql/functions.sql
            // declares.
            unsafe { $crate::pg::call::enter(fcinfo, $function) }
        }

        const _: () = {
            #[unsafe(export_name = concat!("pg_finfo_", stringify!($name)))]
            extern "C" fn describe() -> &'static pgrx::pg_sys::Pg_finfo_record {
                const V1: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
                &V1
            }
        };
    )*};
}
pub(crate) use sql_functions;

/// The longest argument of any call, in bytes. A longer argument, up to a gigabyte, is not even detoasted.
const MAX_ARGUMENT_BYTES: usize = 16 << 20;

/// A call. Its arguments are borrowed from Postgres' memory, so that a secret is not copied on its way in.
pub struct Call {
    fcinfo: pg_sys::FunctionCallInfo,
    /// The role that called.
    pub caller: Caller,
}

impl Call {
    /// The call in Postgres' own form; valid as long as this is.
    pub fn raw(&self) -> pg_sys::FunctionCallInfo {
        self.fcinfo
    }

    fn argument<T: FromDatum>(&self, index: usize) -> Option<T> {
        // SAFETY: `enter` got a valid call, and each caller asks for the type that sql/functions.sql
        // declares.
        unsafe { fcinfo::pg_getarg(self.fcinfo, index) }
    }

    /// A text argument; `None` is NULL. Raises an error for a text that is not UTF-8.
    pub fn text(&self, index: usize) -> Option<&str> {
        self.bytes(index).map(|bytes| str::from_utf8(bytes).unwrap_or_else(|_| refuse_encoding(index)))
    }

    /// A bytea argument.
    pub fn bytes(&self, index: usize) -> Option<&[u8]> {
        match self.size(index) {
            Some(size) if size > MAX_ARGUMENT_BYTES => refuse_length(index, size),
            _ => self.argument(index),
        }
    }

    /// Visits the elements of a text[] argument that are no NULL and have at most so many bytes. One at a time, and
    /// what a visit has Postgres allocate is freed after it: an argument may have millions.
    pub fn each_text(&self, index: usize, most: usize, mut visit: impl FnMut(&str)) {
        if let Some(size) = self.size(index).filter(|&size| size > MAX_ARGUMENT_BYTES) {
            refuse_length(index, size)
        }
        let Some(elements) = self.argument::<Array<'_, pg_sys::Datum>>(index) else { return };
        let mut memory = PgMemoryContexts::new("integration_credentials element");
        for element in elements.iter().flatten() {
            check_for_interrupts!();
            // SAFETY: an element of a text[].
            let bytes = unsafe {
                let size = pg_sys::toast_raw_datum_size(element).saturating_sub(pg_sys::VARHDRSZ);
                if size > most {
                    continue;
                }
                Raw::from_polymorphic_datum(element, false, pg_sys::TEXTOID)
            };
            let Some(Raw(bytes)) = bytes else { continue };
            let text = str::from_utf8(&bytes).unwrap_or_else(|_| refuse_encoding(index));
            // SAFETY: nothing of a visit's memory is used after the visit.
            unsafe {
                memory.switch_to(|_| visit(text));
                memory.reset();
            }
        }
    }

    /// The detoasted size of an argument of variable length, in bytes.
    fn size(&self, index: usize) -> Option<usize> {
        // SAFETY: as above; each caller asks for an argument of variable length.
        let datum = unsafe { fcinfo::pg_getarg_datum(self.fcinfo, index) }?;
        // SAFETY: as above. Reads the header alone.
        Some(unsafe { pg_sys::toast_raw_datum_size(datum) }.saturating_sub(pg_sys::VARHDRSZ))
    }

    /// A boolean argument.
    pub fn boolean(&self, index: usize) -> Option<bool> {
        self.argument(index)
    }

    /// An integer argument.
    pub fn integer(&self, index: usize) -> Option<i32> {
        self.argument(index)
    }

    /// A bigint argument.
    pub fn bigint(&self, index: usize) -> Option<i64> {
        self.argument(index)
    }

    /// A uuid argument.
    pub fn uuid(&self, index: usize) -> Option<Uuid> {
        self.argument(index)
    }

    /// An interval argument.
    pub fn interval(&self, index: usize) -> Option<Interval> {
        self.argument(index)
    }

    /// A double precision argument.
    pub fn double(&self, index: usize) -> Option<f64> {
        self.argument(index)
    }

    /// A timestamp with time zone argument.
    pub fn timestamp(&self, index: usize) -> Option<Moment> {
        self.argument(index)
    }

    /// A jsonb argument that is rules, as text.
    pub fn rules(&self, index: usize) -> Result<Option<String>, RulesError> {
        let text = self.document(index).map_err(RulesError::Size)?.map(|document| document.text());
        match text.transpose() {
            Err(Unreadable::TooLong(bytes)) => Err(RulesError::Size(bytes)),
            Err(Unreadable::NotUtf8) => refuse_encoding(index),
            Ok(text) => Ok(text),
        }
    }

    /// A jsonb argument of at most so many bytes as text.
    pub fn json(&self, index: usize, name: &str, most: usize) -> Result<Option<(Document, String)>, Refusal> {
        let too_long = |bytes| {
            Refusal::new(
                ErrorCode::InvalidRequest,
                format!("{name} has {bytes} bytes; at most {most} are allowed"),
                format!("Give a shorter {name}."),
            )
        };
        let Some(document) = self.document(index).map_err(too_long)? else { return Ok(None) };
        match document.text() {
            Ok(text) if text.len() > most => Err(too_long(text.len())),
            Ok(text) => Ok(Some((document, text))),
            Err(Unreadable::TooLong(bytes)) => Err(too_long(bytes)),
            Err(Unreadable::NotUtf8) => refuse_encoding(index),
        }
    }

    /// A jsonb argument, or the size of one that is too long to be read.
    fn document(&self, index: usize) -> Result<Option<Document>, usize> {
        match self.size(index) {
            Some(size) if size > jsonb::MAX_BYTES => Err(size),
            _ => Ok(self.argument(index)),
        }
    }

    /// How many arguments the called function has: an overload may have more than another.
    pub fn arguments(&self) -> usize {
        // SAFETY: a valid call.
        usize::try_from(unsafe { (*self.fcinfo).nargs }).unwrap_or_default()
    }
}

fn refuse_length(index: usize, bytes: usize) -> ! {
    Raised::from(Refusal::new(
        ErrorCode::InvalidRequest,
        format!(
            "argument {} of the call has {bytes} bytes; at most {MAX_ARGUMENT_BYTES} are allowed",
            index + 1
        ),
        "Give a shorter argument. The documentation of the function has the lengths.",
    ))
    .throw()
}

fn refuse_encoding(index: usize) -> ! {
    Raised::from(Refusal::new(
        ErrorCode::InvalidRequest,
        format!("argument {} of the call is not valid UTF-8", index + 1),
        "Postgres checks text from a client, but not text from dblink or a foreign table. Give UTF-8, or a binary secret \
         in base64 or hex.",
    ))
    .throw()
}

/// The result of a call; `None` is NULL.
pub type Answer = Result<Option<pg_sys::Datum>, Refusal>;

/// A jsonb result.
pub fn json(document: &impl Serialize) -> Option<pg_sys::Datum> {
    Document::of(&serde_json::to_value(document).unwrap_or_default()).into_datum()
}

/// A void result.
pub const VOID: Option<pg_sys::Datum> = Some(pg_sys::Datum::null());

/// Runs one call, and turns its outcome, a panic included, into a result or an error of Postgres.
///
/// # Safety
/// `fcinfo` must be the valid call of a function with the arguments that `function` asks for.
pub unsafe fn enter(fcinfo: pg_sys::FunctionCallInfo, function: fn(&Call) -> Answer) -> pg_sys::Datum {
    let call = || {
        if memory::is_short() {
            Raised::out_of_memory().throw()
        }
        function(&Call { fcinfo, caller: Caller::now() })
    };
    let raised = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(Some(datum))) => return datum,
        // SAFETY: the caller vouches for fcinfo.
        Ok(Ok(None)) => return unsafe { fcinfo::pg_return_null(fcinfo) },
        Ok(Err(refusal)) => Raised::from(refusal),
        Err(payload) => Raised::from_panic(payload),
    };
    // SAFETY: nothing in this frame or in that of the caller still has a destructor to run.
    unsafe { raise(raised) }
}
