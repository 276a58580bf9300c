//! Redacts each message on its way to the log. The client gets the same redacted message.

use super::text::{backslashes, current, is_from_client, is_hidden, is_known_hidden, is_running, is_secret};
use super::{activity, shown, transaction_values};
use crate::memory;
use crate::pg::error::{self as pg_error, class};
use crate::pg::ffi::MemoryContextAllocExtended;
use integration_credentials_core::buffer::Buffer;
use integration_credentials_core::sql_text::{
    Dropped, MAX_BYTES, is_node_tree, quotes_one, redacted, without_cut_quotations, without_inserts,
};
use memchr::memmem;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use zeroize::Zeroize;

thread_local! {
    static DISTRUSTED: Cell<bool> = const { Cell::new(false) };
}

const DROPPED: &CStr = c"<redacted: this could not be searched for secrets>";
const TREE: &[u8] = b"<redacted: the tree of a statement that takes a secret>";
const QUOTING: &[u8] = b"<redacted: a message that may quote a secret>";

/// Notes that a text may have been missed, so that the next message is dropped.
pub fn distrust() {
    DISTRUSTED.set(true);
}

/// Redacts a message on its way to the log and the client.
///
/// # Safety
/// Postgres passes a valid message, which a hook may change.
pub unsafe fn redact(error: &mut pg_sys::ErrorData) {
    // SAFETY: the caller vouches for the message.
    unsafe {
        let is_able = !memory::is_short();
        let done = is_able && catch_unwind(AssertUnwindSafe(|| redact_message(error))).is_ok();
        if !done || DISTRUSTED.replace(false) {
            error.hide_stmt = true;
            texts(error).for_each(|text| drop_text(*text));
        }
        if error.elevel >= PgLogLevel::ERROR as c_int {
            activity::note_logged();
        }
    }
}

/// The texts of a message.
fn texts(error: &mut pg_sys::ErrorData) -> impl Iterator<Item = &mut *mut c_char> {
    [
        &mut error.message,
        &mut error.detail,
        &mut error.detail_log,
        &mut error.hint,
        &mut error.context,
        &mut error.internalquery,
    ]
    .into_iter()
    .filter(|text| !text.is_null())
}

/// Overwrites a text in place, up to its length: there may be no memory for another text.
fn drop_text(text: *mut c_char) {
    // SAFETY: a C string, in memory of its own.
    unsafe {
        let length = CStr::from_ptr(text).count_bytes().min(DROPPED.count_bytes());
        wipe(text);
        ptr::copy_nonoverlapping(DROPPED.as_ptr(), text, length);
        *text.add(length) = 0;
    }
}

unsafe fn redact_message(error: &mut pg_sys::ErrorData) {
    let is_error = error.elevel >= PgLogLevel::ERROR as c_int;
    // SAFETY: a C string.
    let statement = current().filter(|text| unsafe { is_secret(text.as_ptr()) }).map(CStr::to_bytes);
    // SAFETY: C strings.
    let names = |text: &*mut c_char| quotes_one(unsafe { CStr::from_ptr(*text) }.to_bytes());
    let is_own = statement.is_some() || is_running() || transaction_values::is_over_budget();
    let may_hold_one = is_own || texts(error).any(|text| names(text));
    if may_hold_one {
        // SAFETY: the caller vouches for the message.
        unsafe {
            if is_ours(error) {
                // Other code adds the context, which may have the parameters.
                forget(&mut error.context);
            } else if quotes_what_it_got(error) {
                say_nothing(error);
            } else {
                hide_literals(error, statement, is_own);
            }
        }
    }
    // SAFETY: as above.
    unsafe {
        hide_other_sessions(error);
        hide_values(error);
        hide_statement(error, statement.is_some(), is_error);
    }
}

/// Whether our own code wrote the whole message. An error of Postgres that passes through our code keeps its
/// SQLSTATE.
fn is_ours(error: &pg_sys::ErrorData) -> bool {
    let is_own = error.elevel < PgLogLevel::ERROR as c_int || class(error.sqlerrcode) == pg_error::OWN_CLASS;
    std::ptr::eq(error.filename, pg_error::FILE.as_ptr()) && is_own
}

