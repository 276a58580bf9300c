//! Errors that quote a value, in each language that Postgres speaks: whoever knows its messages by their English words
//! does not know these.

use super::{
    batch,
    cell::Cell,
    control,
    evidence::{Channel, Evidence},
    outcomes::{ERROR, Outcome},
    report,
    server::{self, Order},
    ways::errors,
};
use std::{collections::BTreeSet, path::Path};
use tests::{Database, Shutdown, installation::Installation};

/// How the server answers in English; no translation is like it.
const ENGLISH: &str = "invalid input syntax for type integer: \"x\"";

#[tokio::test]
async fn nor_in_any_language() {
    let languages = Installation::find().languages();
    let (mut cluster, database) = server::start_in(Order::OursLast, &languages).await;
    let to = server::sealing_key(&database).await;
    for language in &languages {
        speaks(&database, language).await;
    }
    let evidence = Evidence::default();
    let (mut cells, mut problems) = (Vec::new(), Vec::new());
    for language in languages.iter().map(String::as_str).chain(["C"]) {
        let ways = errors::all();
        let controls = ways[..2].iter().map(|way| way.to("app.", "keep"));
        let first = cells.len();
        for way in ways.iter().copied().chain(controls) {
            cells.extend(Cell::new(way, outcome(language), cells.len()));
        }
        let batch: Vec<&Cell> = cells[first..].iter().collect();
        problems.extend(batch::run(&database, &to, &batch, &evidence).await);
    }
    cluster.stop(Shutdown::Fast);
    evidence.add_files(&cluster);

    let leaks = evidence.search(&cells.iter().map(|cell| &cell.canary).collect::<Vec<_>>());
    let (controlled, leaks): (Vec<_>, Vec<_>) =
        leaks.iter().partition(|leak| control::is_one(&cells[leak.cell].way));
    for (number, cell) in cells.iter().enumerate().filter(|(_, cell)| control::is_one(&cell.way)) {
        let found: BTreeSet<_> =
            controlled.iter().filter(|leak| leak.cell == number).map(|leak| leak.channel).collect();
        for channel in [Channel::Stderr, Channel::Csv, Channel::Json, Channel::Messages] {
            if !found.contains(&channel) {
                problems.push(format!("control: {} is not found in {}", cell.name(), channel.name()));
            }
        }
    }
    problems.extend(report::problems(&cells, &leaks));
    report::assert_none(&problems, &Path::new(env!("CARGO_TARGET_TMPDIR")).join("leaks-languages.txt"));
}

/// One column.
fn outcome(language: &str) -> Outcome {
    Outcome {
        name: language.to_owned().leak(),
        settings: vec![&*format!("lc_messages = '{language}'").leak()].leak(),
        sqlstates: errors::SQLSTATES,
        ..ERROR
    }
}

/// Makes sure that the server has the language, and does not fall back to English.
async fn speaks(database: &Database, language: &str) {
    let superuser = database.superuser().await;
    superuser.batch_execute(&format!("SET lc_messages = '{language}'")).await.unwrap();
    let error = superuser.batch_execute("SELECT 'x'::int").await.unwrap_err();
    let message = error.as_db_error().unwrap().message();
    assert!(message != ENGLISH && message.contains('x'), "{language}: {message}");
}
