//! Moments and spans of time, between Postgres and Rust.

use pgrx::datum::Interval;
use pgrx::{FromDatum, IntoDatum, pg_sys};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A `timestamptz`: microseconds since the year 2000. Shown as `2026-04-29T14:00:00.000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pg_sys::TimestampTz);

impl Moment {
    /// This moment, by the server's clock.
    pub fn now() -> Self {
        // SAFETY: reads the clock.
        Self(unsafe { pg_sys::GetCurrentTimestamp() })
    }

    /// The moment a while after this one.
    pub fn after(self, while_: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(while_.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl From<pg_sys::TimestampTz> for Moment {
    fn from(microseconds: pg_sys::TimestampTz) -> Self {
        Self(microseconds)
    }
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        /// From 1970 to 2000.
        const EPOCH: Duration = Duration::from_hours(24 * 10957);
        let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let microseconds = i128::try_from(since_1970.as_micros()).unwrap_or(i128::MAX)
            - i128::try_from(EPOCH.as_micros()).unwrap_or_default();
        Self(i64::try_from(microseconds).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut tm, mut microseconds) = (pg_sys::pg_tm::default(), 0);
        // SAFETY: fills in both; without a time zone, in UTC. It fails only for infinity, which no clock
        // returns.
        unsafe {
            pg_sys::timestamp2tm(
                self.0,
                std::ptr::null_mut(),
                &raw mut tm,
                &raw mut microseconds,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            );
        }
        let pg_sys::pg_tm { tm_year, tm_mon, tm_mday, tm_hour, tm_min, tm_sec, .. } = tm;
        let milliseconds = microseconds / 1000;
        write!(
            f,
            "{tm_year:04}-{tm_mon:02}-{tm_mday:02}T{tm_hour:02}:{tm_min:02}:{tm_sec:02}.{milliseconds:03}Z"
        )
    }
}

impl FromDatum for Moment {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, oid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: the caller vouches for the datum, which is eight bytes by value.
        unsafe { i64::from_polymorphic_datum(datum, is_null, oid) }.map(Self)
    }
}

impl IntoDatum for Moment {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        self.0.into_datum()
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TIMESTAMPTZOID
    }
}

/// The length of an interval, in which a month has 30 days; `None` if it is negative.
pub fn span(interval: &Interval) -> Option<Duration> {
    let microseconds = u128::try_from(interval.as_micros()).ok()?;
    Some(Duration::from_micros(u64::try_from(microseconds).unwrap_or(u64::MAX)))
}
