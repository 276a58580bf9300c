//! The matrix, to be read.

use super::{
    cell::Cell,
    evidence::Leak,
    exceptions::{EXCEPTIONS, Exception},
};
use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

/// A table in Markdown: ways down, outcomes across. A number is that of the exception that concerns the cell, and the
/// exceptions are listed below. [`problems`] is what makes the table true.
pub fn table(cells: &[Cell]) -> String {
    let mut outcomes: Vec<&str> = Vec::new();
    let mut rows: Vec<(&str, BTreeMap<&str, String>)> = Vec::new();
    for cell in cells {
        if !outcomes.contains(&cell.outcome.name) {
            outcomes.push(cell.outcome.name);
        }
        let row = rows.iter().position(|(way, _)| *way == cell.way.name).unwrap_or_else(|| {
            rows.push((cell.way.name, BTreeMap::new()));
            rows.len() - 1
        });
        rows[row].1.insert(cell.outcome.name, verdict(cell));
    }
    let mut table = format!("| | {} |\n| --- |{}\n", outcomes.join(" | "), " --- |".repeat(outcomes.len()));
    for (way, row) in rows {
        let verdicts: Vec<_> =
            outcomes.iter().map(|outcome| row.get(outcome).map_or("", String::as_str)).collect();
        writeln!(table, "| {} | {} |", way.replace('|', "\\|"), verdicts.join(" | "))
            .expect("a String takes everything");
    }
    for (number, exception) in EXCEPTIONS.iter().enumerate() {
        let channels: Vec<_> = exception.channels.iter().map(|channel| channel.name()).collect();
        write!(table, "\n{}. In {}: {}", number + 1, channels.join(", "), exception.reason)
            .expect("a String takes everything");
    }
    table
}

fn verdict(cell: &Cell) -> String {
    let concerned = EXCEPTIONS.iter().position(|exception| exception.concerns(cell));
    concerned.map_or_else(|| "ok".to_owned(), |number| (number + 1).to_string())
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
