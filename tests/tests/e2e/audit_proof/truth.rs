//! A log that nobody tampered with is never said to be wrong, whatever the server goes through, and its chain
//! never forks.

use super::{Kept, assert_clean, audit, problems, sealed};
use crate::helpers::calls::{ANY, enable, register, remove, set};
use crate::helpers::fixture::until;
use integration_credentials_core::keyring::Keyring;
use serde_json::json;
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tests::{ADMIN, Cluster, Database, Shutdown};
use tokio::time::sleep;
use tokio_postgres::NoTls;

/// All rows are in a block once, and the blocks are numbered without a gap.
async fn assert_each_once(database: &Database) {
    let superuser = database.superuser().await;
    sealed(&superuser).await;
    let once = "
        SELECT (SELECT count(*) FROM integration_credentials.webapp_org_admin_audit_log),
            count(*), count(DISTINCT id),
            (SELECT max(number) + 1 - count(*) FROM integration_credentials.audit_blocks)
        FROM integration_credentials.audit_blocks, unnest(ids) AS id";
    let row = superuser.query_one(once, &[]).await.unwrap();
    let counts: Vec<i64> = (0..4).map(|column| row.get(column)).collect();
    assert!(
        counts[0] > 0 && counts[1] == counts[0] && counts[2] == counts[0] && counts[3] == 0,
        "{counts:?}"
    );
}

/// A writer that sets, rolls back, prepares and leaves it to chance, through every loss of its connection.
async fn write(dsn: String, number: usize, is_over: Arc<AtomicBool>) {
    let mut turn = 0;
    while !is_over.load(Ordering::Relaxed) {
        let Ok((session, connection)) = tokio_postgres::connect(&dsn, NoTls).await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        tokio::spawn(connection);
        while !is_over.load(Ordering::Relaxed) {
            turn += 1;
            // A prepared transaction, perhaps from before a crash, holds the lock on the writer's key.
            if number < 4 {
                finish_prepared(&session, number).await;
            }
            let call = format!(
                "SELECT integration_credentials.admin_set_integration_credentials('key{number}', 'value{turn}', 'a')"
            );
            let script = match (number + turn) % 8 {
                0 => format!("BEGIN; {call}; ROLLBACK"),
                1 => format!("BEGIN; {call}; SAVEPOINT s; {call}; ROLLBACK TO s; {call}; COMMIT"),
                2 if number < 4 => {
                    format!("BEGIN; {call}; PREPARE TRANSACTION 'p{number}_{turn}'; SELECT pg_sleep(0.3)")
                }
                4 => format!("BEGIN; {call}; SELECT pg_sleep(0.1); COMMIT"),
                _ => call,
            };
            let done = session.batch_execute(&script).await;
            sleep(Duration::from_millis(20)).await;
            if done.is_err() && session.is_closed() {
                break;
            }
        }
    }
}

async fn finish_prepared(session: &tokio_postgres::Client, number: usize) {
    let prepared = format!("SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'p{number}\\_%'");
    for row in session.query(&prepared, &[]).await.unwrap_or_default() {
        let _ = session.batch_execute(&format!("COMMIT PREPARED '{}'", row.get::<_, &str>(0))).await;
    }
}

