//! How long to wait before trying again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// Exponential, with full jitter: many listeners that lost one server must not all come back at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempts: u32,
}

impl Backoff {
    pub fn next_delay(&mut self) -> Duration {
        // Without randomness there is no jitter, which is no reason to give up.
        let jitter = getrandom::u32().unwrap_or(u32::MAX);
        self.ceiling().mul_f64(f64::from(jitter) / f64::from(u32::MAX))
    }

    /// The longest that the next delay may be.
    fn ceiling(&mut self) -> Duration {
        let ceiling = FIRST.saturating_mul(2_u32.saturating_pow(self.attempts)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        ceiling
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let ceilings: Vec<_> = (0..11).map(|_| backoff.ceiling().as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        backoff.attempts = u32::MAX;
        assert_eq!(backoff.ceiling(), LONGEST);
    }

    #[test]
    fn a_delay_is_never_longer_than_its_ceiling() {
        for attempts in 0..40 {
            let ceiling = Backoff { attempts }.ceiling();
            assert!((0..20).all(|_| Backoff { attempts }.next_delay() <= ceiling));
        }
    }
}
