//! How long to wait before a hook that failed is run again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// Exponential; less up to a half at random, so that hooks that failed together do not all come back at once.
#[derive(Debug, Default)]
pub struct Delays {
    made: u32,
}

impl Delays {
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = FIRST.saturating_mul(2_u32.saturating_pow(self.made)).min(LONGEST);
        self.made = self.made.saturating_add(1);
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
            let mut delays = Delays::default();
            for ceiling in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000].map(Duration::from_millis) {
                let delay = delays.next_delay();
                assert!(ceiling / 2 <= delay && delay <= ceiling, "{delay:?}, {ceiling:?}");
            }
        }
        assert!(Delays { made: u32::MAX }.next_delay() <= LONGEST);
    }
}