/// Whether a message may quote its input: malformed data, names, syntax, and notices of any kind.
unsafe fn quotes_what_it_got(error: &pg_sys::ErrorData) -> bool {
    let quoting = [
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
        PgSqlErrorCode::ERRCODE_INVALID_SQL_STATEMENT_NAME,
        PgSqlErrorCode::ERRCODE_INVALID_CURSOR_NAME,
        PgSqlErrorCode::ERRCODE_SAVEPOINT_EXCEPTION,
        PgSqlErrorCode::ERRCODE_INVALID_CATALOG_NAME,
        PgSqlErrorCode::ERRCODE_INVALID_SCHEMA_NAME,
        PgSqlErrorCode::ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,
    ];
    let is_notice =
        error.elevel > PgLogLevel::LOG_SERVER_ONLY as c_int && error.elevel < PgLogLevel::ERROR as c_int;
    // Errors of the system quote the names of files.
    let is_of_system = class(error.sqlerrcode) == class(PgSqlErrorCode::ERRCODE_SYSTEM_ERROR as c_int);
    // SAFETY: as for the caller.
    let is_of_postgres = unsafe { format(error) }.is_some_and(|format| format != c"%s");
    // A permission error quotes only names of existing objects.
    error.sqlerrcode != PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE as c_int
        && (quoting.into_iter().any(|code| class(code as c_int) == class(error.sqlerrcode))
            || (is_of_postgres && (is_notice || is_of_system)))
}

/// The untranslated format of a message, as in the source of the code that raised it.
unsafe fn format(error: &pg_sys::ErrorData) -> Option<&CStr> {
    // SAFETY: the caller vouches for the message: NULL, or a constant of that code.
    unsafe { error.message_id.as_ref().map(|format| CStr::from_ptr(format)) }
}

/// Reduces an error to its SQLSTATE, its position, and its untranslated format.
unsafe fn say_nothing(error: &mut pg_sys::ErrorData) {
    let context = error.assoc_context;
    if !error.message.is_null() {
        // SAFETY: as for the caller.
        let message = match unsafe { format(error) }.map(CStr::to_bytes) {
            // The first insert of the scanner is its description of the error.
            Some(b"%s at or near \"%s\"") => Some(&b"syntax error at or near \"%s\""[..]),
            Some(b"%s at end of input") => Some(&b"syntax error at end of input"[..]),
            Some(b"%s") | None => None,
            Some(format) => Some(format),
        };
        match message.map_or(Ok(None), |format| without_inserts(format).map(Some)) {
            // SAFETY: as for the caller.
            Ok(message) => unsafe {
                replace(&mut error.message, message.as_deref().unwrap_or(QUOTING), context);
            },
            Err(_) => drop_text(error.message),
        }
    }
    error.internalpos = 0;
    for text in parts(error) {
        // SAFETY: as for the caller.
        unsafe { forget(text) };
    }
}

/// The texts of a message other than the message itself.
fn parts(error: &mut pg_sys::ErrorData) -> impl Iterator<Item = &mut *mut c_char> {
    let message = usize::from(!error.message.is_null());
    texts(error).skip(message)
}

/// Redacts everything in the texts of a message that may be a value.
unsafe fn hide_literals(error: &mut pg_sys::ErrorData, statement: Option<&[u8]>, is_own: bool) {
    let context = error.assoc_context;
    // SAFETY: C strings, and a context that is the message's.
    unsafe {
        if !error.message.is_null() {
            let message = CStr::from_ptr(error.message).to_bytes();
            if quotes_one(message) || (is_own && says_more(error, message)) {
                put(&mut error.message, around(message, statement), context);
            }
        }
        for text in parts(error) {
            put(text, redacted(CStr::from_ptr(*text).to_bytes(), backslashes()), context);
        }
    }
}

/// Whether a message may show a statement's values without naming a function of ours: messages for the log
/// alone, such as those of pgaudit. Durations show no value.
unsafe fn says_more(error: &pg_sys::ErrorData, message: &[u8]) -> bool {
    // SAFETY: as for the caller.
    let is_duration = unsafe { format(error) } == Some(c"duration: %s ms");
    let is_for_the_log = error.elevel <= PgLogLevel::LOG_SERVER_ONLY as c_int;
    (is_for_the_log && !is_duration) || message.starts_with(AUDIT)
}

/// Redacts a message that quotes the statement or a part of it. The text before the statement is the server's
/// own.
fn around(message: &[u8], statement: Option<&[u8]>) -> Result<Vec<u8>, Dropped> {
    let quoted = statement
        .filter(|_| message.len() <= MAX_BYTES)
        .and_then(|statement| Some((memmem::find(message, statement)?, statement.len())));
    let (at, length) = quoted.unwrap_or((audit_fields(message), 0));
    let (before, rest) = message.split_at(at);
    let (statement, after) = rest.split_at(length);
    let shown = redacted(statement, backslashes())?;
    let after = redacted(after, backslashes())?;
    let mut whole = Buffer::with_room(before.len() + shown.len() + after.len())?;
    for part in [before, &shown, &after] {
        whole.push(part)?;
    }
    Ok(whole.into_bytes())
}

const AUDIT: &[u8] = b"AUDIT: ";

