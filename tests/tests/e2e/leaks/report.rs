//! The matrix, to be read.

use super::{
    cell::Cell,
    evidence::{Channel, Leak},
    exceptions::{EXCEPTIONS, Exception},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::Path,
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
    let names = channels.into_iter().map(Channel::name).collect::<Vec<_>>().join(", ");
    names.replace("log, csvlog, jsonlog", "logs")
}

/// The leaks that no exception explains, and the exceptions that nothing leaks through any more.
pub fn problems(cells: &[Cell], leaks: &[&Leak]) -> Vec<String> {
    let explains = |exception: &Exception, leak: &Leak| {
        exception.concerns(&cells[leak.cell]) && exception.channels.contains(&leak.channel)
    };
    let unexplained =
        leaks.iter().filter(|leak| !EXCEPTIONS.iter().any(|exception| explains(exception, leak)));
    let unexplained = unexplained.map(|leak| {
        format!("{}: {}, {:?}: {}", cells[leak.cell].name(), leak.channel.name(), leak.form, leak.excerpt)
    });
    let concerned = EXCEPTIONS.iter().filter(|exception| cells.iter().any(|cell| exception.concerns(cell)));
    let needless = concerned.flat_map(|exception| {
        let shows = |channel| leaks.iter().any(|leak| leak.channel == channel && explains(exception, leak));
        let silent = exception.channels.iter().filter(move |channel| !shows(**channel));
        silent.map(|channel| format!("exception without a leak: {}: {}", channel.name(), exception.reason))
    });
    unexplained.chain(needless).collect()
}

/// Panics, with as many of the problems as one can read, if there are any. `file` has the others.
pub fn assert_none(problems: &[String], file: &Path) {
    fs::write(file, problems.join("\n")).expect("the list of problems is written");
    let shown = problems.iter().take(40).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(problems.is_empty(), "{} problems, all of them in {}:\n{shown}", problems.len(), file.display());
}
