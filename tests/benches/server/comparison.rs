//! Sides measured in alternation, compared pair by pair.

use crate::{
    effort::Effort,
    rounds::{Estimate, alternate},
    side::{Sample, Side},
    table::{Figure, MARGIN, Outcome, Row, Target, judge},
};
use std::{collections::HashMap, time::Duration};

/// What a turn takes besides measuring.
const OVERHEAD: Duration = Duration::from_millis(200);

/// A row to be.
pub struct Comparison {
    measure: &'static str,
    baseline: &'static str,
    /// Which two of the sides.
    pair: [usize; 2],
    figure: Figure,
    target: Option<Target>,
    margin: f64,
}

impl Comparison {
    /// Of our throughput with the baseline's.
    pub fn of(measure: &'static str, baseline: &'static str, pair: [usize; 2]) -> Self {
        Self { measure, baseline, pair, figure: Figure::Throughput, target: None, margin: MARGIN }
    }

    /// Of the CPU time that both need for a call.
    pub fn cpu(self) -> Self {
        Self { figure: Figure::Cpu, ..self }
    }

    /// Of the time that a delivery takes. Half of what may be added is what the spread may be.
    pub fn added_milliseconds(self) -> Self {
        Self { figure: Figure::AddedMilliseconds, margin: 0.05, ..self }
    }

    /// Asks for a smaller spread, where the target is near to 1.
    pub fn within(self, margin: f64) -> Self {
        Self { margin, ..self }
    }

    pub fn at_least(self, least: f64) -> Self {
        Self { target: Some(Target::AtLeast(least)), ..self }
    }

    pub fn at_most(self, most: f64) -> Self {
        Self { target: Some(Target::AtMost(most)), ..self }
    }

    /// The figure of each pair of turns.
    fn figures(&self, samples: &HashMap<usize, Vec<Sample>>) -> Vec<f64> {
        let [ours, theirs] = self.pair.map(|side| &samples[&side]);
        ours.iter().zip(theirs).map(|(ours, theirs)| self.figure.of(ours, theirs)).collect()
    }

    fn outcome(&self, samples: &HashMap<usize, Vec<Sample>>) -> Outcome {
        judge(Estimate::of(&self.figures(samples)), self.figure, self.margin)
    }

    fn row(&self, outcome: Outcome, sides: Option<[Sample; 2]>) -> Row {
        Row {
            measure: self.measure.into(),
            baseline: self.baseline.into(),
            figure: self.figure,
            target: self.target,
            outcome,
            sides,
        }
    }
}

/// Measures the sides, as often as the effort says, and makes a row of each comparison. In a hurry, only of those that
/// have a target. Else, where a row is too noisy and there is time, all have as many turns again, once.
pub async fn compare(effort: &Effort, sides: &[Side<'_>], mut comparisons: Vec<Comparison>) -> Vec<Row> {
    comparisons.retain(|comparison| effort.full || comparison.target.is_some());
    let is_needed = |side: &usize| comparisons.iter().any(|comparison| comparison.pair.contains(side));
    let needed: Vec<_> = (0..sides.len()).filter(is_needed).collect();

    let seconds = effort.seconds();
    let round = needed.iter().map(|_| Duration::from_secs(seconds.into()) + OVERHEAD).sum::<Duration>();
    let rounds = round * effort.rounds.try_into().expect("few rounds");
    if effort.remaining() < rounds {
        let missed = |it: &Comparison| it.row(Outcome::NotMeasured("out of time"), None);
        return comparisons.iter().map(missed).collect();
    }

    let mut samples: HashMap<usize, Vec<Sample>> = HashMap::new();
    for _ in 0..2 {
        let turn = async |turn: usize| sides[needed[turn]].measure(seconds).await;
        for (&side, more) in needed.iter().zip(alternate(effort.rounds, needed.len(), turn).await) {
            samples.entry(side).or_default().extend(more);
        }
        let is_sure = |it: &Comparison| matches!(it.outcome(&samples), Outcome::Measured(_));
        if !effort.full || comparisons.iter().all(is_sure) || effort.remaining() < rounds {
            break;
        }
    }
    let row = |comparison: &Comparison| {
        eprintln!(
            "{}, against {}: {:.2?}",
            comparison.measure,
            comparison.baseline,
            comparison.figures(&samples)
        );
        let sides = comparison.pair.map(|side| Sample::median(&samples[&side]));
        comparison.row(comparison.outcome(&samples), Some(sides))
    };
    comparisons.iter().map(row).collect()
}
