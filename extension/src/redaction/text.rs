//! Which statements may hold a secret.

use integration_credentials_core::sql_text::{executes, names_one, value_is_written};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::hash::BuildHasher;
use std::ptr;

thread_local! {
    static CURRENT: Cell<Option<(Known, bool)>> = const { Cell::new(None) };
    static IS_HIDDEN: Cell<bool> = const { Cell::new(false) };
    static OTHERS: Others = const { [const { Cell::new(None) }; 8] };
    /// Whether the plan at work is that of a statement that may hold a secret.
    static IS_RUNNING: Cell<bool> = const { Cell::new(false) };
    static HAS_PREPARED: Cell<bool> = const { Cell::new(false) };
    /// When the statement that was asked about last began, and the answer for the next call.
    static ASKED: Cell<(pg_sys::TimestampTz, Came)> = const { Cell::new((0, Came::Otherwise)) };
}

/// Whether a statement may hold a secret: it names one of our functions or, in a session that has analyzed such a
/// statement and may have prepared it, it executes a prepared one.
///
/// One text may hold thousands of statements, or have thousands of messages, each of which asks; it is read once.
///
/// # Safety
/// `text` is a C string.
pub unsafe fn is_secret(text: *const c_char) -> bool {
    // SAFETY: the caller vouches for the text.
    unsafe {
        if is_from_client(text) {
            let known = known_of(text);
            return match CURRENT.get() {
                Some((same, answer)) if same == known => answer,
                _ => {
                    let answer = holds_secret(CStr::from_ptr(text).to_bytes());
                    CURRENT.set(Some((known, answer)));
                    IS_HIDDEN.set(false);
                    answer
                }
            };
        }
        let text = CStr::from_ptr(text).to_bytes();
        if text.len() < SHORT {
            return holds_secret(text);
        }
        OTHERS.with(|others| {
            let hash = hash_of(text);
            let place = usize::try_from(hash).unwrap_or_default() % others.len();
            match others[place].get() {
                Some((same, answer)) if same == hash => answer,
                _ => {
                    let answer = holds_secret(text);
                    others[place].set(Some((hash, answer)));
                    answer
                }
            }
        })
    }
}

/// The same of a text that is not a statement at work, or was just changed.
pub fn holds_secret(text: &[u8]) -> bool {
    names_one(text) || (HAS_PREPARED.get() && executes(text))
}

/// A shorter text is read whenever it is asked about.
const SHORT: usize = 512;

/// What the client's statement is known by: where it stands, when it began, how it begins, and what was asked.
type Known = (usize, pg_sys::TimestampTz, [u8; FINGERPRINT], bool);
const FINGERPRINT: usize = 64;

unsafe fn known_of(text: *const c_char) -> Known {
    let mut start = [0; FINGERPRINT];
    // SAFETY: the caller vouches for a C string, which is read up to its end; a variable of this process.
    unsafe {
        for (at, place) in start.iter_mut().enumerate() {
            *place = text.add(at).read().cast_unsigned();
            if *place == 0 {
                break;
            }
        }
        (text.addr(), pg_sys::GetCurrentStatementStartTimestamp(), start, HAS_PREPARED.get())
    }
}

/// What was found out about texts that are not the client's, by their hashes.
type Others = [Cell<Option<(u64, bool)>>; 8];

/// The hash of a text and of what it depends on whether it may hold a secret.
pub fn hash_of(text: &[u8]) -> u64 {
    foldhash::fast::FixedState::with_seed(0).hash_one((HAS_PREPARED.get(), backslashes(), text))
}

/// Whether a text is the client's own, in a buffer that this process may write to. Other processes that run statements
/// may have theirs anywhere.
pub fn is_from_client(text: *const c_char) -> bool {
    // SAFETY: variables of this process.
    unsafe {
        let is_session = matches!(
            pg_sys::MyBackendType,
            pg_sys::BackendType::B_BACKEND | pg_sys::BackendType::B_WAL_SENDER
        );
        is_session && ptr::eq(text, pg_sys::debug_query_string)
    }
}

/// Whether the client's statement, which may hold a secret, shows none any more, as it was found or made.
pub fn is_known_hidden() -> bool {
    IS_HIDDEN.get()
}

/// Notes that the client's statement shows no secret any more.
///
/// # Safety
/// `text` is the client's statement.
pub unsafe fn note_hidden(text: *const c_char) {
    // SAFETY: the caller vouches for the text. How it begins may have changed.
    CURRENT.set(Some((unsafe { known_of(text) }, true)));
    IS_HIDDEN.set(true);
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
    if HAS_PREPARED.get() && !text.is_null() && unsafe { is_secret(text) } {
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
