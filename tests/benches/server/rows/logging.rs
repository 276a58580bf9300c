//! What the redaction of the log costs those who have nothing to redact.

use crate::{
    comparison::{Comparison, compare},
    effort::Effort,
    pgbench::Pgbench,
    side::{Side, Statement},
    stage,
    table::Row,
};
use tests::{Cluster, SUPERUSER};

/// The loudest of what concerns each statement, seven messages of it: each goes through the hook. Left out is what
/// prints a page of plan or statistics for a statement of one line, for that would hide the cost, not show it.
const LOUD: &str = "-c log_statement=all -c log_min_duration_statement=0 -c log_min_messages=debug5 -c log_error_verbosity=verbose";

const MEGABYTE: usize = 1 << 20;

/// Somebody's JSON of so many bytes, with all that looks like SQL and is not.
fn document(bytes: usize) -> String {
    let row =
        r#"{"id": 4711, "name": "O'Hara", "note": "$1 (see \"set\"); -- 'later'", "tags": ["a", "b"]}, "#;
    row.repeat(bytes / row.len())
}

/// An unrelated statement, on a cluster that preloads the library and on one that does not.
pub async fn logging(effort: &Effort, preloaded: &Cluster) -> Vec<Row> {
    let bare = stage::cluster(Cluster::builder().without_preload());
    let side = |cluster, options| {
        Side::Pgbench(Pgbench {
            cluster,
            database: "postgres",
            role: SUPERUSER,
            script: "SELECT 1;",
            clients: 1,
            keys: 1,
            value_bytes: 64,
            options,
        })
    };
    let mut sides = vec![side(preloaded, LOUD), side(&bare, LOUD), side(preloaded, ""), side(&bare, "")];
    for cluster in [preloaded, &bare] {
        let session = cluster.named_database("postgres").superuser().await;
        session.batch_execute("SET log_min_duration_statement = 0").await.expect("a superuser may");
        let (sql, parameter) = ("SELECT length($1)".into(), Some(document(MEGABYTE)));
        sides.push(Side::Statement(Statement { cluster, session, sql, parameter, calls: 1 }));
    }
    let baseline = "the same without the library";
    let comparisons = vec![
        Comparison::of("SELECT 1, logging at its loudest", baseline, [0, 1]).at_least(0.97).within(0.03),
        Comparison::of("SELECT 1, logging as Postgres has it", baseline, [2, 3]).within(0.03),
        Comparison::of("a parameter of 1 MB, logged", baseline, [4, 5]).at_least(0.9).within(0.05),
    ];
    compare(effort, &sides, comparisons).await
}
