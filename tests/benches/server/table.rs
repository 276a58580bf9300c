//! A row of the report: what was measured, against what, and what it should be.

use crate::{rounds::Estimate, side::Sample};

/// What the number of a row is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Calls in a second: ours divided by the baseline's.
    Throughput,
    /// CPU time of the whole server for a call: ours divided by the baseline's.
    Cpu,
    /// How much longer our delivery takes than the baseline's, in milliseconds.
    AddedMilliseconds,
    /// A time of our own, in nanoseconds.
    Nanoseconds,
    /// A time of our own, in seconds.
    Seconds,
    /// A rate of our own.
    PerSecond,
    /// A property of our own tables.
    Ratio,
}

impl Figure {
    /// The figure of one pair of turns.
    pub fn of(self, ours: &Sample, theirs: &Sample) -> f64 {
        match self {
            Figure::Cpu => ours.cpu / theirs.cpu,
            Figure::AddedMilliseconds => ours.delivery - theirs.delivery,
            _ => ours.rate / theirs.rate,
        }
    }

    /// What stands behind the number.
    pub fn unit(self) -> &'static str {
        match self {
            Figure::Throughput | Figure::Ratio => "",
            Figure::Seconds => " s",
            Figure::PerSecond => " a second",
            Figure::Cpu => " of the CPU",
            Figure::AddedMilliseconds => " ms more",
            Figure::Nanoseconds => " ns",
        }
    }

    /// The same in `report.json`.
    pub fn name(self) -> &'static str {
        match self {
            Figure::Throughput => "throughput, ours / baseline",
            Figure::Cpu => "server CPU per call, ours / baseline",
            Figure::AddedMilliseconds => "milliseconds, ours - baseline",
            Figure::Nanoseconds => "nanoseconds",
            Figure::Seconds => "seconds",
            Figure::PerSecond => "a second",
            Figure::Ratio => "ratio",
        }
    }
}

/// What the number should be.
#[derive(Clone, Copy)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    pub fn number(self) -> f64 {
        let (Target::AtLeast(number) | Target::AtMost(number)) = self;
        number
    }

    fn is_met_by(self, value: f64) -> bool {
        match self {
            Target::AtLeast(least) => value >= least,
            Target::AtMost(most) => value <= most,
        }
    }
}

/// What came of a measurement.
pub enum Outcome {
    Measured(Estimate),
    TooNoisy(Estimate),
    /// And why not.
    NotMeasured(&'static str),
}

/// A row.
pub struct Row {
    pub measure: String,
    pub baseline: String,
    pub figure: Figure,
    pub target: Option<Target>,
    pub outcome: Outcome,
    /// What both sides did in themselves, in the median.
    pub sides: Option<[Sample; 2]>,
}

impl Row {
    /// A row of one number, e.g. a property of a table.
    pub fn single(measure: impl Into<String>, figure: Figure, target: Option<Target>, value: f64) -> Self {
        let outcome = Outcome::Measured(Estimate::of(&[value]));
        Self { measure: measure.into(), baseline: "-".into(), figure, target, outcome, sides: None }
    }

    /// Whether the number is what it should be, as far as there is a number and a target.
    pub fn is_met(&self) -> Option<bool> {
        let Outcome::Measured(estimate) = &self.outcome else { return None };
        Some(self.target?.is_met_by(estimate.median))
    }
}

/// How far the interval may reach to each side, as a part of the median, before a row says so in place of a number. A
/// lead of 1.15, the smallest that is asked for, could not be told from none if it were more.
pub const MARGIN: f64 = 0.15;

/// The number, if it is sure enough. The margin of a time that is added is in milliseconds.
pub fn judge(estimate: Estimate, figure: Figure, margin: f64) -> Outcome {
    let unit = if figure == Figure::AddedMilliseconds { 1.0 } else { estimate.median.abs() };
    if estimate.margin() <= margin * unit { Outcome::Measured(estimate) } else { Outcome::TooNoisy(estimate) }
}
