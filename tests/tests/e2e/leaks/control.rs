//! The same calls of a function that nobody hides: if its values are not found, finding nothing means nothing.

use super::{
    cell::Cell,
    evidence::{Channel, Leak},
    outcomes::{End, OUTCOMES},
    server::is_audited,
    ways::{CLIENTS, Carries, Way},
};
use std::collections::BTreeSet;
use tests::canary::Form;

/// What must be found in each of the three logs, by what stands before the value.
const LOGGED: &[&str] = &[
    "statement: ",
    "parameters: $1 = '",
    "portal with parameters: $1 = '",
    "Query Text",
    "Failed process was running: ",
    "CachedPlanSource",
];

/// Calls of `app.keep`, which takes what ours take: those that succeed, and those whose backend is killed. Of a
/// killed backend the server logs the statement, without parameters.
pub fn cells() -> Vec<Cell> {
    let ends = OUTCOMES.iter().filter(|outcome| matches!(outcome.end, End::Released | End::Killed));
    let ends = ends.filter(|outcome| outcome.sqlstates.is_empty() && outcome.settings.is_empty());
    let cells =
        ends.flat_map(|outcome| CLIENTS[..5].iter().map(move |way| (way.to("app.", "keep"), *outcome)));
    let cells =
        cells.filter(|(way, outcome)| outcome.end != End::Killed || way.carries != Carries::Parameter);
    cells
        .enumerate()
        .filter_map(|(number, (way, outcome))| Cell::new(way, outcome, 100_000 + number))
        .collect()
}

/// Whether the way is to call what nobody hides.
pub fn is_one(way: &Way) -> bool {
    way.spelling.function == "keep"
}

/// What should have been found, and was not.
pub fn problems(leaks: &[&Leak]) -> Vec<String> {
    let channels = leaks.iter().map(|leak| leak.channel).collect::<BTreeSet<_>>();
    let blind = Channel::ALL.iter().filter(|channel| !channels.contains(channel));
    let mut problems: Vec<_> =
        blind.map(|channel| format!("control: nothing is found in {}", channel.name())).collect();
    for log in [Channel::Stderr, Channel::Csv, Channel::Json] {
        let hits: Vec<_> = leaks.iter().filter(|leak| leak.channel == log).collect();
        let audited = is_audited().then_some(&"AUDIT: SESSION,");
        let missing = LOGGED
            .iter()
            .chain(audited)
            .filter(|marker| !hits.iter().any(|leak| leak.excerpt.contains(**marker)));
        problems.extend(missing.map(|marker| format!("control: no {marker:?} is found in {}", log.name())));
        if !hits.iter().any(|leak| leak.form == Form::Decimal) {
            problems.push(format!("control: no node tree is found in {}", log.name()));
        }
    }
    problems
}
