//! Calls that end alike, one by each way, made at the same time.

use super::{
    cell::Cell,
    evidence::{Channel, Evidence},
    outcomes::End,
    views::Views,
};
use crate::helpers::fixture::until;
use futures_util::future::join_all;
use integration_credentials_core::seal::SealingKey;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{fmt::Write, time::Duration};
use tests::{Database, Session};
use tokio::time::{sleep, timeout};
use tokio_postgres::NoTls;

/// Longer than it takes all calls to get where they are held up, and a server to recover, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(20);

/// Makes the calls, and collects what is seen meanwhile and afterwards. Returns what did not end as it should.
pub async fn run(database: &Database, to: &SealingKey, cells: &[&Cell], evidence: &Evidence) -> Vec<String> {
    let operator = database.superuser().await;
    let views = Views::new(&operator, evidence).await;
    operator.batch_execute(&roles(cells)).await.unwrap();
    let holder = database.superuser().await;
    holder.batch_execute("BEGIN").await.unwrap();
    if cells[0].outcome.end != End::AtOnce {
        holder.batch_execute(&hold_up(cells)).await.unwrap();
    }

    let made = cells.iter().map(|cell| cell.call(database, to, async || views.reset(&cell.role).await));
    let (called, ()) = tokio::join!(join_all(made), intervene(&operator, &holder, &views, cells));

    let mut problems = Vec::new();
    for (cell, (caller, ended)) in cells.iter().zip(&called) {
        evidence.add(Channel::Messages, caller.messages.as_str());
        evidence.add(Channel::Rows, caller.rows.as_str());
        if !cell.expects(ended) {
            problems.push(format!("{} ended with {ended:?}", cell.name()));
        }
    }
    if cells[0].outcome.end == End::Killed {
        recovered(&operator, &database.dsn(tests::SUPERUSER)).await;
        return problems;
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    idle(&operator, cells).await;
    views.look(Channel::After).await;
    log_memory_contexts(&operator, cells).await;
    for (mut caller, _) in called {
        evidence.add(Channel::Own, caller.own_views().await);
    }
    problems
}

/// A role for each cell, with the grants of the outcome, in an org of its own.
fn roles(cells: &[&Cell]) -> String {
    cells.iter().fold(String::new(), |mut script, Cell { role, outcome, .. }| {
        let group = outcome.group.map(|group| format!(", {group}")).unwrap_or_default();
        writeln!(
            script,
            // The views of a session about itself are for those who may read statistics.
            "CREATE ROLE {role} LOGIN REPLICATION IN ROLE pg_read_all_stats{group};
             ALTER ROLE {role} SET integration_credentials.org_slug = '{role}';
             ALTER ROLE {role} SET statement_timeout = '50s';"
        )
        .expect("a String takes everything");
        for setting in outcome.settings {
            writeln!(script, "ALTER ROLE {role} SET {setting};").expect("a String takes everything");
        }
        script
    })
}

/// What others wait for: the row that a call is to write, and the lock that a validator asks for.
fn hold_up(cells: &[&Cell]) -> String {
    let rows: Vec<_> =
        cells.iter().map(|cell| format!("('{}', '{}')", cell.role, cell.outcome.key)).collect();
    format!(
        "SELECT pg_advisory_xact_lock(1);
         INSERT INTO integration_credentials.configured_integrations (org_slug, integration_key) VALUES {}",
        rows.join(", ")
    )
}

/// In the middle of the calls: looks, and does what ends them.
async fn intervene(operator: &Session, holder: &Session, views: &Views<'_>, cells: &[&Cell]) {
    let end = cells[0].outcome.end;
    if matches!(end, End::AtOnce | End::TimedOut) {
        return;
    }
    let pids = held_up(operator, cells).await;
    views.look(Channel::During).await;
    log_memory_contexts(operator, cells).await;
    match end {
        End::Cancelled => {
            operator
                .execute("SELECT pg_cancel_backend(pid) FROM unnest($1::int[]) pid", &[&pids])
                .await
                .unwrap();
        }
        End::Terminated => {
            operator
                .execute("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) pid", &[&pids])
                .await
                .unwrap();
        }
        End::Killed => {
            for pid in pids {
                // The server may have ended it already, because of the one before.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        End::Released | End::AtOnce | End::TimedOut => holder.batch_execute("ROLLBACK").await.unwrap(),
    }
}

/// The backends of the cells, once all of them wait.
async fn held_up(operator: &Session, cells: &[&Cell]) -> Vec<i32> {
    let waiting = "SELECT pid FROM pg_stat_activity WHERE usename = ANY ($1) AND wait_event_type = 'Lock'";
    let roles: Vec<_> = cells.iter().map(|cell| cell.role.as_str()).collect();
    let all = async {
        loop {
            let rows = operator.query(waiting, &[&roles]).await.unwrap();
            if rows.len() == cells.len() {
                return rows.iter().map(|row| row.get(0)).collect();
            }
            sleep(POLL).await;
        }
    };
    let Ok(pids) = timeout(PATIENCE, all).await else {
        let names = "SELECT string_agg(usename || ': ' || state || ' ' || query, E'\n')
                     FROM pg_stat_activity WHERE usename = ANY ($1)
                         AND usename NOT IN (SELECT usename FROM pg_stat_activity WHERE wait_event_type = 'Lock')";
        let states: Option<String> = operator.query_one(names, &[&roles]).await.unwrap().get(0);
        panic!("not all of {} calls are held up: {}", cells.len(), states.unwrap_or_default());
    };
    pids
}

/// Waits until no backend of the cells works any more: a client has an error before the backend is done with it.
async fn idle(operator: &Session, cells: &[&Cell]) {
    let roles: Vec<_> = cells.iter().map(|cell| cell.role.as_str()).collect();
    let idle = format!(
        "SELECT WHERE NOT EXISTS
            (SELECT FROM pg_stat_activity WHERE usename = ANY ('{{{}}}') AND state = 'active')",
        roles.join(",")
    );
    until(operator, &idle).await;
}

/// Has each backend log what it has in memory, which names statements.
async fn log_memory_contexts(operator: &Session, cells: &[&Cell]) {
    let roles: Vec<_> = cells.iter().map(|cell| cell.role.as_str()).collect();
    let log = "SELECT pg_log_backend_memory_contexts(pid) FROM pg_stat_activity WHERE usename = ANY ($1)";
    operator.query(log, &[&roles]).await.unwrap();
}

/// Waits until the server has noticed the crash, and is back.
async fn recovered(operator: &Session, dsn: &str) {
    let back = async {
        while !operator.is_closed() || tokio_postgres::connect(dsn, NoTls).await.is_err() {
            sleep(POLL).await;
        }
    };
    timeout(PATIENCE, back).await.expect("the server does not recover");
}
