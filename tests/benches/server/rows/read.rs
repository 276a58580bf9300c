//! Reading credentials, and the list of them.

use super::{PLPGSQL, SELECT, SELECT_1, write::calls};
use crate::{
    comparison::{Comparison, compare},
    effort::Effort,
    pgbench::Pgbench,
    side::{Side, Statement},
    stage,
    table::Row,
};
use tests::{Cluster, Database, READER, SUPERUSER};

pub const GET: &str = r"\set key random(1, :keys)
    SELECT integration_credentials.get_integration_credentials(:key);";
const GET_ONE: &str = "SELECT integration_credentials.get_integration_credentials('1');";
const SELECT_ROW: &str = r"\set key random(1, :keys)
    SELECT value FROM plain.simple WHERE key = :key;";
const LIST: &str = "SELECT * FROM integration_credentials.list_integrations();";
const LIST_PLAIN: &str = r"
    SELECT k.key, k.display_name, k.is_enabled, c.org IS NOT NULL, c.value IS NOT NULL,
           coalesce(c.revision, 0), c.updated_at, NULL::timestamptz, false, false
    FROM plain.catalog k
    LEFT JOIN plain.credentials c ON c.key = k.key AND c.org = 'acme'
    ORDER BY k.key;";

/// A reader's calls of `script`, from one client.
pub fn reads<'a>(cluster: &'a Cluster, database: &'a Database, script: &'static str) -> Pgbench<'a> {
    Pgbench { role: READER, ..calls(cluster, database, script) }
}

/// Of so many keys a session reads each for the first time at the beginning of its turn. Of 10,000 keys, two thirds of the
/// gets of 8 clients would be first ones, which have a row of their own.
const KEYS: u32 = 1000;

/// One credential at a time.
pub async fn read(effort: &Effort, cluster: &Cluster, database: &Database) -> Vec<Row> {
    let side =
        |script, clients| Side::Pgbench(Pgbench { keys: KEYS, clients, ..reads(cluster, database, script) });
    let sides = [GET, SELECT_ROW, "SELECT 1;"].map(|script| side(script, 1));
    let measure = "get with decryption, 1,000 keys, 1 client";
    let comparisons = vec![
        Comparison::of(measure, SELECT, [0, 1]).at_least(1.0),
        Comparison::of(measure, SELECT_1, [0, 2]),
    ];
    let mut rows = compare(effort, &sides, comparisons).await;
    let sides = [GET, SELECT_ROW].map(|script| side(script, 8));
    let comparison = Comparison::of("get with decryption, 1,000 keys, 8 clients", SELECT, [0, 1]);
    rows.extend(compare(effort, &sides, vec![comparison.at_least(1.0)]).await);

    let mut sides = Vec::new();
    for function in ["integration_credentials.get_integration_credentials", "plain.get_credential"] {
        let (session, calls) = (database.connect(READER).await, stage::KEYS);
        let sql = format!("SELECT count({function}(n::text)) FROM generate_series(1, {calls}) n");
        sides.push(Side::Statement(Statement { cluster, session, sql, parameter: None, calls }));
    }
    let comparison = Comparison::of("get, inside the server (a loop in one statement)", PLPGSQL, [0, 1]);
    rows.extend(compare(effort, &sides, vec![comparison.at_least(2.3)]).await);
    rows
}

/// What it costs to record who reads. The same role on both sides, one that may turn it off for its session.
pub async fn ledger(effort: &Effort, cluster: &Cluster, database: &Database) -> Vec<Row> {
    const OFF: &str = "-c integration_credentials.track_reads=off";
    let mut rows = Vec::new();
    for (measure, script, clients) in [
        ("get with the read ledger, 1 client", GET, 1),
        ("get with the read ledger, 8 clients", GET, 8),
        ("get of one key with the read ledger, 8 clients", GET_ONE, 8),
    ] {
        let side = |options| {
            Side::Pgbench(Pgbench { role: SUPERUSER, clients, options, ..reads(cluster, database, script) })
        };
        let comparison = Comparison::of(measure, "the same with track_reads off", [0, 1]);
        let sides = [side(""), side(OFF)];
        rows.extend(compare(effort, &sides, vec![comparison.at_least(0.97).within(0.03)]).await);
    }
    rows
}

/// All at a time, without their values.
pub async fn list(effort: &Effort, cluster: &Cluster, database: &Database) -> Vec<Row> {
    let sides = [LIST, LIST_PLAIN].map(|script| Side::Pgbench(reads(cluster, database, script)));
    let comparison = Comparison::of("list_integrations, 10,000 keys", "SELECT of the same columns", [0, 1]);
    compare(effort, &sides, vec![comparison.at_least(0.8)]).await
}
