//! Changes of credentials, while backends are cancelled and killed, and the server crashes: a row is always in one of its
//! states, and the audit log has each of its revisions.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};
use tests::{ADMIN, Cluster, Database, SUPERUSER, Shutdown};
use tokio::time::{sleep, timeout};
use tokio_postgres::{NoTls, Row};

const KEYS: usize = 4;
const CHANGERS: usize = 6;

/// With a validator that takes a while, so that many a call is interrupted in the middle.
const CHANGES: [&str; 7] = [
    "admin_set_integration_credentials(K, V, 'a')",
    "admin_set_integration_credentials(K, V, 'a', '{\"stage\": true}')",
    "admin_promote_integration_credentials(K, 'a')",
    "admin_discard_integration_credentials(K, 'a')",
    "admin_rollback_integration_credentials(K, 'a')",
    "admin_retire_integration_credentials(K, 'a', true)",
    "admin_remove_integration_credentials(K, 'a')",
];

/// Rows that are in no state, or whose revision is not that of their changes in the audit log.
const WRONG: &str = "
    SELECT to_jsonb(c)::text FROM integration_credentials.configured_integrations c
    WHERE (c.previous_ciphertext IS NULL) <> (c.previous_revision IS NULL)
        OR (c.previous_ciphertext IS NULL) <> (c.previous_until IS NULL)
        OR (c.pending_ciphertext IS NULL) <> (c.pending_at IS NULL)
        OR (c.pending_ciphertext IS NULL) <> (c.pending_actor IS NULL)
        OR c.previous_revision >= c.revision
        OR c.revision = 0 AND c.ciphertext IS NOT NULL
        OR c.revision <> (
            SELECT count(*) FROM integration_credentials.webapp_org_admin_audit_log l
            WHERE l.target_id = c.integration_key AND split_part(l.action, '_', 1) IN ('set', 'promote', 'rollback', 'remove'))";

async fn change(database: &Database, is_over: &AtomicBool, done: &AtomicUsize) {
    let mut random = fastrand::Rng::new();
    while !is_over.load(Ordering::Relaxed) {
        let Ok((client, connection)) = tokio_postgres::connect(&database.dsn(ADMIN), NoTls).await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        let connection = tokio::spawn(connection);
        while !is_over.load(Ordering::Relaxed) && !client.is_closed() {
            let (key, value) = (random.usize(..KEYS), random.u32(..));
            let change = CHANGES[random.usize(..CHANGES.len())].replace('K', "$1").replace('V', "$2");
            let statement = format!("SELECT integration_credentials.{change}, $2::text IS NULL");
            let (key, value) = (format!("key-{key}"), format!("value-{value}"));
            match client.query(&statement, &[&key, &value]).await {
                Ok(_) => drop(done.fetch_add(1, Ordering::Relaxed)),
                Err(error) => {
                    let code = error.code().map(|code| code.code().to_owned());
                    let expected = ["IC005", "57014", "57P01", "57P02", "57P03"];
                    assert!(code.is_none_or(|code| expected.contains(&code.as_str())), "{error:?}");
                }
            }
        }
        connection.abort();
    }
}

/// A backend that has ended meanwhile is no concern.
fn end(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Asks until there is an answer. After a SIGKILL the server answers until it notices, and then recovers by itself.
async fn ask(database: &Database, query: &str) -> Vec<Row> {
    let attempt = async || {
        let (client, connection) = tokio_postgres::connect(&database.dsn(SUPERUSER), NoTls).await?;
        let connection = tokio::spawn(connection);
        let rows = client.query(query, &[]).await;
        connection.abort();
        rows
    };
    let asked = async {
        loop {
            match attempt().await {
                Ok(rows) => break rows,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(Duration::from_mins(1), asked).await.expect("the server comes back")
}

#[tokio::test(flavor = "multi_thread")]
async fn row_is_in_one_of_its_states_however_a_change_ends() {
    let mut cluster = Cluster::builder().setting("fsync", "off").setting("log_min_messages", "panic").start();
    let database = cluster.database().await;
    let superuser = database.superuser().await;
    let prepare = format!(
        "CREATE ROLE checker; CREATE SCHEMA app AUTHORIZATION checker; SET ROLE checker;
         CREATE FUNCTION app.slow(value text) RETURNS text LANGUAGE sql AS 'SELECT NULL::text FROM pg_sleep(0.001)';
         RESET ROLE;
         SELECT integration_credentials.admin_register_integration('key-' || n, 'K', 'a') FROM generate_series(0, {KEYS}) n;
         SELECT integration_credentials.register_validator('key-' || n, 'app.slow(text)') FROM generate_series(0, {KEYS}) n"
    );
    superuser.batch_execute(&prepare).await.unwrap();
    let (is_over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let changers = futures_util::future::join_all((0..CHANGERS).map(|_| change(&database, &is_over, &done)));
    let faults = async {
        for round in 0..12 {
            let before = done.load(Ordering::Relaxed);
            let enough = async {
                while done.load(Ordering::Relaxed) < before + 50 {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(Duration::from_mins(1), enough).await.expect("the changers come back");
            let backends = format!(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = '{ADMIN}'"
            );
            let pids = ask(&database, &backends).await;
            let mut pids = pids.iter().map(|row| row.get::<_, i32>(0));
            match round % 3 {
                0 => pids.for_each(|pid| end(pid, Signal::SIGINT)),
                1 => pids.by_ref().take(1).for_each(|pid| end(pid, Signal::SIGKILL)),
                _ => tokio::task::block_in_place(|| {
                    cluster.stop(Shutdown::Immediate);
                    cluster.start();
                }),
            }
            let wrong = ask(&database, WRONG).await;
            let wrong: Vec<&str> = wrong.iter().map(|row| row.get(0)).collect();
            assert_eq!(wrong, [""; 0], "round {round}");
        }
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(changers, faults);
    let readable = "SELECT FROM integration_credentials.check_credentials()";
    assert!(database.connect(ADMIN).await.query(readable, &[]).await.unwrap().is_empty());
}
