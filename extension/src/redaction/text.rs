//! Which statements may hold a secret.

use integration_credentials_core::sql_text::{executes, names_one, value_is_written};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::{CStr, c_char};

thread_local! {
    /// Whether the plan at work is that of a statement that may hold a secret.
    static IS_RUNNING: Cell<bool> = const { Cell::new(false) };
    static HAS_PREPARED: Cell<bool> = const { Cell::new(false) };
    /// When the statement that was asked about last began, and the answer for the next call.
    static ASKED: Cell<(pg_sys::TimestampTz, Came)> = const { Cell::new((0, Came::Otherwise)) };
}

/// Whether a statement may hold a secret: it names one of our functions or, in a session that has analyzed such a
/// statement and may have prepared it, it executes a prepared one.
pub fn is_secret(statement: &[u8]) -> bool {
    names_one(statement) || (HAS_PREPARED.get() && executes(statement))
}

/// Notes that a statement of this session calls one of our functions.
pub fn note_call() {
    HAS_PREPARED.set(true);
}

/// Notes that the plan of a statement begins to run. Returns what was noted before.
///
/// # Safety
/// `text` is NULL or a C string.
pub unsafe fn begin_to_run(text: *const c_char) -> bool {
    let before = IS_RUNNING.get();
    // SAFETY: the caller vouches for the text.
    if HAS_PREPARED.get() && !text.is_null() && is_secret(unsafe { CStr::from_ptr(text) }.to_bytes()) {
        IS_RUNNING.set(true);
    }
    before
}

/// Notes what was noted before a plan ran.
pub fn go_on_with(before: bool) {
    IS_RUNNING.set(before);
}

/// Whether the plan of a statement that may hold a secret runs, or has failed.
pub fn is_running() -> bool {
    IS_RUNNING.get()
}

/// The statement that the client sent.
pub fn current() -> Option<&'static CStr> {
    // SAFETY: NULL, or a C string that Postgres keeps for as long as it works on the statement.
    unsafe {
        let text = pg_sys::debug_query_string;
        (!text.is_null()).then(|| CStr::from_ptr(text))
    }
}

/// Whether backslashes escape in a plain literal.
pub fn backslashes() -> bool {
    // SAFETY: a setting of this process.
    unsafe { !pg_sys::standard_conforming_strings }
}

/// How the value of a call came in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// Not in the text of the client's statement.
    Otherwise,
    /// In its text, and this is the first call to ask.
    AsLiteral,
    /// In its text, as an earlier call has been told.
    AsLiteralAgain,
}

/// How the value came in, of a call that the client's statement makes. The text is looked at once a statement.
pub fn how_the_value_came() -> Came {
    // SAFETY: a variable of this process.
    let began = unsafe { pg_sys::GetCurrentStatementStartTimestamp() };
    let came = match ASKED.get() {
        (then, came) if then == began => came,
        _ if current().is_some_and(|text| is_written_in(text.to_bytes())) => Came::AsLiteral,
        _ => Came::Otherwise,
    };
    ASKED.set((began, if came == Came::AsLiteral { Came::AsLiteralAgain } else { came }));
    came
}

fn is_written_in(text: &[u8]) -> bool {
    // Of a longer one nothing is left but a name.
    text.len() <= super::shown::MOST_BYTES && value_is_written(text, backslashes())
}
