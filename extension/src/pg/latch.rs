//! Waiting, as Postgres waits: a signal ends the wait.

use pgrx::pg_sys;
use std::ffi::c_long;
use std::time::Duration;

/// Waits for the events or the timeout. Exits if the postmaster is dead.
pub fn wait(events: u32, timeout: Option<Duration>) {
    let flags = events | pg_sys::WL_EXIT_ON_PM_DEATH | timeout.map_or(0, |_| pg_sys::WL_TIMEOUT);
    // Rounded up: a caller that waits for what is left would otherwise spin through the last millisecond.
    let milliseconds = |timeout: Duration| timeout.as_micros().div_ceil(1000);
    let timeout =
        timeout.map_or(-1, |timeout| c_long::try_from(milliseconds(timeout)).unwrap_or(c_long::MAX));
    // SAFETY: this process' own latch.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, flags.cast_signed(), timeout, pg_sys::PG_WAIT_EXTENSION);
        if events & pg_sys::WL_LATCH_SET != 0 {
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
    }
}
