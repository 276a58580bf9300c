//! The text of a statement in this server.

use super::memo::Memo;
use crate::statement::MARK;
use integration_credentials_core::statement::{self, Parameters, Reading, Secrets};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char};
use std::ptr;

/// What is secret in a text.
pub fn find(text: &[u8]) -> Option<Secrets> {
    statement::find(text, Reading { prepared: &prepared, ..reading() })
}

/// The same for a message that quotes statements, of which the client's own has been looked at already.
pub fn find_in_message(message: &[u8]) -> Option<Secrets> {
    statement::find_in_message(message, Reading { prepared: &prepared, ..reading() })
}

fn reading() -> Reading<'static> {
    // SAFETY: a setting of this process.
    let backslashes = unsafe { !pg_sys::standard_conforming_strings };
    Reading { backslashes, prepared: &|_| None }
}

/// Which parameters of a prepared statement are secrets, if it takes any.
fn prepared(name: &[u8]) -> Option<Parameters> {
    // As Postgres cuts names.
    let name = &name[..name.len().min(pg_sys::NAMEDATALEN as usize - 1)];
    let name = CString::new(name).ok()?;
    // SAFETY: a look into this session's table of prepared statements, which allocates nothing; a plan that is in it has a
    // text.
    let text = unsafe {
        let found = pg_sys::FetchPreparedStatement(name.as_ptr(), false).as_ref()?;
        CStr::from_ptr((*found.plansource).query_string)
    };
    statement::find(text.to_bytes(), reading()).map(|secrets| secrets.parameters)
}

/// The statement that the client sent.
pub fn current() -> Option<&'static CStr> {
    // SAFETY: NULL, or a C string that Postgres keeps for as long as it works on the statement.
    unsafe {
        let text = pg_sys::debug_query_string;
        (!text.is_null()).then(|| CStr::from_ptr(text))
    }
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

thread_local! {
    /// When the statement that was asked about last began, and the answer for the next call.
    static ASKED: Cell<(pg_sys::TimestampTz, Came)> = const { Cell::new((0, Came::Otherwise)) };
}

/// How the value came in, of a call that the client's statement makes. The text is looked at once a statement.
pub fn how_the_value_came() -> Came {
    // SAFETY: a variable of this process.
    let began = unsafe { pg_sys::GetCurrentStatementStartTimestamp() };
    let came = match ASKED.get() {
        (then, came) if then == began => came,
        _ if current().is_some_and(|text| has_literal(text.to_bytes())) => Came::AsLiteral,
        _ => Came::Otherwise,
    };
    ASKED.set((began, if came == Came::AsLiteral { Came::AsLiteralAgain } else { came }));
    came
}

fn has_literal(text: &[u8]) -> bool {
    let find = || find(text).is_some_and(|secrets| secrets.has_literal);
    HAS_LITERAL.with(|memo| memo.get_or(text, reading().backslashes, find))
}

/// Whether a text is the client's own, in a buffer that this process may write to. Other processes that run statements
/// may have theirs anywhere.
pub fn is_from_client(text: *const c_char) -> bool {
    // SAFETY: variables of this process.
    unsafe {
        pg_sys::MyBackendType == pg_sys::BackendType::B_BACKEND && ptr::eq(text, pg_sys::debug_query_string)
    }
}

/// Takes care of a statement that has been analyzed: from here on its text is only shown.
///
/// # Safety
/// `state` is what it was analyzed with.
pub unsafe fn analyzed(state: &mut pg_sys::ParseState) {
    let source = state.p_sourcetext;
    if source.is_null() {
        return;
    }
    // SAFETY: a C string, by its definition. What came from the client is parsed whole before any of it is analyzed.
    unsafe {
        let text = CStr::from_ptr(source).to_bytes();
        let secrets = find(text);
        LAST_WAS_SECRET.set(secrets.is_some());
        let Some(secrets) = secrets.filter(is_shown_in(text)) else { return };
        if is_from_client(source) {
            report_activity(text, &secrets);
            mask_in_place(source, &secrets);
        } else if let Some(copy) = copy_masked(text, &secrets) {
            mask_copies(source, &secrets);
            state.p_sourcetext = copy;
        }
    }
}

thread_local! {
    static LAST_WAS_SECRET: Cell<bool> = const { Cell::new(false) };
}

/// Whether the statement that was analyzed last has a secret in its text.
pub fn last_was_secret() -> bool {
    LAST_WAS_SECRET.get()
}

