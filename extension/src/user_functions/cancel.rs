//! Whether the statement is cancelled, by its caller or by a timeout, while somebody else's function runs. The error alone
//! does not tell: PL/Python and PL/Perl make one of their own out of it.

use pgrx::pg_sys;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};

static CAME: AtomicBool = AtomicBool::new(false);

/// `LOCK_TIMEOUT` of `TimeoutId`; utils/timeout.h is not among pgrx's bindings.
const LOCK_TIMEOUT: c_int = 2;

unsafe extern "C-unwind" {
    // pgrx's bindings are wrapped in a guard, which is nothing for a signal handler.
    fn StatementCancelHandler(signal: c_int);
    fn get_timeout_indicator(timeout: c_int, reset: bool) -> bool;
}

/// While this lives, a cancel is noted.
pub struct Watch {
    before: pg_sys::pqsigfunc,
}

impl Watch {
    /// Begins; not where another one has, nor where a process has a handler of its own, as a background worker may.
    pub fn begin() -> Self {
        let signal = libc::SIGINT;
        // SAFETY: what the handler does, one may: it sets a flag, and goes on to that of Postgres.
        unsafe {
            let before = pg_sys::pqsignal(signal, Some(note));
            let is_ordinary =
                before.is_some_and(|before| before as usize == StatementCancelHandler as *const () as usize);
            if !is_ordinary {
                pg_sys::pqsignal(signal, before);
            }
            Self { before: before.filter(|_| is_ordinary) }
        }
    }

    /// Whether one came.
    pub fn came(&self) -> bool {
        self.before.is_some() && CAME.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.before.is_some() {
            // SAFETY: the handler that was there before.
            unsafe { pg_sys::pqsignal(libc::SIGINT, self.before) };
            CAME.store(false, Ordering::Relaxed);
        }
    }
}

unsafe extern "C-unwind" fn note(signal: c_int) {
    // SAFETY: the first looks at a flag, the second is what Postgres would have called. A lock_timeout may be the function's own.
    unsafe {
        if !get_timeout_indicator(LOCK_TIMEOUT, false) {
            CAME.store(true, Ordering::Relaxed);
        }
        StatementCancelHandler(signal);
    }
}
