//! The proof of the audit log: what it costs a set, how long a row is in no block, and how fast all is verified.

use super::write::{SET, calls};
use crate::{
    comparison::{Comparison, compare},
    effort::Effort,
    pgbench::Pgbench,
    side::Side,
    stage,
    table::{Figure, Row, Target},
};
use intcred::{Client, Settings};
use std::time::{Duration, Instant};
use tests::{Cluster, Database, SUPERUSER};
use tokio::time::sleep;

/// A log without the column, the index and the blocks, as it was before the proof.
const WITHOUT: &str = "
    ALTER SEQUENCE integration_credentials.webapp_org_admin_audit_log_id_seq RENAME TO old_ids;
    ALTER TABLE integration_credentials.webapp_org_admin_audit_log RENAME TO old_log;
    ALTER TABLE integration_credentials.audit_blocks RENAME TO old_blocks;
    ALTER SEQUENCE integration_credentials.audit_sessions RENAME TO old_sessions;
    CREATE TABLE integration_credentials.webapp_org_admin_audit_log (
        id bigint GENERATED ALWAYS AS IDENTITY, org_slug text COLLATE \"C\" NOT NULL, actor text NOT NULL,
        session_role text NOT NULL, acting_role text NOT NULL, action text NOT NULL, target_type text NOT NULL,
        target_id text NOT NULL, metadata jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (org_slug, id))";

/// Sets with the proof, against the same without.
pub async fn proof(effort: &Effort, cluster: &Cluster) -> Vec<Row> {
    let (with, without) =
        (stage::database(cluster, stage::KEYS).await, stage::database(cluster, stage::KEYS).await);
    without.superuser().await.batch_execute(WITHOUT).await.expect("a log without the proof");
    for database in [&with, &without] {
        stage::fill(database, stage::KEYS).await;
    }
    let mut rows = Vec::new();
    for (measure, clients) in [
        ("set with its proof, 1 client", 1),
        ("set with its proof, 8 clients", 8),
        ("set with its proof, 32 clients", 32),
    ] {
        let sides = [&with, &without]
            .map(|database| Side::Pgbench(Pgbench { clients, ..calls(cluster, database, SET) }));
        let comparison =
            Comparison::of(measure, "ours, without MACs and blocks", [0, 1]).at_least(0.97).within(0.05);
        rows.extend(compare(effort, &sides, vec![comparison]).await);
    }
    rows.push(lag(cluster, &with).await);
    rows.push(verify(&with).await);
    rows
}

/// The longest time from the write of a row to the signature of its block, with as many sets as the machine can.
async fn lag(cluster: &Cluster, database: &Database) -> Row {
    sealed(database).await;
    let superuser = database.superuser().await;
    let last = "SELECT max(number) FROM integration_credentials.audit_blocks";
    let last: i64 = superuser.query_one(last, &[]).await.expect("a block").get(0);
    let calls =
        Pgbench { clients: 32, options: "-c synchronous_commit=off", ..calls(cluster, database, SET) };
    let (_, rate) = calls.run(10).await;
    sealed(database).await;
    let lag =
        "SELECT extract(epoch FROM max(split_part(b.header, E'\\n', 5)::timestamptz - l.created_at))::float8
               FROM integration_credentials.audit_blocks b CROSS JOIN unnest(b.ids) AS i
               JOIN integration_credentials.webapp_org_admin_audit_log l ON l.id = i WHERE b.number > $1";
    let lag: f64 = superuser.query_one(lag, &[&last]).await.expect("the lag").get(0);
    Row::single(
        format!("longest wait of an audit row for its block, {rate:.0} sets a second"),
        Figure::Seconds,
        Some(Target::AtMost(2.0)),
        lag,
    )
}

/// Verifying the whole log, on this machine.
async fn verify(database: &Database) -> Row {
    let settings = Settings::resolve(Some(&database.dsn(SUPERUSER))).expect("the DSN is right");
    let client = Client::connect(&settings, |_| ()).await.expect("a connection");
    let began = Instant::now();
    let found = client.verify_audit_log(None).await.expect("the log is read");
    let elapsed = began.elapsed();
    client.close().await;
    assert!(found.problems.is_empty(), "{found:?}");
    #[expect(clippy::cast_precision_loss, reason = "a few million at the most")]
    let rate = found.rows as f64 / elapsed.as_secs_f64();
    Row::single(
        format!("audit rows verified in a second, of {}", found.rows),
        Figure::PerSecond,
        Some(Target::AtLeast(200_000.0)),
        rate,
    )
}

/// Waits until every row is in a block.
async fn sealed(database: &Database) {
    let superuser = database.superuser().await;
    let counts = "SELECT (SELECT count(*) FROM integration_credentials.webapp_org_admin_audit_log),
                         (SELECT sum(cardinality(ids))::int8 FROM integration_credentials.audit_blocks)";
    loop {
        let row = superuser.query_one(counts, &[]).await.expect("the counts");
        if Some(row.get::<_, i64>(0)) == row.get::<_, Option<i64>>(1) {
            return;
        }
        sleep(Duration::from_millis(200)).await;
    }
}
