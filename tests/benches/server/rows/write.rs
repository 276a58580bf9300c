//! Setting credentials.

use super::{PGCRYPTO, PGCRYPTO_TUNED, PLPGSQL, STATEMENTS, UPDATE};
use crate::{
    comparison::{Comparison, compare},
    effort::Effort,
    pgbench::Pgbench,
    side::{Delivery, Side, To},
    stage,
    table::Row,
};
use tests::{ADMIN, Cluster, Database};

// Each value is another: a set of the same value again is told apart from a rotation, and costs less.
pub const SET: &str = r"\set key random(1, :keys)
    \set turn random(1, 1000000)
    SELECT integration_credentials.admin_set_integration_credentials(:key, (:value::text || :turn::text), 'bench');";
const SET_PLAIN: &str = r"\set key random(1, :keys)
    \set turn random(1, 1000000)
    SELECT plain.set_credential(:key, (:value::text || :turn::text), 'bench');";
const SET_PGCRYPTO: &str = r"\set key random(1, :keys)
    \set turn random(1, 1000000)
    SELECT plain.set_encrypted(:key, (:value::text || :turn::text), 'bench', '');";
const SET_PGCRYPTO_TUNED: &str = r"\set key random(1, :keys)
    \set turn random(1, 1000000)
    SELECT plain.set_encrypted(:key, (:value::text || :turn::text), 'bench', 's2k-mode=1, compress-algo=0');";
const UPDATE_ROW: &str = r"\set key random(1, :keys)
    \set turn random(1, 1000000)
    UPDATE plain.simple SET value = (:value::text || :turn::text) WHERE key = :key;";
/// In a transaction, with as few round trips as the answers allow that a client needs before it goes on.
const SET_BY_STATEMENTS: &str = r"\set key random(1, :keys)
    \set turn random(1, 1000000)
    \startpipeline
    BEGIN;
    SELECT is_enabled, (:value::text || :turn::text) ~ pattern FROM plain.catalog WHERE key = :key;
    \endpipeline
    INSERT INTO plain.credentials AS c (org, key, value) VALUES ('acme', :key, (:value::text || :turn::text))
        ON CONFLICT (org, key) DO UPDATE
            SET value = excluded.value, revision = c.revision + 1, updated_at = clock_timestamp()
        RETURNING revision, xmax <> '0' AS was_update, updated_at \gset
    \startpipeline
    SELECT pg_notify('plain', json_build_object(
        'v', 1, 'org', 'acme', 'key', :key::text, 'revision', :revision::bigint, 'op', 'set')::text);
    INSERT INTO plain.audit (org, actor, session_role, action, target_type, target_id, metadata)
        VALUES ('acme', 'bench', session_user, 'set_credential', 'integration', :key,
                jsonb_build_object('wasUpdate', :was_update::boolean));
    INSERT INTO plain.metering (org, tool, actor, outcome, duration_ms, metadata)
        VALUES ('acme', 'set_credential', 'bench', 'ok', 0.1,
                jsonb_build_object('parameters',
                    jsonb_build_object('key', :key::text, 'value', '<redacted>', 'actor', 'bench')));
    COMMIT;
    \endpipeline
    ";

/// An admin's calls of `script`, from one client.
pub fn calls<'a>(cluster: &'a Cluster, database: &'a Database, script: &'static str) -> Pgbench<'a> {
    Pgbench {
        cluster,
        database: database.name(),
        role: ADMIN,
        script,
        clients: 1,
        keys: stage::KEYS,
        value_bytes: 64,
        options: "",
    }
}

/// Ours and (c), each as `change` makes it.
fn both<'a>(
    cluster: &'a Cluster,
    database: &'a Database,
    change: impl Fn(Pgbench<'a>) -> Pgbench<'a>,
) -> [Side<'a>; 2] {
    [SET, SET_PLAIN].map(|script| Side::Pgbench(change(calls(cluster, database, script))))
}

/// One client that waits for the disk at each commit.
pub async fn single(effort: &Effort, cluster: &Cluster, database: &Database) -> Vec<Row> {
    let measure = "set, 1 client, fsync on";
    let scripts = [SET, SET_PLAIN, SET_PGCRYPTO, SET_PGCRYPTO_TUNED, SET_BY_STATEMENTS, UPDATE_ROW];
    let sides = scripts.map(|script| Side::Pgbench(calls(cluster, database, script)));
    let comparisons = vec![
        Comparison::of(measure, PLPGSQL, [0, 1]).at_least(1.15),
        Comparison::of(measure, PGCRYPTO, [0, 2]).at_least(2.0),
        Comparison::of(measure, PGCRYPTO_TUNED, [0, 3]),
        Comparison::of(measure, STATEMENTS, [0, 4]),
        Comparison::of(measure, UPDATE, [0, 5]),
    ];
    compare(effort, &sides, comparisons).await
}

/// The work alone, without the wait for the disk.
pub async fn write_cpu(effort: &Effort, cluster: &Cluster, database: &Database) -> Vec<Row> {
    let sides = both(cluster, database, |calls| Pgbench { options: "-c synchronous_commit=off", ..calls });
    let comparisons = vec![
        Comparison::of("set, server CPU, synchronous_commit = off", PLPGSQL, [0, 1]).cpu().at_most(0.75),
        Comparison::of("set, 1 client, synchronous_commit = off", PLPGSQL, [0, 1]),
    ];
    compare(effort, &sides, comparisons).await
}

