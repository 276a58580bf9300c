//! The clock of a lease: it counts the time that a suspended machine sleeps, and no setting of the time moves
//! it.

use std::{fmt, sync::Arc, time::Duration};

/// A moment of a [`Clock`], since an unknown beginning.
pub(crate) type Moment = Duration;

/// A clock that never goes back.
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<dyn Fn() -> Moment + Send + Sync>>);

impl Clock {
    /// A clock of a test.
    pub fn of(now: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(now)))
    }

    pub(crate) fn now(&self) -> Moment {
        match &self.0 {
            Some(now) => now(),
            None => system::now(),
        }
    }

    /// Two clocks that are cheaper to read, and a few milliseconds late. The first stands still while the
    /// machine is suspended, and the second moves when somebody sets the time: only together they replace
    /// [`Self::now`].
    pub(crate) fn coarse(&self) -> Option<[Moment; 2]> {
        if self.0.is_some() { None } else { system::coarse() }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[cfg(target_os = "linux")]
mod system {
    use super::Moment;
    use nix::time::{ClockId, clock_gettime};

    pub fn now() -> Moment {
        // A clock that cannot be read ends every lease.
        read(ClockId::CLOCK_BOOTTIME).unwrap_or(Moment::MAX)
    }

    #[inline]
    pub fn coarse() -> Option<[Moment; 2]> {
        Some([read(ClockId::CLOCK_MONOTONIC_COARSE)?, read(ClockId::CLOCK_REALTIME_COARSE)?])
    }

    #[inline]
    fn read(clock: ClockId) -> Option<Moment> {
        clock_gettime(clock).ok().map(Moment::from)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::Moment;
    use std::{sync::LazyLock, time::Instant};

    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

    pub fn now() -> Moment {
        BEGAN.elapsed()
    }

    pub fn coarse() -> Option<[Moment; 2]> {
        None
    }
}
