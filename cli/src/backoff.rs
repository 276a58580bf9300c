//! How long to wait before trying again.

use std::time::Duration;

/// Exponential, with full jitter: many clients that failed together must not all come back at once.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Backoff {
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, attempts: 0 }
    }

    pub fn next_delay(&mut self) -> Duration {
        // Without randomness there is no jitter, which is no reason to give up.
        let jitter = getrandom::u32().unwrap_or(u32::MAX);
        self.ceiling().mul_f64(f64::from(jitter) / f64::from(u32::MAX))
    }

    /// The longest that the next delay may be.
    fn ceiling(&mut self) -> Duration {
        let ceiling = self.first.saturating_mul(2_u32.saturating_pow(self.attempts)).min(self.longest);
        self.attempts = self.attempts.saturating_add(1);
        ceiling
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(attempts: u32) -> Backoff {
        Backoff { attempts, ..Backoff::new(Duration::from_millis(100), Duration::from_secs(30)) }
    }

    #[test]
    fn the_ceiling_doubles_up_to_the_longest() {
        let mut begun = backoff(0);
        let ceilings: Vec<_> = (0..11).map(|_| begun.ceiling().as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(backoff(u32::MAX).ceiling(), Duration::from_secs(30));
    }

    #[test]
    fn a_delay_is_never_longer_than_its_ceiling() {
        for attempts in 0..40 {
            let ceiling = backoff(attempts).ceiling();
            assert!((0..20).all(|_| backoff(attempts).next_delay() <= ceiling));
        }
    }
}
