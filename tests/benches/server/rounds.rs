//! Turns taken in alternation, and what may be concluded from them.

/// How sure the interval of an [`Estimate`] is to hold the true median.
const CONFIDENCE: f64 = 0.9;

/// Measures each side in turn, A B A B, so that what changes slowly (a disk that fills, a neighbour that wakes up) meets
/// all sides alike. Returns the samples of each side, in the order of the rounds.
pub async fn alternate<S>(
    rounds: usize,
    sides: usize,
    mut measure: impl AsyncFnMut(usize) -> S,
) -> Vec<Vec<S>> {
    let mut samples: Vec<Vec<S>> = (0..sides).map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (side, samples) in samples.iter_mut().enumerate() {
            samples.push(measure(side).await);
        }
    }
    samples
}

/// A median, and the interval that holds the true one with [`CONFIDENCE`] or more, whatever the distribution: from the
/// k-th smallest value to the k-th largest. Of 5 to 7 values that is all of them; of 8 it is without the outermost two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The middle value, or the mean of the middle two.
    pub median: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
}

impl Estimate {
    /// Of one value or more.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (count, middle) = (sorted.len(), sorted.len() / 2);
        let median =
            if count % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        let outside = outside(count);
        Self { median, low: sorted[outside], high: sorted[count - 1 - outside] }
    }

    /// Half the width of the interval.
    #[must_use]
    pub fn margin(&self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// How many values at each end may be left out. The true median lies below the k-th smallest of n values if fewer than
/// k of them are below it: a matter of n fair coins.
fn outside(count: usize) -> usize {
    let coins = f64::from(u32::try_from(count).expect("few rounds"));
    // The probability of no heads among that many coins; then of one head, of two ...
    let (mut heads, mut probability) = (0.0, 0.5_f64.powf(coins));
    let (mut below, mut outside) = (probability, 0);
    loop {
        probability *= (coins - heads) / (heads + 1.0);
        heads += 1.0;
        below += probability;
        if 1.0 - 2.0 * below < CONFIDENCE {
            return outside;
        }
        outside += 1;
    }
}

#[cfg(test)]
mod tests {
    // By path: the benchmark itself compiles this module without its tests, to whom an import would be unused.
    #[tokio::test]
    async fn sides_take_turns() {
        let mut turns = Vec::new();
        let samples = super::alternate(3, 2, async |side| {
            turns.push(side);
            turns.len()
        })
        .await;
        assert_eq!(turns, [0, 1, 0, 1, 0, 1]);
        assert_eq!(samples, [[1, 3, 5], [2, 4, 6]]);
    }

    #[test]
    fn of_few_rounds_the_interval_is_all() {
        let estimate = super::Estimate::of(&[5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!(estimate, super::Estimate { median: 3.0, low: 1.0, high: 5.0 });
        assert!((estimate.margin() - 2.0).abs() < 1e-9);
    }

    #[test]
    fn an_even_number_has_two_in_the_middle() {
        assert!((super::Estimate::of(&[4.0, 1.0, 2.0, 3.0]).median - 2.5).abs() < 1e-9);
        assert_eq!(super::Estimate::of(&[7.0]), super::Estimate { median: 7.0, low: 7.0, high: 7.0 });
    }

    /// The ranks are those of any table of the sign test.
    #[test]
    fn of_more_rounds_the_outliers_are_left_out() {
        for (count, expected) in [(1, 0), (5, 0), (7, 0), (8, 1), (11, 2), (13, 3), (20, 5)] {
            assert_eq!(super::outside(count), expected, "{count}");
        }
        let estimate = super::Estimate::of(&[1.0, 1.1, 1.2, 1.3, 1.2, 1.1, 1.2, 90.0]);
        assert!(estimate.high < 2.0, "{estimate:?}");
    }
}
