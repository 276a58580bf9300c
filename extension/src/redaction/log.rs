//! Every message on its way into the log. What is changed here is changed for the client, too.

use super::{live, statement};
use integration_credentials_core::redact::REDACTED;
use integration_credentials_core::statement::log::{
    audited, is_node_tree, without_parameters, without_quotations,
};
use integration_credentials_core::statement::{Secrets, without_literals};
use memchr::memmem;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};
use std::borrow::Cow;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::OnceLock;
use zeroize::Zeroize;

static NEXT: OnceLock<pg_sys::emit_log_hook_type> = OnceLock::new();

thread_local! {
    static DISTRUSTED: Cell<bool> = const { Cell::new(false) };
}

const DROPPED: &CStr = c"<redacted: this could not be searched for secrets>";
const TREE: &[u8] = b"<redacted: the tree of a statement that takes a secret>";

pub fn install() {
    // SAFETY: a variable of the postmaster, which has one thread.
    unsafe {
        if NEXT.set(pg_sys::emit_log_hook).is_ok() {
            pg_sys::emit_log_hook = Some(emit);
        }
    }
}

/// Says that a text may have been missed: the messages of the statement at work are dropped.
pub fn distrust() {
    DISTRUSTED.set(true);
}

unsafe extern "C-unwind" fn emit(error: *mut pg_sys::ErrorData) {
    // SAFETY: Postgres passes a valid message, which is this hook's to change. What follows the guard has nothing of Rust's
    // in its frame.
    unsafe {
        let error = &mut *error;
        let done = catch_unwind(AssertUnwindSafe(|| redact_message(error)));
        if done.is_err() || DISTRUSTED.replace(false) {
            error.hide_stmt = true;
            texts(error).for_each(|text| drop_text(*text));
        }
        if let Some(next) = NEXT.get().copied().flatten() {
            next(error);
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

/// Overwrites a text where it stands, as far as it reaches: there may be no memory for another.
fn drop_text(text: *mut c_char) {
    // SAFETY: a C string, in memory of its own.
    unsafe {
        let length = CStr::from_ptr(text).count_bytes().min(DROPPED.count_bytes());
        ptr::copy_nonoverlapping(DROPPED.as_ptr(), text, length);
        *text.add(length) = 0;
    }
}

unsafe fn redact_message(error: &mut pg_sys::ErrorData) {
    let current = statement::current();
    let secrets = current.and_then(|text| statement::find(text.to_bytes()));
    let is_error = error.elevel >= PgLogLevel::ERROR as c_int;
    let message = Message {
        statement: current.map(CStr::to_bytes).zip(secrets.as_ref()),
        may_quote: is_error
            && quotes_what_it_got(error.sqlerrcode)
            && (secrets.is_some() || is_about_a_call(error.internalquery)),
    };
    let parts = [
        ptr::from_mut(&mut error.detail),
        &raw mut error.detail_log,
        &raw mut error.context,
        &raw mut error.internalquery,
    ];
    let context = error.assoc_context;
    for text in texts(error) {
        let is_part = parts.contains(&ptr::from_mut(text));
        // SAFETY: a C string.
        let old = unsafe { CStr::from_ptr(*text) }.to_bytes();
        if let Cow::Owned(new) = message.redacted(old, is_part, is_error) {
            // SAFETY: the context is that of the message.
            unsafe { replace(text, &new, context) };
        }
    }
    // SAFETY: a statement that has failed is not parsed any more. One that has not may still be.
    unsafe { hide_statement(error, current, secrets.as_ref(), is_error) };
}

/// Sees to what the log writes of the statement itself.
unsafe fn hide_statement(
    error: &mut pg_sys::ErrorData,
    current: Option<&CStr>,
    secrets: Option<&Secrets>,
    is_error: bool,
) {
    let (Some(text), Some(secrets)) = (current, secrets) else { return };
    if secrets.is_masked(text.to_bytes()) {
        return;
    }
    if is_error && statement::is_from_client(text.as_ptr()) {
        statement::report_activity(text.to_bytes(), secrets);
        // SAFETY: the caller vouches for a failed statement.
        unsafe { statement::mask_in_place(text.as_ptr(), secrets) };
    } else {
        error.hide_stmt = true;
    }
}

/// Whether a statement that some function ran takes a secret.
fn is_about_a_call(internal_query: *const c_char) -> bool {
    // SAFETY: NULL or a C string.
    !internal_query.is_null()
        && statement::find(unsafe { CStr::from_ptr(internal_query) }.to_bytes()).is_some()
}

/// Errors of Postgres that say what they stumbled on: malformed data, and names or syntax.
fn quotes_what_it_got(sqlstate: c_int) -> bool {
    const CLASS: c_int = 0xfff;
    let class = |error: PgSqlErrorCode| error as c_int & CLASS;
    [
        class(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION),
        class(PgSqlErrorCode::ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION),
    ]
    .contains(&(sqlstate & CLASS))
}

/// What is known of a message when its texts are looked at.
struct Message<'a> {
    statement: Option<(&'a [u8], &'a Secrets)>,
    may_quote: bool,
}

impl Message<'_> {
    /// A text without secrets. A part is one that says more than the message does.
    fn redacted<'a>(&self, text: &'a [u8], is_part: bool, is_error: bool) -> Cow<'a, [u8]> {
        let mut text = self.without_calls(text);
        if let Some((_, secrets)) = self.statement {
            text = Cow::Owned(without_parameters(&text, &secrets.parameters));
            if secrets.is_elsewhere {
                text = Cow::Owned(without_literals(&text));
            }
        }
        if self.may_quote {
            text = Cow::Owned(if is_part { REDACTED.into() } else { without_quotations(&text) });
        }
        if (self.statement.is_some() || statement::last_was_secret() || live::is_any()) && is_node_tree(&text)
        {
            text = Cow::Owned(TREE.to_vec());
        }
        live::redacted(text, is_part && is_error)
    }

    fn without_calls<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        if self.statement.is_some()
            && let Some(redacted) =
                audited(text, |statement| self.without_calls(statement).into_owned(), parameters)
        {
            return Cow::Owned(redacted);
        }
        // The statement itself is read from its own beginning, whatever stands before it.
        if let Some((statement, secrets)) = self.statement
            && let Some(at) = memmem::find(text, statement)
        {
            let (before, rest) = text.split_at(at);
            let after = &rest[statement.len()..];
            return Cow::Owned([before, &secrets.redacted(statement), &self.without_calls(after)].concat());
        }
        match statement::find_in_message(text) {
            Some(secrets) => Cow::Owned(secrets.redacted(text)),
            None => Cow::Borrowed(text),
        }
    }
}

/// What pgaudit writes behind the statement: nothing but its own words stays.
fn parameters(tail: &[u8]) -> Vec<u8> {
    match tail {
        b"" | b",<none>" | b",<not logged>" => tail.to_vec(),
        _ => format!(",{REDACTED}").into_bytes(),
    }
}

unsafe fn replace(text: &mut *mut c_char, new: &[u8], context: pg_sys::MemoryContext) {
    // SAFETY: both are C strings of their own in the context of the message, as Postgres expects to free them. There may be
    // no memory for the new one.
    unsafe {
        let flags = pg_sys::MCXT_ALLOC_NO_OOM.cast_signed();
        let copy = pg_sys::MemoryContextAllocExtended(context, new.len() + 1, flags).cast::<c_char>();
        if copy.is_null() {
            return drop_text(*text);
        }
        ptr::copy_nonoverlapping(new.as_ptr().cast(), copy, new.len());
        *copy.add(new.len()) = 0;
        std::slice::from_raw_parts_mut((*text).cast::<u8>(), CStr::from_ptr(*text).count_bytes()).zeroize();
        pg_sys::pfree((*text).cast());
        *text = copy;
    }
}
