//! What rotations leave behind in the table of credentials.

use crate::{
    effort::Effort,
    rows, stage,
    table::{Figure, Row, Target},
};
use std::time::{Duration, Instant};
use tests::{Cluster, Database};

/// As many as a database sees in years.
const ROTATIONS: i64 = 1_000_000;
/// After these, the table has found its size.
const FIRST: i64 = 100_000;

/// How many of all updates so far were HOT, that is, needed no new index entry.
pub async fn hot_updates(database: &Database) -> Row {
    let Table { updates, hot, .. } = Table::of(database).await;
    let measure = format!("rotations that are HOT updates, of {updates}");
    #[expect(clippy::cast_precision_loss, reason = "a few million at the most")]
    let share = hot as f64 / updates as f64;
    Row::single(measure, Figure::Ratio, Some(Target::AtLeast(0.95)), share)
}

/// Rotates credentials a million times, or as often as time allows, with autovacuum as it is by default.
pub async fn flat(effort: &Effort, cluster: &Cluster) -> Vec<Row> {
    const LONGEST: Duration = Duration::from_mins(3);
    let database = stage::database(cluster, stage::KEYS).await;
    stage::fill(&database, stage::KEYS).await;
    stage::vacuum_from_now_on(cluster, &database).await;
    let mut calls = rows::calls(cluster, &database, rows::SET);
    calls.clients = 32;
    calls.options = "-c synchronous_commit=off";
    let (began, longest) = (Instant::now(), effort.remaining().min(LONGEST));

    let mut first = None;
    let last = loop {
        calls.run(10).await;
        let table = Table::of(&database).await;
        if table.updates >= FIRST {
            first.get_or_insert(table);
        }
        if table.updates >= ROTATIONS || began.elapsed() > longest {
            break table;
        }
    };
    let first = first.unwrap_or(last);
    let measure =
        format!("size of the table after {} rotations, against that after {}", last.updates, first.updates);
    #[expect(clippy::cast_precision_loss, reason = "a few megabytes")]
    let growth = last.bytes as f64 / first.bytes as f64;
    vec![Row::single(measure, Figure::Ratio, Some(Target::AtMost(1.1)), growth), hot_updates(&database).await]
}

/// The table of credentials, with its index.
#[derive(Clone, Copy)]
struct Table {
    updates: i64,
    hot: i64,
    bytes: i64,
}

impl Table {
    async fn of(database: &Database) -> Self {
        let sql = "SELECT n_tup_upd, n_tup_hot_upd, pg_total_relation_size(relid)
                   FROM pg_stat_user_tables WHERE relname = 'configured_integrations'";
        let row = database.superuser().await.query_one(sql, &[]).await.expect("the statistics");
        Self { updates: row.get(0), hot: row.get(1), bytes: row.get(2) }
    }
}
