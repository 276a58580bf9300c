//! What Criterion has measured of the client library, before.

use crate::{
    rounds::Estimate,
    table::{Figure, MARGIN, Outcome, Row, Target, judge},
};
use serde_json::Value;
use std::{fs, path::Path};

/// What a read from the cache may take, by the name of its benchmark.
const CACHED_READ: (&str, f64) = ("cached get of 64 bytes/1 thread", 100.0);

/// A row of each benchmark below `target/criterion`, in the order of their names.
pub fn client(target: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    collect(&target.join("criterion"), &mut rows);
    rows.sort_by(|a, b| a.measure.cmp(&b.measure));
    if rows.is_empty() {
        rows.push(Row {
            outcome: Outcome::NotMeasured("Criterion has not run"),
            ..row(CACHED_READ.0, Estimate::of(&[0.0]))
        });
    }
    rows
}

fn collect(dir: &Path, rows: &mut Vec<Row>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name() == "new" {
            rows.extend(read(&path));
        } else if path.is_dir() {
            collect(&path, rows);
        }
    }
}

/// Criterion keeps the name of a benchmark beside its numbers, which are nanoseconds.
fn read(dir: &Path) -> Option<Row> {
    let json = |file: &str| serde_json::from_slice::<Value>(&fs::read(dir.join(file)).ok()?).ok();
    let (benchmark, estimates) = (json("benchmark.json")?, json("estimates.json")?);
    let median = &estimates["median"];
    let interval = &median["confidence_interval"];
    let estimate = Estimate {
        median: median["point_estimate"].as_f64()?,
        low: interval["lower_bound"].as_f64()?,
        high: interval["upper_bound"].as_f64()?,
    };
    Some(row(benchmark["full_id"].as_str()?, estimate))
}

fn row(name: &str, estimate: Estimate) -> Row {
    let target = (name == CACHED_READ.0).then_some(Target::AtMost(CACHED_READ.1));
    let figure = Figure::Nanoseconds;
    let outcome = judge(estimate, figure, MARGIN);
    Row { measure: name.into(), baseline: "-".into(), figure, target, outcome, sides: None }
}
