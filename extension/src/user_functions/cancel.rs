//! Whether a cancel or a timeout ended the statement while a validator or sync handler ran. The error alone does not
//! show that: PL/Python and PL/Perl raise an error of their own in its place.

use crate::pg::ffi::get_timeout_indicator;
use pgrx::pg_sys;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

static CAME: AtomicBool = AtomicBool::new(false);
/// The previous handler of this process, which `note` calls.
static HANDLER: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// `LOCK_TIMEOUT` of `TimeoutId`; utils/timeout.h is not among pgrx's bindings.
const LOCK_TIMEOUT: c_int = 2;

/// Notes a cancel until it is dropped.
pub struct Watch {
    before: Option<libc::sigaction>,
}

impl Watch {
    /// Installs `note`, unless `note` is installed already or the process ignores cancels.
    pub fn begin() -> Self {
        // SAFETY: `note` does what a handler may: it calls the handler that was there, which is stored first, and sets a flag.
        unsafe {
            let mut before = MaybeUninit::<libc::sigaction>::uninit();
            if libc::sigaction(libc::SIGINT, ptr::null(), before.as_mut_ptr()) != 0 {
                return Self { before: None };
            }
            let before = before.assume_init();
            let noting = note as *const () as usize;
            let is_plain = before.sa_flags & libc::SA_SIGINFO == 0;
            if !is_plain || [libc::SIG_DFL, libc::SIG_IGN, noting].contains(&before.sa_sigaction) {
                return Self { before: None };
            }
            HANDLER.store(ptr::with_exposed_provenance_mut(before.sa_sigaction), Ordering::Relaxed);
            let ours = libc::sigaction { sa_sigaction: noting, ..before };
            let is_set = libc::sigaction(libc::SIGINT, &raw const ours, ptr::null_mut()) == 0;
            Self { before: is_set.then_some(before) }
        }
    }

    /// Whether a cancel came.
    pub fn came(&self) -> bool {
        self.before.is_some() && CAME.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // SAFETY: the handler that was there before.
            unsafe { libc::sigaction(libc::SIGINT, before, ptr::null_mut()) };
            CAME.store(false, Ordering::Relaxed);
        }
    }
}

/// Calls the previous handler, and then reads the flag that a cancel sets. The address of that handler does not identify
/// it: since 17, Postgres has one handler for all signals, which calls the one for this signal.
unsafe extern "C" fn note(signal: c_int) {
    // SAFETY: the handler that was there, set with the same flags. The rest reads flags of this process. A lock_timeout may be
    // the function's own.
    unsafe {
        let handler = HANDLER.load(Ordering::Relaxed);
        std::mem::transmute::<*mut (), extern "C" fn(c_int)>(handler)(signal);
        if pg_sys::QueryCancelPending != 0 && !get_timeout_indicator(LOCK_TIMEOUT, false) {
            CAME.store(true, Ordering::Relaxed);
        }
    }
}