/// Many clients at a time.
pub async fn crowd(effort: &Effort, cluster: &Cluster, database: &Database) -> Vec<Row> {
    let mut rows = Vec::new();
    for (measure, clients, keys, target) in [
        ("set, 8 clients", 8, stage::KEYS, 2.0),
        ("set, 32 clients", 32, stage::KEYS, 2.7),
        ("set, 32 clients on one key", 32, 1, 1.3),
    ] {
        let sides = both(cluster, database, |calls| Pgbench { clients, keys, ..calls });
        rows.extend(
            compare(effort, &sides, vec![Comparison::of(measure, PLPGSQL, [0, 1]).at_least(target)]).await,
        );
    }

    // A disk that takes a millisecond longer: commit_delay has whoever is about to flush WAL sleep first. Postgres
    // leaves that out where fewer than commit_siblings other transactions are open: a disk would not.
    let slow = |delay, siblings| {
        let name = database.name();
        format!(
            "ALTER DATABASE {name} SET commit_delay = {delay}; ALTER DATABASE {name} SET commit_siblings = {siblings}"
        )
    };
    let superuser = database.superuser().await;
    superuser.batch_execute(&slow("1000", "0")).await.expect("the disk is slow");
    let sides = both(cluster, database, |calls| Pgbench { clients: 32, ..calls });
    let comparison = Comparison::of("set, 32 clients, commit_delay = 1 ms", PLPGSQL, [0, 1]).at_least(8.0);
    rows.extend(compare(effort, &sides, vec![comparison]).await);
    superuser.batch_execute(&slow("DEFAULT", "DEFAULT")).await.expect("the disk is fast");
    rows
}

/// With the replaced value kept, as it is unless the catalog says otherwise.
pub async fn keeping(effort: &Effort, cluster: &Cluster) -> Vec<Row> {
    let (keeps, drops) =
        (stage::database(cluster, stage::KEYS).await, stage::database(cluster, stage::KEYS).await);
    for database in [&keeps, &drops] {
        stage::fill(database, stage::KEYS).await;
    }
    let drop = "UPDATE integration_credentials.integration_catalog SET keep_previous = '0'";
    drops.superuser().await.batch_execute(drop).await.expect("no previous value is kept");
    let mut rows = Vec::new();
    for (measure, options) in [
        ("set, the previous value kept", ""),
        ("the same, synchronous_commit = off", "-c synchronous_commit=off"),
    ] {
        let sides = [&keeps, &drops]
            .map(|database| Side::Pgbench(Pgbench { options, ..calls(cluster, database, SET) }));
        let comparison = Comparison::of(measure, "ours, none kept", [0, 1]).at_least(0.97).within(0.03);
        rows.extend(compare(effort, &sides, vec![comparison]).await);
    }
    rows
}

/// While others listen.
pub async fn listeners(effort: &Effort, cluster: &Cluster, database: &Database) -> Vec<Row> {
    let mut rows = Vec::new();
    for (measure, count, target) in
        [("set, 8 clients, 100 idle listeners", 100, 4.0), ("set, 8 clients, 500 idle listeners", 500, 10.0)]
    {
        let _listeners = stage::idle_listeners(database, count).await;
        let sides = both(cluster, database, |calls| Pgbench { clients: 8, ..calls });
        rows.extend(
            compare(effort, &sides, vec![Comparison::of(measure, PLPGSQL, [0, 1]).at_least(target)]).await,
        );
    }
    rows
}

/// To whoever listens.
pub async fn delivery(effort: &Effort, cluster: &Cluster, database: &Database) -> Vec<Row> {
    let ours = "SELECT integration_credentials.admin_set_integration_credentials($1, $2, 'bench')";
    let sides = [
        (To::Listener("integration_credentials"), ours),
        (To::Listener("plain"), "SELECT plain.set_credential($1, $2, 'bench')"),
        (
            To::Listener("raw"),
            // A transaction that writes nothing would not wait for the disk.
            "WITH updated AS (UPDATE plain.simple SET value = $2 WHERE key = $1) SELECT pg_notify('raw', $1)",
        ),
        (To::Cache, ours),
    ]
    .map(|(to, sql)| Side::Delivery(Delivery { cluster, database, sql, to }));
    let measure = "commit to listener, 1 listener, p50";
    let comparisons = vec![
        Comparison::of(measure, PLPGSQL, [0, 1]).added_milliseconds().at_most(0.1),
        Comparison::of(measure, "(g) UPDATE and NOTIFY", [0, 2]).added_milliseconds(),
        Comparison::of("commit to the new value in a cache, p50", "(g) UPDATE and NOTIFY", [3, 2])
            .added_milliseconds()
            .at_most(1.0)
            .within(0.2),
    ];
    compare(effort, &sides, comparisons).await
}

/// In a database that has been used for long; also without the wait for the disk, which hides most of the difference.
pub async fn grown(effort: &Effort, cluster: &Cluster) -> Vec<Row> {
    const GROWN: u32 = 100_000;
    let (grown, empty) = (stage::database(cluster, GROWN).await, stage::database(cluster, stage::KEYS).await);
    stage::fill(&empty, stage::KEYS).await;
    stage::pad(&grown, 1, GROWN).await;
    stage::age(&grown, 1_000_000).await;
    let side = |database, keys, options| {
        let calls = calls(cluster, database, SET);
        Side::Pgbench(Pgbench { keys, options, ..calls })
    };
    let sides = |options| [side(&grown, GROWN, options), side(&empty, stage::KEYS, options)];
    let (measure, baseline) = ("set, 1,000,000 audit rows and 100,000 keys", "ours, nothing but 10,000 keys");
    let mut rows = compare(
        effort,
        &sides(""),
        vec![Comparison::of(measure, baseline, [0, 1]).at_least(0.95).within(0.05)],
    )
    .await;
    let working = Comparison::of("the same, synchronous_commit = off", baseline, [0, 1]);
    rows.extend(compare(effort, &sides("-c synchronous_commit=off"), vec![working]).await);
    rows
}
