//! The leak matrix: every way to call, with every outcome, on a server with everything turned on that shows statements
//! or parameters. Each cell has a secret of its own, and each secret is sought in everything that anybody can see.
//!
//! | module | concept |
//! | --- | --- |
//! | [`ways`] | the rows: how a value gets to the server |
//! | [`outcomes`] | the columns: how a call ends |
//! | [`call`] | how a call is written in SQL |
//! | [`cell`], [`caller`] | a cell, and the session that makes its call |
//! | [`batch`] | calls that end alike, made at the same time, held up in the middle and looked at |
//! | [`server`] | the server, at its loudest |
//! | [`views`] | what an operator sees |
//! | [`evidence`] | the channels, and the search |
//! | [`control`] | the same calls of a function that nobody hides |
//! | [`languages`] | errors that quote a value, in each language that Postgres speaks |
//! | [`misplaced`] | a value in a wrong place of the calls of a rotation |
//! | [`exceptions`] | what still shows a value, and why |
//! | [`random`] | statements at random, whatever they may be written like |
//! | [`report`] | the matrix, to be read |

mod batch;
mod call;
mod caller;
mod cell;
mod control;
mod evidence;
mod exceptions;
mod languages;
mod misplaced;
mod outcomes;
mod random;
mod report;
mod server;
mod views;
mod ways;

use crate::client_log;
use cell::Cell;
use evidence::{Channel, Evidence, Leak};
use outcomes::{End, OUTCOMES};
use server::Order;
use std::path::Path;
use tests::{Shutdown, document::assert_generated, installation::Installation};
use ways::{CLIENTS, Way};

#[tokio::test]
async fn a_secret_is_nowhere_however_it_is_passed_and_however_the_call_ends() {
    let cells = matrix(Order::OursLast, &ways::all()).await;
    // The newest major has every row.
    if Installation::find().major() == ways::NEWEST {
        assert_generated("docs/leak-matrix.md", "leaks", &report::table(&cells));
    }
}

#[tokio::test]
async fn nor_when_other_libraries_are_loaded_after_ours() {
    matrix(Order::OursFirst, CLIENTS).await;
}

/// Makes every call, searches everything, and panics where a value shows and should not. Returns the cells.
async fn matrix(order: Order, ways: &[Way]) -> Vec<Cell> {
    client_log::capture();
    let (mut cluster, database) = server::start(order).await;
    let to = server::sealing_key(&database).await;
    let (cells, controls) = (cells(ways), control::cells());
    let evidence = Evidence::default();
    let mut problems = Vec::new();
    // A crash takes away what the server has collected: first all that it survives.
    for phase in [|end| end != End::Killed, |end| end == End::Killed] {
        for outcome in OUTCOMES.iter().filter(|outcome| phase(outcome.end)) {
            // Apart: of all backends that are killed at once, the server reports one, whichever it notices first.
            for cells in [&controls, &cells] {
                let batch: Vec<_> = cells.iter().filter(|cell| cell.outcome.name == outcome.name).collect();
                if !batch.is_empty() {
                    problems.extend(batch::run(&database, &to, &batch, &evidence).await);
                }
            }
        }
        cluster.stop(Shutdown::Fast);
        evidence.add_files(&cluster);
        cluster.start();
    }
    evidence.add(Channel::ClientLog, client_log::captured().join("\n"));

    let leaks = evidence.search(&cells.iter().chain(&controls).map(|cell| &cell.canary).collect::<Vec<_>>());
    let (leaks, controlled): (Vec<_>, Vec<_>) = leaks.iter().partition(|leak| leak.cell < cells.len());
    // What a driver logs is not ours.
    let ours = |leak: &&Leak| leak.channel != Channel::ClientLog || cells[leak.cell].way.is_by_library();
    let leaks: Vec<_> = leaks.into_iter().filter(ours).collect();
    problems.extend(control::problems(&controlled));
    problems.extend(report::problems(&cells, &leaks));
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("leaks-{order:?}.txt"));
    report::assert_none(&problems, &file);
    cells
}

fn cells(ways: &[Way]) -> Vec<Cell> {
    let all = OUTCOMES.iter().flat_map(|outcome| ways.iter().map(move |way| (*way, *outcome)));
    all.enumerate().filter_map(|(number, (way, outcome))| Cell::new(way, outcome, number)).collect()
}