/// The length of the fields before the statement in a message of pgaudit: class, command and object.
fn audit_fields(message: &[u8]) -> usize {
    const FIELDS: usize = 7;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_., ".contains(&byte);
    let Some(fields) = message.strip_prefix(AUDIT) else { return 0 };
    let ends =
        fields.iter().enumerate().take_while(|(_, byte)| is_plain(**byte)).filter(|(_, byte)| **byte == b',');
    ends.skip(FIELDS - 1).map(|(at, _)| AUDIT.len() + at + 1).next().unwrap_or(0)
}

/// Redacts quotations of other sessions' statements, which may be cut before the name of the function.
unsafe fn hide_other_sessions(error: &mut pg_sys::ErrorData) {
    let Some(limit) = activity::limit() else { return };
    let context = error.assoc_context;
    // SAFETY: C strings, and a context that is the message's; variables of this process.
    unsafe {
        let is_deadlock = error.sqlerrcode == PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED as c_int;
        if is_deadlock && !error.detail_log.is_null() && !error.detail.is_null() {
            let known = CStr::from_ptr(error.detail).to_bytes();
            let detail = CStr::from_ptr(error.detail_log).to_bytes();
            let kept = without_cut_quotations(detail, known, limit, backslashes());
            put(&mut error.detail_log, kept, context);
        }
        // The postmaster quotes the statement of a process that crashed.
        let is_postmaster = pg_sys::MyProcPid == pg_sys::PostmasterPid;
        if is_postmaster
            && let Some(detail) = error.detail.as_ref()
            && activity::is_cut(CStr::from_ptr(detail).to_bytes())
        {
            put(&mut error.detail, Err::<Vec<u8>, _>(Dropped::TooLong), context);
        }
    }
}

/// A longer text is not searched for values.
const MOST_SEARCHED: usize = 1 << 20;

/// Redacts the values that this transaction has set from the texts of a message.
unsafe fn hide_values(error: &mut pg_sys::ErrorData) {
    if !transaction_values::is_any() && !activity::last_was_secret() {
        return;
    }
    let context = error.assoc_context;
    for text in texts(error) {
        // SAFETY: C strings, and a context that is the message's.
        unsafe {
            let old = CStr::from_ptr(*text).to_bytes();
            if is_node_tree(old) {
                replace(text, TREE, context);
                continue;
            }
            if old.len() > MOST_SEARCHED {
                replace(text, Dropped::TooLong.text().as_bytes(), context);
                continue;
            }
            match transaction_values::without_values(old) {
                Ok(None) => {}
                Ok(Some(new)) => replace(text, &new, context),
                Err(dropped) => replace(text, dropped.text().as_bytes(), context),
            }
        }
    }
}

/// Masks the statement that the log appends to a message, or hides it.
unsafe fn hide_statement(error: &mut pg_sys::ErrorData, is_secret: bool, is_error: bool) {
    let Some(text) = current().filter(|_| is_secret) else { return };
    let is_from_client = is_from_client(text.as_ptr());
    if is_from_client && is_known_hidden() {
        return;
    }
    if is_error && is_from_client {
        // SAFETY: a failed statement is not parsed any more. A statement that goes on may still be.
        unsafe { shown::mask_in_place(text.as_ptr()) };
    } else if !is_hidden(text.to_bytes()) {
        error.hide_stmt = true;
    }
}

unsafe fn put(text: &mut *mut c_char, new: Result<Vec<u8>, Dropped>, context: pg_sys::MemoryContext) {
    // SAFETY: as for the caller.
    unsafe {
        match new {
            Ok(new) => replace(text, &new, context),
            Err(dropped) => replace(text, dropped.text().as_bytes(), context),
        }
    }
}

unsafe fn replace(text: &mut *mut c_char, new: &[u8], context: pg_sys::MemoryContext) {
    // SAFETY: both are separate C strings in the context of the message, as Postgres expects to free them.
    // There may be no memory for the new text.
    unsafe {
        let flags = (pg_sys::MCXT_ALLOC_NO_OOM | pg_sys::MCXT_ALLOC_HUGE).cast_signed();
        let copy = MemoryContextAllocExtended(context, new.len() + 1, flags).cast::<c_char>();
        if copy.is_null() {
            return drop_text(*text);
        }
        ptr::copy_nonoverlapping(new.as_ptr().cast(), copy, new.len());
        *copy.add(new.len()) = 0;
        wipe(*text);
        pg_sys::pfree((*text).cast());
        *text = copy;
    }
}

/// Removes a text from a message.
unsafe fn forget(text: &mut *mut c_char) {
    if !text.is_null() {
        // SAFETY: a C string in the message's own memory, which is freed with it.
        unsafe { wipe(*text) };
        *text = ptr::null_mut();
    }
}

/// Overwrites a text with zeros.
unsafe fn wipe(text: *mut c_char) {
    // SAFETY: a C string, in memory of its own.
    unsafe {
        std::slice::from_raw_parts_mut(text.cast::<u8>(), CStr::from_ptr(text).count_bytes()).zeroize();
    }
}
