//! `make bench`: how fast the extension is, measured against what people write by hand.
//!
//! | module | concept |
//! | --- | --- |
//! | [`rows`] | the table: what is compared with what, and the target of each |
//! | [`growth`] | set and get against keys, audit rows, clients, listeners, bytes |
//! | [`reencryption`] | reencrypting rows, and what that costs the calls beside it |
//! | [`rotations`] | what rotations leave behind in the table of credentials |
//! | [`comparison`] | sides measured in alternation, compared pair by pair |
//! | [`rounds`] | turns taken in alternation, and what may be concluded from them |
//! | [`side`] | what takes turns: something that is called again and again, and measured |
//! | [`pgbench`] | a run of pgbench |
//! | [`cpu`] | the CPU time of a server, with all of its processes |
//! | [`stage`] | the cluster that everything is measured on, and its databases |
//! | [`machine`] | what was measured on, and keeping it awake |
//! | [`effort`] | how much time may be spent |
//! | [`table`] | a row: what was measured, against what, and what it should be |
//! | [`report`], [`plots`] | Markdown, JSON and pictures |

mod comparison;
mod cpu;
mod effort;
mod growth;
mod machine;
mod pgbench;
mod plots;
mod reencryption;
mod report;
mod rotations;
mod rounds;
mod rows;
mod side;
mod stage;
mod table;

use effort::Effort;
use machine::Awake;
use report::Report;
use std::{env, path::PathBuf, process::ExitCode};
use tests::Cluster;

// One thread, as pgbench has for each client: what is measured is the server.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let effort = Effort::from_environment();
    let awake = Awake::hold();
    let target = target();
    let cluster = stage::cluster(Cluster::builder());
    let machine = machine::facts(&cluster, &awake).await;
    let database = stage::database(&cluster, stage::KEYS).await;
    stage::fill(&database, stage::KEYS).await;
    let mut rows = Vec::new();
    macro_rules! measure {
        ($($name:literal: $rows:expr,)*) => {
            $(if effort.measures($name) { rows.extend($rows.await); })*
        };
    }
    measure! {
        "single": rows::single(&effort, &cluster, &database),
        "cpu": rows::write_cpu(&effort, &cluster, &database),
        "crowd": rows::crowd(&effort, &cluster, &database),
        "keeping": rows::keeping(&effort, &cluster),
        "listeners": rows::listeners(&effort, &cluster, &database),
        "delivery": rows::delivery(&effort, &cluster, &database),
        "first": rows::first(&effort, &cluster, &database),
        "read": rows::read(&effort, &cluster, &database),
        "ledger": rows::ledger(&effort, &cluster, &database),
        "list": rows::list(&effort, &cluster, &database),
        "proof": rows::proof(&effort, &cluster),
        "reencryption": reencryption::measure(&effort, &cluster),
        "renewal": rows::renewal(&effort, &cluster, &database),
        "renewals": rows::renewals(&effort, &cluster, &database),
    }
    let mut tables = Vec::new();
    if effort.measures("crowd") {
        tables.push(rotations::hot_updates(&database).await);
    }
    let mut growth = Vec::new();
    if effort.measures_long("logging") {
        rows.extend(rows::logging(&effort, &cluster).await);
    }
    if effort.measures_long("grown") {
        rows.extend(rows::grown(&effort, &cluster).await);
        tables.extend(rotations::flat(&effort, &cluster).await);
    }
    if effort.measures_growth() {
        growth = growth::growth(&effort, &cluster, &database).await;
    }

    // What a table looks like does not depend on the machine: there it is right or wrong.
    let right = tables.iter().all(|row| row.is_met() == Some(true));
    rows.extend(tables);
    rows.extend(rows::client(&target));
    let dir = target.join("bench");
    let report = Report { machine, rows, growth };
    let markdown = report.write(&effort, &dir).expect("the report is written");
    println!("{markdown}\nThis and more is in {}.", dir.display());
    if effort.documents {
        report.document(&effort).expect("the document is written");
    }
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Cargo's target directory: it runs benchmarks from `release/deps` in there.
fn target() -> PathBuf {
    let own = env::current_exe().expect("an executable has a path");
    own.ancestors().nth(3).expect("cargo runs benchmarks from target/release/deps").into()
}