/// Retries until the server is there again.
async fn head_kept(database: &Database) -> Option<Kept> {
    let output = audit(database, &["head"]).await;
    (output.code == 0).then(|| Kept::new(&output.stdout))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_and_thirty_two_writers_cause_no_alarm_and_no_fork() {
    const WRITERS: usize = 32;
    let mut cluster = Cluster::builder()
        .setting("max_prepared_transactions", "32")
        .setting("max_connections", "200")
        .start();
    let database = cluster.database().await;
    let admin = database.superuser().await;
    for number in 0..WRITERS {
        register(&admin, &format!("key{number}"), json!({})).await.unwrap();
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let dsn = database.dsn("postgres");
    let writers: Vec<_> =
        (0..WRITERS).map(|number| tokio::spawn(write(dsn.clone(), number, is_over.clone()))).collect();
    let mut heads = Vec::new();
    let terminate =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE '%maintenance'";
    for round in 0..4 {
        let began = Instant::now();
        // A busy machine may have no head to give for a while.
        let limit = |heads: &[Kept]| Duration::from_secs(if heads.len() > round { 2 } else { 20 });
        while began.elapsed() < limit(&heads) {
            heads.extend(head_kept(&database).await);
            let _ = database.superuser().await.query(terminate, &[]).await;
            sleep(Duration::from_millis(400)).await;
        }
        match round {
            0 => cluster.stop(Shutdown::Immediate),
            1 => cluster.kill_postmaster(),
            2 => cluster.stop(Shutdown::Fast),
            _ => break,
        }
        cluster.start();
    }
    is_over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let session = database.superuser().await;
    for row in session.query("SELECT gid FROM pg_prepared_xacts", &[]).await.unwrap() {
        session.batch_execute(&format!("COMMIT PREPARED '{}'", row.get::<_, &str>(0))).await.unwrap();
    }
    assert_each_once(&database).await;
    assert!(heads.len() >= 4, "{} heads", heads.len());
    // Each takes a while; those between are of the same chain.
    for head in [heads.first(), heads.get(heads.len() / 2), heads.last()].into_iter().flatten() {
        assert_eq!(problems(&database, head).await, [""; 0]);
    }
}

/// A transaction that stays open holds up no other row, and of the ids only those of its own rows stay unsettled.
#[tokio::test]
async fn long_transactions_leave_their_own_rows_unsettled_and_no_others() {
    let mut cluster = Cluster::builder().setting("max_prepared_transactions", "8").start();
    let database = cluster.database().await;
    let admin = database.connect(ADMIN).await;
    for key in ["prepared", "running", ANY] {
        register(&admin, key, json!({})).await.unwrap();
    }
    let open = async |key: &str, end: &str| {
        let session = database.connect(ADMIN).await;
        session.batch_execute("BEGIN").await.unwrap();
        set(&session, key, "open").await.unwrap();
        session.batch_execute(end).await.unwrap();
        session
    };
    open("prepared", "PREPARE TRANSACTION 'long'").await;
    let running = open("running", "").await;
    for number in 0..100 {
        admin.batch_execute("BEGIN").await.unwrap();
        set(&admin, ANY, &format!("value-{number}")).await.unwrap();
        admin.batch_execute(if number % 2 == 0 { "COMMIT" } else { "ROLLBACK" }).await.unwrap();
    }
    let superuser = database.superuser().await;
    sealed(&superuser).await;
    let unsettled = "WITH asked AS (SELECT integration_credentials.audit_seal())
                     SELECT FROM integration_credentials.audit_blocks, asked WHERE unsettled = ";
    until(&superuser, &format!("{unsettled} '{{4, 5, 106, 9223372036854775807}}'")).await;

    drop(running);
    drop(admin);
    cluster.stop(Shutdown::Immediate);
    cluster.start();
    let superuser = database.superuser().await;
    // The row of the prepared transaction, and ids to come: a crash skips some.
    until(
        &superuser,
        &format!("{unsettled} unsettled AND unsettled[1:2] = '{{4, 4}}' AND cardinality(unsettled) = 4"),
    )
    .await;
    superuser.batch_execute("COMMIT PREPARED 'long'").await.unwrap();
    assert_each_once(&database).await;
    let head = Kept::head(&database).await;
    assert_eq!(problems(&database, &head).await, [""; 0]);
}

/// Each change asks for a worker, whatever its session has asked for a moment before: the worker may have looked since, and
/// found nothing.
#[tokio::test]
async fn row_is_sealed_whose_session_has_just_asked_for_nothing() {
    const UNTIL_THE_NEXT_ROUND: &str = "
        SELECT pg_sleep(extract(epoch FROM state_change + interval '960 ms' - clock_timestamp()))
        FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'integration_credentials maintenance'";
    let cluster =
        Cluster::builder().setting("fsync", "off").setting("max_prepared_transactions", "1").start();
    let database = cluster.database().await;
    let superuser = database.superuser().await;
    register(&superuser, ANY, json!({})).await.unwrap();
    for (number, (before, asks)) in [
        ("SELECT 1", "SELECT integration_credentials.audit_seal()"),
        (
            "SELECT 1",
            "BEGIN; SAVEPOINT s;
             SELECT integration_credentials.admin_set_integration_credentials('any', 'value', 'x');
             ROLLBACK TO s; COMMIT",
        ),
        ("BEGIN; PREPARE TRANSACTION 'empty'", "COMMIT PREPARED 'empty'"),
    ]
    .into_iter()
    .enumerate()
    {
        set(&superuser, ANY, &format!("before-{number}")).await.unwrap();
        sealed(&superuser).await;
        superuser.batch_execute(before).await.unwrap();
        superuser.batch_execute(UNTIL_THE_NEXT_ROUND).await.unwrap();
        superuser.batch_execute(asks).await.unwrap();
        superuser.batch_execute("BEGIN").await.unwrap();
        set(&superuser, ANY, &format!("value-{number}")).await.unwrap();
        superuser.batch_execute("SELECT pg_sleep(0.08); COMMIT").await.unwrap();
        sealed(&superuser).await;
    }
}

/// Calls that need no encryption work without a keyring; their rows are in no block, and it is said why.
#[tokio::test]
async fn rows_from_before_the_keyring_are_from_before() {
    let mut cluster = Cluster::builder().setting("fsync", "off").start();
    let database = cluster.database().await;
    let use_keyring = async |cluster: &mut Cluster, is_used: bool| {
        let file = if is_used { cluster.keyring_file().display().to_string() } else { String::new() };
        let setting = format!("ALTER SYSTEM SET integration_credentials.keyring_file = '{file}'");
        database.superuser().await.batch_execute(&setting).await.unwrap();
        cluster.restart();
    };
    use_keyring(&mut cluster, false).await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    enable(&admin, ANY, false).await.unwrap();
    enable(&admin, ANY, true).await.unwrap();
    let empty = audit(&database, &["head"]).await;
    assert_eq!((empty.code, empty.stdout.as_str()), (1, ""), "{empty:?}");

    use_keyring(&mut cluster, true).await;
    set(&database.connect(ADMIN).await, ANY, "value").await.unwrap();
    let superuser = database.superuser().await;
    sealed(&superuser).await;
    let head = Kept::head(&database).await;
    let output = audit(&database, &["verify", "--head", head.path()]).await;
    assert_clean(&output);
    assert!(output.stdout.contains("4 rows in 2 blocks; 3 of them from before"), "{output:?}");

    use_keyring(&mut cluster, false).await;
    remove(&database.connect(ADMIN).await, ANY).await.unwrap();
    let without =
        "row 5 is in no block and has no MAC: it was invented, or written while the server had no keyring";
    assert_eq!(problems(&database, &head).await, [without]);
}

#[tokio::test]
async fn a_retired_key_still_proves_and_another_keyring_is_named() {
    let mut cluster = Cluster::builder().setting("fsync", "off").start();
    let database = cluster.database().await;
    register(&database.connect(ADMIN).await, ANY, json!({})).await.unwrap();
    let file = cluster.keyring_file();
    let use_keyring = |keyring: &Keyring| {
        fs::write(&file, keyring.to_document().unwrap().as_bytes()).unwrap();
    };
    let mut keyring = Keyring::parse(&cluster.keyring()).unwrap();
    let next = async |value: &str| {
        set(&database.connect(ADMIN).await, ANY, value).await.unwrap();
        sealed(&database.superuser().await).await;
    };
    next("one").await;
    let head = Kept::head(&database).await;
    let new = keyring.add_key().unwrap().to_owned();
    keyring.use_key(&new).unwrap();
    use_keyring(&keyring);
    database.superuser().await.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    sleep(Duration::from_millis(500)).await;
    next("two").await;
    // Retired: the keyring has the newer key alone.
    let mut document: serde_json::Value = serde_json::from_str(&keyring.to_document().unwrap()).unwrap();
    document["keys"].as_array_mut().unwrap().remove(0);
    let retired = Keyring::parse(document.to_string().as_bytes()).unwrap();
    use_keyring(&retired);
    cluster.restart();
    next("three").await;
    assert_eq!(problems(&database, &head).await, [""; 0]);
    assert_each_once(&database).await;

    use_keyring(&Keyring::generate().unwrap());
    cluster.restart();
    next("four").await;
    let superuser = database.superuser().await;
    let newest = "SELECT max(number) FROM integration_credentials.audit_blocks";
    let newest: i64 = superuser.query_one(newest, &[]).await.unwrap().get(0);
    let unendorsed = format!(
        "block {newest} was altered: its key is another than that of the block before it, which has not endorsed it"
    );
    assert_eq!(problems(&database, &head).await, [unendorsed]);
}

#[tokio::test]
async fn an_upgraded_database_has_its_old_rows_marked_once() {
    let cluster = Cluster::shared();
    let database = cluster.database_at(Some("0.1.0")).await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    let fill = "SELECT count(integration_credentials.admin_set_integration_credentials('any', 'v' || n, 'a'))
                FROM generate_series(1, 1500) n";
    admin.query_one(fill, &[]).await.unwrap();
    let superuser = database.superuser().await;
    superuser.batch_execute("ALTER EXTENSION integration_credentials UPDATE").await.unwrap();
    set(&admin, ANY, "after-the-update").await.unwrap();
    sealed(&superuser).await;
    let output = audit(&database, &["verify"]).await;
    assert_clean(&output);
    assert!(output.stdout.contains("1502 rows in 3 blocks; 1501 of them from before"), "{output:?}");
    // From then on a row without a MAC is none of the extension's.
    let head = Kept::head(&database).await;
    let unmark =
        "UPDATE integration_credentials.webapp_org_admin_audit_log SET actor = 'another' WHERE id = 7";
    superuser.batch_execute(unmark).await.unwrap();
    assert_eq!(problems(&database, &head).await, ["row 7 of block 0 was altered"]);
}

#[tokio::test]
async fn a_promoted_standby_goes_on_with_the_chain() {
    let primary = Cluster::builder().setting("fsync", "off").start();
    let original = primary.database().await;
    let admin = original.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    set(&admin, ANY, "value").await.unwrap();
    let standby = primary.standby();
    let copy = standby.named_database(original.name());
    sealed(&original.superuser().await).await;
    let head = Kept::head(&original).await;
    let superuser = copy.superuser().await;
    sealed(&superuser).await;
    assert_eq!(problems(&copy, &head).await, [""; 0], "while it follows");
    superuser.batch_execute("SELECT pg_promote()").await.unwrap();
    set(&copy.connect(ADMIN).await, ANY, "after-the-promotion").await.unwrap();
    assert_each_once(&copy).await;
    assert_eq!(problems(&copy, &head).await, [""; 0], "on its own");
}
