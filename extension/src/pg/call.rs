//! Where Postgres calls Rust. Written by hand, because pgrx's own boundary knows neither our SQLSTATEs nor
//! `errhidestmt`, and puts a backtrace into DETAIL when the server's environment asks for one.

use super::jsonb::{self, Document, Unreadable};
use crate::calls::caller::Caller;
use crate::memory;
use integration_credentials_core::error::{ErrorCode, Failure};
use integration_credentials_core::rules::RulesError;
use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::{FromDatum, IntoDatum, PgLogLevel, PgSqlErrorCode, fcinfo, pg_sys};
use serde::Serialize;
use std::any::Any;
use std::ffi::{CStr, CString, c_char, c_int};
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
            // SAFETY: the function manager passes a valid call, with the arguments that sql/functions.sql declares.
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

/// No argument that a call takes is longer. What is may have a gigabyte, and is not even unpacked.
const MAX_ARGUMENT_BYTES: usize = 16 << 20;

/// A call as it came in. Arguments are borrowed from Postgres' memory: a secret is not copied on its way in.
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
        // SAFETY: `enter` got a valid call, and each caller asks for the type that sql/functions.sql declares.
        unsafe { fcinfo::pg_getarg(self.fcinfo, index) }
    }

    /// A text argument; `None` is NULL. One that is not UTF-8 ends the call.
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

    /// How many bytes an argument of variable length has when it is unpacked.
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

    /// A double precision argument.
    pub fn double(&self, index: usize) -> Option<f64> {
        self.argument(index)
    }

    /// A jsonb argument that is rules, as text.
    pub fn rules(&self, index: usize) -> Result<Option<String>, RulesError> {
        if let Some(size) = self.size(index).filter(|&size| size > jsonb::MAX_BYTES) {
            return Err(RulesError::Size(size));
        }
        let text = self.argument(index).map(|document: Document| document.text());
        match text.transpose() {
            Err(Unreadable::TooLong(bytes)) => Err(RulesError::Size(bytes)),
            Err(Unreadable::NotUtf8) => refuse_encoding(index),
            Ok(text) => Ok(text),
        }
    }
}

fn refuse_length(index: usize, bytes: usize) -> ! {
    Raised::from(Failure::new(
        ErrorCode::InvalidRequest,
        format!("argument {} of the call has {bytes} bytes, and {MAX_ARGUMENT_BYTES} are allowed", index + 1),
        "No argument is as long as that: see the lengths in the documentation of the function.",
    ))
    .throw()
}

/// Ends the call with Postgres' own error unless the system has so much memory left: what Rust then allocates aborts the
/// server where there is none. For what may take more than the reserve of `memory`.
pub fn require_memory(bytes: usize) {
    // SAFETY: memory of our own, which nobody has touched. It is mapped rather than allocated, so that the allocator keeps
    // nothing of it.
    unsafe {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let mapped = libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0);
        if mapped == libc::MAP_FAILED {
            Raised::out_of_memory().throw()
        }
        libc::munmap(mapped, bytes);
    }
}

/// The same for so many copies of a secret. Most are short, and cost nothing.
pub fn require_memory_for_copies(secret: &[u8], copies: usize) {
    const SHORT: usize = 64 << 10;
    if secret.len() > SHORT {
        require_memory(copies * secret.len());
    }
}

fn refuse_encoding(index: usize) -> ! {
    Raised::from(Failure::new(
        ErrorCode::InvalidRequest,
        format!("argument {} of the call is not valid UTF-8", index + 1),
        "Postgres checks what a client sends, and not what comes by dblink or a foreign table. Give text, or a secret of \
         bytes in base64 or hex.",
    ))
    .throw()
}

/// What a call comes to; `None` is NULL.
pub type Answer = Result<Option<pg_sys::Datum>, Failure>;

/// A jsonb result.
pub fn json(document: &impl Serialize) -> Option<pg_sys::Datum> {
    Document::of(&serde_json::to_value(document).unwrap_or_default()).into_datum()
}

/// A void result.
pub const VOID: Option<pg_sys::Datum> = Some(pg_sys::Datum::null());

/// Runs one call, and turns whatever comes of it into a result or an error of Postgres.
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
        Ok(Err(failure)) => Raised::from(failure),
        Err(payload) => Raised::from_panic(payload),
    };
    // SAFETY: nothing in this frame or in that of the caller still has a destructor to run.
    unsafe { raise(raised) }
}

/// An error on its way to the client: nothing but what may be shown.
pub struct Raised {
    /// Postgres' packed form.
    pub sqlstate: c_int,
    /// What happened.
    pub message: String,
    /// Whether it is this session that was told to stop, by a cancel, a timeout or a shutdown. The SQLSTATE alone does
    /// not tell, for a function may raise any, and a foreign server sends its own.
    pub is_interrupt: bool,
    detail: Option<String>,
    hint: Option<String>,
}

impl From<Failure> for Raised {
    fn from(Failure { code, message, hint }: Failure) -> Self {
        Self { detail: Some(code.detail()), hint: Some(hint), ..Self::new(pack(code.sqlstate()), message) }
    }
}

impl From<&ErrorReportWithLevel> for Raised {
    // The DETAIL is left behind: in errors of Postgres it is where whole rows are shown.
    fn from(report: &ErrorReportWithLevel) -> Self {
        Self {
            is_interrupt: report.function_name() == Some("ProcessInterrupts"),
            hint: report.hint().map(str::to_owned),
            ..Self::new(report.sql_error_code() as c_int, report.message().to_owned())
        }
    }
}

