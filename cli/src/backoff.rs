//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential backoff, less up to a half at random: clients that failed together must not all return at
/// once.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Backoff {
    /// Doubles from `first` up to `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, attempts: 0 }
    }

    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.first.saturating_mul(2_u32.saturating_pow(self.attempts)).min(self.longest);
        self.attempts = self.attempts.saturating_add(1);
        // Without randomness there is no jitter, which is no reason to give up.
        let jitter = getrandom::u32().unwrap_or_default();
        ceiling.mul_f64(1.0 - f64::from(jitter) / f64::from(u32::MAX) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_less_a_half_at_most() {
        for _ in 0..20 {
            let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
            for ceiling in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000].map(Duration::from_millis) {
                let delay = backoff.next_delay();
                assert!(ceiling / 2 <= delay && delay <= ceiling, "{delay:?}, {ceiling:?}");
            }
            backoff.attempts = u32::MAX;
            assert!(backoff.next_delay() <= Duration::from_secs(30));
        }
    }
}
