//! The matrix, to be read.

use super::{
    cell::Cell,
    evidence::{Channel, Leak},
    exceptions::EXCEPTIONS,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

/// A table in Markdown: ways down, outcomes across.
pub fn table(cells: &[Cell], leaks: &[&Leak]) -> String {
    let mut outcomes: Vec<&str> = Vec::new();
    let mut rows: Vec<(&str, BTreeMap<&str, String>)> = Vec::new();
    for (index, cell) in cells.iter().enumerate() {
        if !outcomes.contains(&cell.outcome.name) {
            outcomes.push(cell.outcome.name);
        }
        let row = rows.iter().position(|(way, _)| *way == cell.way.name).unwrap_or_else(|| {
            rows.push((cell.way.name, BTreeMap::new()));
            rows.len() - 1
        });
        rows[row].1.insert(cell.outcome.name, verdict(index, leaks));
    }
    let mut table = format!("| | {} |\n| --- |{}\n", outcomes.join(" | "), " --- |".repeat(outcomes.len()));
    for (way, row) in rows {
        let verdicts: Vec<_> =
            outcomes.iter().map(|outcome| row.get(outcome).map_or("", String::as_str)).collect();
        writeln!(table, "| {way} | {} |", verdicts.join(" | ")).expect("a String takes everything");
    }
    table
}

fn verdict(cell: usize, leaks: &[&Leak]) -> String {
    let channels: BTreeSet<_> =
        leaks.iter().filter(|leak| leak.cell == cell).map(|leak| leak.channel).collect();
    if channels.is_empty() {
        return "ok".to_owned();
    }
    channels.into_iter().map(Channel::name).collect::<Vec<_>>().join(", ")
}

/// The leaks that no exception explains, and the exceptions that nothing leaks through any more.
pub fn problems(cells: &[Cell], leaks: &[&Leak]) -> Vec<String> {
    let mut unused: Vec<_> = EXCEPTIONS.iter().collect();
    let mut problems = Vec::new();
    for leak in leaks {
        let cell = &cells[leak.cell];
        let explains = |exception: &&super::exceptions::Exception| {
            exception.way == cell.way.name
                && exception.outcome.is_none_or(|outcome| outcome == cell.outcome.name)
                && exception.channel == leak.channel
        };
        if EXCEPTIONS.iter().any(|exception| explains(&exception)) {
            unused.retain(|exception| !explains(exception));
        } else {
            problems.push(format!("{}: {}: {}", cell.name(), leak.channel.name(), leak.excerpt));
        }
    }
    problems.extend(unused.iter().map(|exception| {
        format!(
            "{}: {}: no longer shows the value: take the exception out",
            exception.way,
            exception.channel.name()
        )
    }));
    problems
}
