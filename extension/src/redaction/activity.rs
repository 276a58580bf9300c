//! Masks the text that `pg_stat_activity` shows of this session.
//!
//! A statement that fails before it is analyzed is shown unmasked. The log hook masks it, unless
//! `log_min_messages` keeps the error from the log and so from the hook. But after every error Postgres
//! resets `ErrorContext`, and then `MessageContext`. A reset callback on each registers the callback on the
//! other, because a callback that registered itself again would run again at once.

use super::text::{backslashes, go_on_with, holds_secret, is_hidden, is_secret_text};
use integration_credentials_core::buffer::Buffer;
use integration_credentials_core::sql_text::{Dropped, mask};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::panic::catch_unwind;
use std::ptr;

thread_local! {
    /// When the last analyzed statement began, and whether it may hold a secret.
    static ANALYZED: Cell<(pg_sys::TimestampTz, bool)> = const { Cell::new((0, false)) };
    static WAS_LOGGED: Cell<bool> = const { Cell::new(false) };
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
    static AFTER_ERROR: Cell<pg_sys::MemoryContextCallback> = const { Cell::new(callback(error_is_over)) };
    static AFTER_MESSAGE: Cell<pg_sys::MemoryContextCallback> = const { Cell::new(callback(message_is_over)) };
}

const fn callback(function: unsafe extern "C-unwind" fn(*mut c_void)) -> pg_sys::MemoryContextCallback {
    pg_sys::MemoryContextCallback { func: Some(function), arg: ptr::null_mut(), next: ptr::null_mut() }
}

/// Notes that a statement has been analyzed.
pub fn note_analyzed(is_secret: bool) {
    watch_errors();
    // SAFETY: a variable of this process.
    ANALYZED.set((unsafe { pg_sys::GetCurrentStatementStartTimestamp() }, is_secret));
}

/// Whether the last analyzed statement may hold a secret.
pub fn last_was_secret() -> bool {
    ANALYZED.get().1
}

/// Notes that the log hook has seen an error.
pub fn note_logged() {
    WAS_LOGGED.set(true);
}

/// Registers the callback for the next error, once.
pub fn watch_errors() {
    // SAFETY: a variable of this process.
    if !unsafe { pg_sys::ErrorContext }.is_null() && !IS_WATCHED.replace(true) {
        // SAFETY: a static callback of this process, which is not registered now.
        unsafe {
            pg_sys::MemoryContextRegisterResetCallback(pg_sys::ErrorContext, AFTER_ERROR.with(Cell::as_ptr));
        };
    }
}

unsafe extern "C-unwind" fn error_is_over(_: *mut c_void) {
    let _ = catch_unwind(hide_what_failed);
    // SAFETY: a variable of this process; NULL until the process serves a client.
    let messages = unsafe { pg_sys::MessageContext };
    if messages.is_null() {
        IS_WATCHED.set(false);
    } else {
        // SAFETY: as above.
        unsafe {
            pg_sys::MemoryContextRegisterResetCallback(messages, AFTER_MESSAGE.with(Cell::as_ptr));
        }
    }
}

unsafe extern "C-unwind" fn message_is_over(_: *mut c_void) {
    // An error that the statement caught is no longer the last one.
    WAS_LOGGED.set(false);
    IS_WATCHED.set(false);
    watch_errors();
}

fn hide_what_failed() {
    // SAFETY: variables of this process.
    let (is_at_work, began) =
        unsafe { (!pg_sys::debug_query_string.is_null(), pg_sys::GetCurrentStatementStartTimestamp()) };
    // A statement that is still running has caught the error itself.
    if is_at_work {
        return;
    }
    go_on_with(false);
    if WAS_LOGGED.replace(false) {
        return;
    }
    let Some(shown) = shown() else { return };
    if holds_secret(shown.to_bytes()) {
        report_masked(shown);
    } else if ANALYZED.get() != (began, false) && is_cut(shown.to_bytes()) {
        report_dropped(Dropped::TooLong);
    }
}

/// Masks a statement that succeeded without being analyzed: only a comment, or prepared before.
pub fn hide_what_was_not_analyzed() {
    // SAFETY: this process' own entry, which it alone writes to.
    let began = unsafe { pg_sys::MyBEEntry.as_ref() }.map(|entry| entry.st_activity_start_timestamp);
    if began.is_some_and(|began| began != ANALYZED.get().0)
        && let Some(shown) = shown()
        && is_secret_text(shown.to_bytes())
        && !is_hidden(shown.to_bytes())
    {
        report_masked(shown);
    }
}

/// The text that is shown of this session.
fn shown() -> Option<&'static CStr> {
    // SAFETY: this process' own entry, which it alone writes to; its text is NULL or a C string.
    unsafe {
        let text = pg_sys::MyBEEntry.as_ref()?.st_activity_raw;
        (!text.is_null()).then(|| CStr::from_ptr(text))
    }
}

/// Whether a text may have been cut at `track_activity_query_size`.
pub fn is_cut(shown: &[u8]) -> bool {
    limit().is_some_and(|limit| shown.len() + LONGEST_CHARACTER > limit)
}

const LONGEST_CHARACTER: usize = 4;

/// How much of a statement `pg_stat_activity` keeps, in bytes.
pub fn limit() -> Option<usize> {
    // SAFETY: a setting of the server.
    usize::try_from(unsafe { pg_sys::pgstat_track_activity_query_size })
        .ok()
        .map(|size| size.saturating_sub(1))
}

fn report_masked(shown: &CStr) {
    let shown = shown.to_bytes_with_nul();
    let copy =
        Buffer::with_room(shown.len()).and_then(|mut copy| copy.push(shown).map(|()| copy.into_bytes()));
    match copy {
        Ok(mut copy) => {
            if let Some((_, text)) = copy.split_last_mut() {
                mask(text, backslashes());
            }
            // SAFETY: a C string.
            unsafe { report(copy.as_ptr().cast()) };
        }
        Err(why) => report_dropped(why),
    }
}

fn report_dropped(why: Dropped) {
    const LONGEST: usize = 64;
    let mut text = [0; LONGEST];
    for (place, letter) in text.iter_mut().zip(why.text().bytes()).take(LONGEST - 1) {
        *place = letter;
    }
    // SAFETY: ends with a zero.
    unsafe { report(text.as_ptr().cast()) };
}

/// Shows a text.
///
/// # Safety
/// `text` is a C string.
pub unsafe fn report(text: *const c_char) {
    // SAFETY: copies the text into this process' own entry. It is running, or it would have nothing to
    // report.
    unsafe { pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text) };
}