/// Overwrites the secrets of the client's statement where they stand, and of the copies that were made of it.
///
/// # Safety
/// `text` is from the client, and will not be parsed any more.
pub unsafe fn mask_in_place(text: *const c_char, secrets: &Secrets) {
    // SAFETY: the caller vouches for the text: it is in a message buffer or in the memory of a plan, neither of which is
    // constant, and nothing else in this process refers to it as Rust's.
    unsafe {
        let length = CStr::from_ptr(text).count_bytes();
        mask_copies(text, secrets);
        secrets.mask(std::slice::from_raw_parts_mut(text.cast_mut().cast(), length));
    }
}

/// A plan that is going to be kept has its copy already. It cannot be reached by any name yet, but its memory can: the
/// copy is what its memory context is identified by.
unsafe fn mask_copies(text: *const c_char, secrets: &Secrets) {
    // SAFETY: memory contexts form a tree, which nobody changes meanwhile. The identifier of one with this name is the
    // text of the plan that lives in it.
    unsafe {
        let text = CStr::from_ptr(text);
        for root in [pg_sys::MessageContext, pg_sys::CurrentMemoryContext] {
            visit(root, &mut |context| {
                let (name, copy) = (context.name, context.ident.cast_mut());
                if !name.is_null()
                    && CStr::from_ptr(name) == c"CachedPlanSource"
                    && !copy.is_null()
                    && CStr::from_ptr(copy) == text
                    && !ptr::eq(copy, text.as_ptr())
                {
                    secrets.mask(std::slice::from_raw_parts_mut(copy.cast(), text.count_bytes()));
                }
            });
        }
    }
}

unsafe fn visit(context: pg_sys::MemoryContext, each: &mut impl FnMut(&pg_sys::MemoryContextData)) {
    // SAFETY: the caller vouches for the tree.
    unsafe {
        let Some(context) = context.as_ref() else { return };
        each(context);
        let mut child = context.firstchild;
        while let Some(next) = child.as_ref() {
            visit(child, each);
            child = next.nextchild;
        }
    }
}

/// A copy of a text without its secrets and of the same length, in the current memory context; `None` where the text has
/// none to show.
///
/// # Safety
/// `text` is NULL or a C string.
pub unsafe fn masked_copy(text: *const c_char) -> Option<*const c_char> {
    if text.is_null() {
        return None;
    }
    let is_from_client = is_from_client(text);
    // SAFETY: the caller vouches for the text.
    let text = unsafe { CStr::from_ptr(text) }.to_bytes();
    if !is_from_client && text.starts_with(MARK) {
        return None;
    }
    let shown = || find(text).filter(is_shown_in(text));
    if HARMLESS.with(|memo| memo.get_or(text, reading().backslashes, || shown().is_none())) {
        return None;
    }
    copy_masked(text, &shown()?)
}

thread_local! {
    static HARMLESS: Memo<bool> = Memo::default();
    static HAS_LITERAL: Memo<bool> = Memo::default();
}

/// Whether a text shows its secrets, or is masked already.
fn is_shown_in(text: &[u8]) -> impl Fn(&Secrets) -> bool {
    |secrets| !secrets.is_masked(text)
}

fn copy_masked(text: &[u8], secrets: &Secrets) -> Option<*const c_char> {
    let mut copy = text.to_vec();
    secrets.mask(&mut copy);
    let copy = CString::new(copy).ok()?;
    // SAFETY: a C string; the copy is the caller's.
    Some(unsafe { pg_sys::pstrdup(copy.as_ptr()) })
}

/// Shows a statement in `pg_stat_activity` without its secrets.
pub fn report_activity(text: &[u8], secrets: &Secrets) {
    if let Ok(text) = CString::new(secrets.redacted(text)) {
        // SAFETY: copies the text into this process' own entry. It is running, or it would have nothing to report.
        unsafe { pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text.as_ptr()) };
    }
}

/// The same for whatever is shown there now, of a statement that failed before it was analyzed.
pub fn report_activity_again() {
    // SAFETY: this process' own entry, which it alone writes to; its text is a C string.
    let shown = unsafe {
        match pg_sys::MyBEEntry.as_ref() {
            Some(entry) if !entry.st_activity_raw.is_null() => {
                CStr::from_ptr(entry.st_activity_raw).to_bytes()
            }
            _ => return,
        }
    };
    if let Some(secrets) = find(shown).filter(is_shown_in(shown)) {
        report_activity(shown, &secrets);
    }
}
