//! A timestamp in the form of the results.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;

/// `2026-04-29T14:00:00.000Z`
pub fn iso8601(moment: TimestampWithTimeZone) -> String {
    let (mut tm, mut microseconds) = (pg_sys::pg_tm::default(), 0);
    let none = std::ptr::null_mut();
    // SAFETY: fills in both; without a time zone, in UTC. It fails only for infinity, which no clock returns.
    unsafe {
        pg_sys::timestamp2tm(
            moment.into_inner(),
            none,
            &raw mut tm,
            &raw mut microseconds,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        );
    }
    let pg_sys::pg_tm { tm_year, tm_mon, tm_mday, tm_hour, tm_min, tm_sec, .. } = tm;
    let milliseconds = microseconds / 1000;
    format!("{tm_year:04}-{tm_mon:02}-{tm_mday:02}T{tm_hour:02}:{tm_min:02}:{tm_sec:02}.{milliseconds:03}Z")
}
