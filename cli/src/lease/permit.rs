//! Until when values may be used: read by each use of a value, written by the reporter.

use super::clock::{Clock, Moment};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;

/// The deadline without a lease.
const FREE: u64 = u64::MAX;

/// Shared by a cache and all its handles. In a use of a value, no lock is taken.
pub(crate) struct Permit {
    clock: Clock,
    /// In nanoseconds of [`Clock::now`].
    until: AtomicU64,
    /// The same moment by the two clocks of [`Clock::coarse`]; 0 where there are none.
    coarse: [AtomicU64; 2],
    /// False once somebody has seen that the deadline is over. Spares a look at the clock.
    seems_running: AtomicBool,
    /// Woken when there may be something to report.
    pub wake: Notify,
}

impl Permit {
    /// Permits nothing yet.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            until: AtomicU64::new(0),
            coarse: Default::default(),
            seems_running: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Whether a value may be used at this moment.
    #[inline]
    pub fn is_running(&self) -> bool {
        // The coarse clocks first: a deadline that is written meanwhile is a later one, or over.
        let [awake, set] = [&self.coarse[0], &self.coarse[1]].map(|until| until.load(Ordering::Acquire));
        if awake == FREE {
            return true;
        }
        if awake != 0
            && let Some([now_awake, now_set]) = self.clock.coarse()
            && nanoseconds(now_awake) < awake
            && nanoseconds(now_set) < set
        {
            return true;
        }
        let is_running = nanoseconds(self.clock.now()) < self.until.load(Ordering::Acquire);
        if !is_running {
            self.seems_running.store(false, Ordering::Relaxed);
        }
        is_running
    }

    /// As [`Self::is_running`] without a look at the clock, so possibly late.
    #[inline]
    pub fn seems_running(&self) -> bool {
        self.seems_running.load(Ordering::Relaxed)
    }

    /// Permits all until further notice: there is no lease to keep to.
    pub fn free(&self) {
        self.write(FREE, [FREE; 2]);
    }

    /// Permits nothing.
    pub fn end(&self) {
        self.write(0, [0; 2]);
    }

    /// Permits until this moment.
    pub fn run_until(&self, until: Moment) {
        let now = self.clock.now();
        let coarse = self
            .clock
            .coarse()
            .map_or([0; 2], |coarse| coarse.map(|coarse| nanoseconds(coarse + until.saturating_sub(now))));
        self.write(nanoseconds(until), coarse);
    }

    fn write(&self, until: u64, coarse: [u64; 2]) {
        self.until.store(until, Ordering::Release);
        for (place, coarse) in self.coarse.iter().zip(coarse) {
            place.store(coarse, Ordering::Release);
        }
        self.seems_running.store(until != 0, Ordering::Relaxed);
    }
}

fn nanoseconds(moment: Moment) -> u64 {
    u64::try_from(moment.as_nanos()).unwrap_or(FREE - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_deadline_ends_by_the_clock_alone() {
        let time = Arc::new(Mutex::new(SECOND));
        let permit = Permit::new(Clock::of({
            let time = time.clone();
            move || *time.lock().unwrap()
        }));
        assert!(!permit.is_running() && !permit.seems_running());
        permit.run_until(SECOND * 3);
        assert!(permit.is_running() && permit.seems_running());
        *time.lock().unwrap() = SECOND * 3;
        assert!(permit.seems_running() && !permit.is_running() && !permit.seems_running());
        permit.run_until(SECOND * 4);
        assert!(permit.is_running());
        permit.end();
        assert!(!permit.is_running());
        permit.free();
        *time.lock().unwrap() = SECOND * 1000;
        assert!(permit.is_running());
    }

    #[test]
    fn the_system_has_the_same_deadline() {
        let permit = Permit::new(Clock::default());
        permit.run_until(permit.now() + SECOND * 60);
        assert!(permit.is_running());
        permit.run_until(permit.now());
        assert!(!permit.is_running());
        // One of the coarse clocks is over: the exact one decides.
        permit.run_until(permit.now() + SECOND * 60);
        permit.coarse[1].store(1, Ordering::Relaxed);
        assert!(permit.is_running());
    }
}