impl Raised {
    /// An error without DETAIL and HINT.
    pub const fn new(sqlstate: c_int, message: String) -> Self {
        Self { sqlstate, message, is_interrupt: false, detail: None, hint: None }
    }

    /// An error that Postgres or our own code raised by unwinding.
    pub fn from_panic(payload: Box<dyn Any + Send>) -> Self {
        if let Some(CaughtError::PostgresError(report) | CaughtError::ErrorReport(report)) =
            payload.downcast_ref()
        {
            return report.into();
        }
        if let Some(report) = payload.downcast_ref::<ErrorReportWithLevel>() {
            return report.into();
        }
        if let Ok(raised) = payload.downcast::<Self>() {
            return *raised;
        }
        // The text of a panic is made where nobody thought of secrets, so it is not passed on.
        Self::internal("integration_credentials met a bug and gave up; nothing was changed")
    }

    /// An error that no user can have caused.
    pub fn internal(message: impl Into<String>) -> Self {
        Self {
            hint: Some("Please report what was called, without the value.".to_owned()),
            ..Self::new(pack("XX000"), message.into())
        }
    }

    /// As Postgres says it.
    pub fn out_of_memory() -> Self {
        Self::new(pack("53200"), "out of memory".to_owned())
    }

    /// A transaction that lost a race, and may be run again as it was.
    pub fn try_again(message: impl Into<String>) -> Self {
        Self {
            hint: Some("Run the transaction again.".to_owned()),
            ..Self::new(pack("40001"), message.into())
        }
    }

    /// Goes on unwinding, up to `enter`.
    pub fn throw(self) -> ! {
        std::panic::resume_unwind(Box::new(self))
    }
}

/// Postgres' `MAKE_SQLSTATE`: six bits a character.
const fn pack(sqlstate: &str) -> c_int {
    let sqlstate = sqlstate.as_bytes();
    let (mut packed, mut at) = (0, sqlstate.len());
    while at > 0 {
        at -= 1;
        packed = (packed << 6) | ((sqlstate[at] - b'0') & 0x3f) as c_int;
    }
    packed
}

/// By this address the log hook knows a message of ours.
pub static FILE: &CStr = c"integration_credentials";
/// The class of our own SQLSTATEs, packed.
pub const OWN_CLASS: c_int = pack("IC");

// Left out of pgrx's bindings on purpose; the boundary is where they belong.
unsafe extern "C-unwind" {
    fn errstart(level: c_int, domain: *const c_char) -> bool;
    fn errcode(sqlstate: c_int) -> c_int;
    fn errmsg_internal(format: *const c_char, ...) -> c_int;
    fn errdetail_internal(format: *const c_char, ...) -> c_int;
    fn errhint(format: *const c_char, ...) -> c_int;
    fn errhidestmt(hide: bool) -> c_int;
    fn errhidecontext(hide: bool) -> c_int;
    fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
}

const AS_IS: &CStr = c"%s";

/// Raises an ERROR.
///
/// # Safety
/// Jumps out of every frame up to Postgres' own: none of them may have a destructor left to run.
unsafe fn raise(raised: Raised) -> ! {
    // SAFETY: the caller vouches for the frames; `report` has dropped what it was given before it jumps.
    unsafe { report(PgLogLevel::ERROR, raised) };
    // errfinish does not return for ERROR.
    std::process::abort()
}

/// Raises an ERROR out of a hook.
///
/// # Safety
/// Jumps out of every frame up to Postgres' own: none of them may have a destructor left to run.
pub unsafe fn refuse(sqlstate: PgSqlErrorCode, message: &str) -> ! {
    // SAFETY: the caller vouches for the frames.
    unsafe { raise(Raised::new(sqlstate as c_int, message.to_owned())) }
}

/// Writes a message to the server's log, and nowhere else.
pub fn log(message: String) {
    // SAFETY: LOG does not jump.
    unsafe { report(PgLogLevel::LOG_SERVER_ONLY, Raised::new(0, message)) };
}

/// Sends a notice to the client.
pub fn notice(message: &str, hint: &str) {
    let notice = Raised { hint: Some(hint.to_owned()), ..Raised::new(0, message.to_owned()) };
    // SAFETY: NOTICE does not jump.
    unsafe { report(PgLogLevel::NOTICE, notice) };
}

/// `ereport` with statement and context hidden: the statement may hold the secret as a literal.
unsafe fn report(level: PgLogLevel, raised: Raised) {
    // SAFETY: these follow the order that elog.h prescribes. The strings are copied by the err* calls.
    unsafe {
        if !errstart(level as c_int, std::ptr::null()) {
            return;
        }
        let Raised { sqlstate, message, detail, hint, .. } = raised;
        if sqlstate != 0 {
            errcode(sqlstate);
        }
        for (text, set) in [
            (Some(message), errmsg_internal as unsafe extern "C-unwind" fn(*const c_char, ...) -> c_int),
            (detail, errdetail_internal),
            (hint, errhint),
        ] {
            // Text that came from Postgres, or goes to it, has no NUL.
            if let Some(text) = text.and_then(|text| CString::new(text).ok()) {
                set(AS_IS.as_ptr(), text.as_ptr());
            }
        }
        errhidestmt(true);
        errhidecontext(true);
        errfinish(FILE.as_ptr(), 0, std::ptr::null());
    }
}

/// The refusal of a role that is not allowed to do this.
pub fn forbidden(what: &str) -> Failure {
    Failure::new(
        ErrorCode::ForbiddenAdminScope,
        format!("permission denied: only a superuser may {what}"),
        "Ask a superuser of this cluster to do it.",
    )
}
