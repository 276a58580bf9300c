//! Raising errors, sending notices and writing log lines. By hand, because pgrx's own way supports neither
//! our SQLSTATEs nor `errhidestmt`, and puts a backtrace into DETAIL when the server's environment asks for
//! one.

use super::ffi::{
    errcode, errdetail_internal, errfinish, errhidecontext, errhidestmt, errhint, errmsg_internal, errstart,
};
use integration_credentials_core::error::{ErrorCode, Refusal};
use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::{PgLogLevel, PgSqlErrorCode};
use std::any::Any;
use std::ffi::{CStr, CString, c_char, c_int};

/// An error on its way to the client, with nothing that must not be shown.
pub struct Raised {
    /// Postgres' packed form.
    pub sqlstate: c_int,
    /// What happened.
    pub message: String,
    /// Whether a cancel, a timeout or a shutdown interrupted this session. The SQLSTATE does not tell,
    /// because a function may raise any SQLSTATE, and a foreign server sends its own.
    pub is_interrupt: bool,
    detail: Option<String>,
    hint: Option<String>,
}

impl From<Refusal> for Raised {
    fn from(refusal: Refusal) -> Self {
        let detail = Some(refusal.detail());
        let Refusal { code, message, hint, .. } = refusal;
        Self { detail, hint: Some(hint), ..Self::new(pack(code.sqlstate()), message) }
    }
}

impl From<&ErrorReportWithLevel> for Raised {
    // Without the DETAIL, where Postgres shows whole rows.
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
        // The text of a panic may quote a secret, so it is not passed on.
        Self::internal("internal error in integration_credentials; this call had no effect")
    }

    /// An error that no caller can cause: a bug, or an altered object of the extension.
    pub fn internal(message: impl Into<String>) -> Self {
        Self {
            hint: Some(
                "If an object of the extension was altered, undo that. Otherwise report the call, without the value."
                    .to_owned(),
            ),
            ..Self::new(pack("XX000"), message.into())
        }
    }

    /// Postgres' own error.
    pub fn out_of_memory() -> Self {
        Self::new(pack("53200"), "out of memory".to_owned())
    }

    /// The error of a transaction that lost a race, and may be run again unchanged.
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

/// The class of a packed SQLSTATE: its first two characters.
pub const fn class(sqlstate: c_int) -> c_int {
    const CLASS: c_int = 0xfff;
    sqlstate & CLASS
}

/// The log hook recognizes our messages by this address.
pub static FILE: &CStr = c"integration_credentials";
/// The class of our own SQLSTATEs, packed.
pub const OWN_CLASS: c_int = pack("IC");

const AS_IS: &CStr = c"%s";

/// Raises an ERROR.
///
/// # Safety
/// Jumps out of every frame up to Postgres' own: none of them may have a destructor left to run.
pub unsafe fn raise(raised: Raised) -> ! {
    // SAFETY: the caller vouches for the frames; `report` drops its arguments before it jumps.
    unsafe { report(PgLogLevel::ERROR, raised) };
    // errfinish does not return for ERROR.
    std::process::abort()
}

/// Raises an ERROR from a hook.
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
    // SAFETY: the order of calls that elog.h prescribes. The err* calls copy the strings.
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
            // A text of Postgres has no NUL.
            if let Some(text) = text.and_then(|text| CString::new(text).ok()) {
                set(AS_IS.as_ptr(), text.as_ptr());
            }
        }
        errhidestmt(true);
        errhidecontext(true);
        errfinish(FILE.as_ptr(), 0, std::ptr::null());
    }
}

/// The refusal of a role that is no superuser.
pub fn forbidden(what: &str) -> Refusal {
    Refusal::new(
        ErrorCode::ForbiddenAdminScope,
        format!("permission denied: only a superuser may {what}"),
        "Ask a superuser to run this call.",
    )
}
