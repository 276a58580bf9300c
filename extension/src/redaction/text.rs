//! Which statements may hold a secret.

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use integration_credentials_core::sql_text::{executes, is_masked, names_one, value_is_written};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::hash::BuildHasher;
use std::ptr;

thread_local! {
    static CURRENT: Cell<Option<(Identity, bool)>> = const { Cell::new(None) };
    static IS_HIDDEN: Cell<bool> = const { Cell::new(false) };
    static ARE_SECRET: Answers = const { Answers::none() };
    static ARE_HIDDEN: Answers = const { Answers::none() };
    static ARE_WRITTEN: Answers = const { Answers::none() };
    /// Whether the running plan is of a statement that may hold a secret.
    static IS_RUNNING: Cell<bool> = const { Cell::new(false) };
    static HAS_PREPARED: Cell<bool> = const { Cell::new(false) };
    /// When the statement of the last call began, and the answer for its next call.
    static ASKED: Cell<(pg_sys::TimestampTz, Came)> = const { Cell::new((0, Came::Otherwise)) };
}

/// Whether a statement may hold a secret: the statement names a function that takes one, or executes a
/// prepared statement in a session that may have prepared such a call.
///
/// A text may hold thousands of statements, or cause thousands of messages, so the answer is cached.
///
/// # Safety
/// `text` is a C string.
pub unsafe fn is_secret(text: *const c_char) -> bool {
    // SAFETY: the caller vouches for the text.
    unsafe {
        if is_from_client(text) {
            let identity = identity_of(text);
            return match CURRENT.get() {
                Some((same, answer)) if same == identity => answer,
                _ => {
                    let answer = holds_secret(CStr::from_ptr(text).to_bytes());
                    CURRENT.set(Some((identity, answer)));
                    IS_HIDDEN.set(false);
                    answer
                }
            };
        }
        is_secret_text(CStr::from_ptr(text).to_bytes())
    }
}

/// Whether a text may hold a secret that is not the client's statement: the text of a plan, which is executed again and
/// again, or of `pg_stat_activity`.
pub fn is_secret_text(text: &[u8]) -> bool {
    ARE_SECRET.with(|answers| answers.of(text, holds_secret))
}

/// A longer text is not read, because reading cannot be interrupted.
pub const MOST_BYTES: usize = 16 << 20;

/// Whether a text that may hold a secret shows none.
pub fn is_hidden(text: &[u8]) -> bool {
    text.len() <= MOST_BYTES
        && ARE_HIDDEN.with(|answers| answers.of(text, |text| is_masked(text, backslashes())))
}

/// Whether a text may hold a secret, without the cache: for a text that is no running statement, or was just
/// changed.
pub fn holds_secret(text: &[u8]) -> bool {
    names_one(text) || (HAS_PREPARED.get() && executes(text))
}

/// The identity of the client's statement: its address, its start time, its first bytes, and whether EXECUTE
/// counts.
type Identity = (usize, pg_sys::TimestampTz, [u8; FINGERPRINT], bool);
const FINGERPRINT: usize = 64;

unsafe fn identity_of(text: *const c_char) -> Identity {
    let mut start = [0; FINGERPRINT];
    // SAFETY: the caller vouches for a C string, which is read up to its end at most; a variable of this
    // process.
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

/// The answers to one question about texts that come again and again, by the hashes of the texts.
struct Answers([Cell<Option<(u64, bool)>>; 32]);

impl Answers {
    const fn none() -> Self {
        Self([const { Cell::new(None) }; 32])
    }

    fn of(&self, text: &[u8], find: impl FnOnce(&[u8]) -> bool) -> bool {
        let hash = hash_of(text);
        let place = &self.0[usize::try_from(hash).unwrap_or_default() % self.0.len()];
        match place.get() {
            Some((same, answer)) if same == hash => answer,
            _ => {
                let answer = find(text);
                place.set(Some((hash, answer)));
                answer
            }
        }
    }
}

/// The hash of a text, with the session's state that answers depend on. Of this process alone: nobody can make a text
/// that gets the answer of another, as a client could who shares the session by a pooler.
pub fn hash_of(text: &[u8]) -> u64 {
    let seed = SharedSeed::global_random();
    SeedableRandomState::with_seed(0, seed).hash_one((HAS_PREPARED.get(), backslashes(), text))
}

/// Whether a text is the client's statement, in a buffer that this process may write to. In other kinds of
/// processes a statement may be in read-only memory.
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

/// Whether the client's statement, which may hold a secret, is masked.
pub fn is_known_hidden() -> bool {
    IS_HIDDEN.get()
}

/// Notes that the client's statement is masked.
///
/// # Safety
/// `text` is the client's statement.
pub unsafe fn note_hidden(text: *const c_char) {
    // SAFETY: the caller vouches for the text, whose first bytes may have changed.
    CURRENT.set(Some((unsafe { identity_of(text) }, true)));
    IS_HIDDEN.set(true);
}

/// Notes that this session has analyzed a call, which may have been prepared.
pub fn note_call() {
    HAS_PREPARED.set(true);
}

/// Notes that the plan of a statement starts. Returns the state before, for `go_on_with`.
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

/// Restores the state before a plan ran.
pub fn go_on_with(before: bool) {
    IS_RUNNING.set(before);
}

/// Whether the plan of a statement that may hold a secret runs, or has failed.
pub fn is_running() -> bool {
    IS_RUNNING.get()
}

/// The statement that the client sent.
pub fn current() -> Option<&'static CStr> {
    // SAFETY: NULL, or a C string that Postgres keeps while the statement runs.
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

/// How the value came into a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// Not in the text of the client's statement.
    Otherwise,
    /// As a literal in that text, and this is the first call of the statement.
    AsLiteral,
    /// As a literal in that text, which an earlier call of the statement has reported.
    AsLiteralAgain,
}

/// How the value came into this call. The text is read once for each statement.
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
    // A longer text was blanked except for a name.
    text.len() <= MOST_BYTES
        && ARE_WRITTEN.with(|answers| answers.of(text, |text| value_is_written(text, backslashes())))
}
