//! What transaction a call gets, whatever the database or the role have for a default.

use crate::{
    command_line::{PATIENCE, assert_fails},
    doctor::is_well,
    helpers::calls::{ANY, register, set},
    listen::terminate,
};
use deadpool_postgres::{Manager, Pool};
use intcred::{CacheOptions, CredentialCache, Error, Event, EventKind, Settings, WatchOptions, Watcher};
use serde_json::{Value, json};
use std::time::Duration;
use tests::{ADMIN, AUDITOR, Cluster, Database, Output, READER, SUPERUSER, intcred, run};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::NoTls;

async fn run_as(dsn: String, arguments: &[&str]) -> Output {
    run(intcred().args(["--dsn", &dsn]).args(arguments), b"value").await
}

/// A database in which nobody's transactions are as ours need them.
async fn contrary() -> Database {
    let database = Cluster::shared().database().await;
    register(&database.connect(ADMIN).await, ANY, json!({})).await.unwrap();
    let alter = format!("ALTER DATABASE {}", database.name());
    let script = format!(
        "{alter} SET default_transaction_isolation = 'serializable'; {alter} SET default_transaction_read_only = on;
         {alter} SET default_transaction_deferrable = on"
    );
    database.superuser().await.batch_execute(&script).await.unwrap();
    database
}

#[tokio::test]
async fn every_command_says_itself_what_transaction_it_needs() {
    let database = contrary().await;
    for (role, arguments) in [
        (SUPERUSER, &["grant", READER, "--to", "reader"][..]),
        (ADMIN, &["catalog", "add", "acme", "--actor", "me"]),
        (ADMIN, &["set", "acme"]),
        (ADMIN, &["set", "acme", "--plain"]),
        (READER, &["get", "acme"]),
        (ADMIN, &["list"]),
        (ADMIN, &["show", "acme"]),
        (ADMIN, &["remove", "acme"]),
        (ADMIN, &["catalog", "list"]),
        (ADMIN, &["catalog", "disable", "acme"]),
        (ADMIN, &["catalog", "enable", "acme"]),
        (ADMIN, &["catalog", "remove", "acme"]),
        (AUDITOR, &["audit"]),
        (SUPERUSER, &["doctor", "--fix", "--yes"]),
    ] {
        let output = run_as(database.dsn(role), arguments).await;
        assert!(is_well(&output), "{arguments:?}: {output:?}");
    }
    // A call that is refused is metered, which is a transaction of its own.
    assert_fails(
        &run_as(database.dsn(ADMIN), &["set", "nowhere"]).await,
        1,
        "the catalog has no integration",
    );
    let sql = "SELECT count(*) FROM integration_credentials.tool_metering WHERE outcome <> 'ok'";
    let metered: i64 = database.superuser().await.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(metered, 1);
}

#[tokio::test]
async fn callers_of_one_key_at_once_do_not_fail_where_serializable_is_the_default() {
    let database = contrary().await;
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let dsn = database.dsn(ADMIN);
        calls.spawn(async move {
            for _ in 0..4 {
                assert_eq!(run_as(dsn.clone(), &["set", ANY]).await.success().lines().count(), 1);
            }
        });
    }
    calls.join_all().await;
    let listed = run_as(database.dsn(ADMIN), &["list", "--json"]).await.success();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let any = listed.as_array().unwrap().iter().find(|entry| entry["key"] == ANY).unwrap();
    assert_eq!(any["revision"], 32);
}

/// Has the first changes of the catalog fail, as Postgres has those fail that it rolls back for another's sake.
async fn fail(database: &Database, times: u32, sqlstate: &str) {
    let script = format!(
        "CREATE SEQUENCE public.failures;
         CREATE FUNCTION public.fails() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
             IF nextval('public.failures') <= {times} THEN
                 RAISE EXCEPTION 'try again' USING ERRCODE = '{sqlstate}';
             END IF;
             RETURN new; END $$;
         CREATE TRIGGER fails BEFORE INSERT ON integration_credentials.integration_catalog
             FOR EACH ROW EXECUTE FUNCTION public.fails()"
    );
    database.superuser().await.batch_execute(&script).await.unwrap();
}

#[tokio::test]
async fn what_postgres_rolls_back_for_anothers_sake_is_made_again_three_times() {
    for (times, sqlstate, expected) in
        [(3, "40001", Ok(4)), (3, "40P01", Ok(4)), (4, "40001", Err(4)), (1, "40003", Err(1))]
    {
        let database = Cluster::shared().database().await;
        fail(&database, times, sqlstate).await;
        let output = run_as(database.dsn(ADMIN), &["catalog", "add", "acme"]).await;
        let made = match expected {
            Ok(made) => {
                assert_eq!(output.code, 0, "{output:?}");
                made
            }
            Err(made) => {
                assert_fails(&output, 1, &format!("try again (SQLSTATE {sqlstate})"));
                made
            }
        };
        let sql = "SELECT last_value FROM public.failures";
        let attempts: i64 = database.superuser().await.query_one(sql, &[]).await.unwrap().get(0);
        assert_eq!(attempts, made, "{sqlstate}");
    }
}

#[tokio::test]
async fn a_pool_of_the_callers_keeps_its_settings() {
    let database = contrary().await;
    let superuser = database.superuser().await;
    superuser.batch_execute("SET default_transaction_read_only = off").await.unwrap();
    superuser.batch_execute("SET default_transaction_isolation = 'read committed'").await.unwrap();
    set(&superuser, ANY, "value").await.unwrap();
    let manager = Manager::new(database.dsn(READER).parse().unwrap(), NoTls);
    let pool = Pool::builder(manager).max_size(1).build().unwrap();
    let settings_of = async || {
        let sql =
            "SELECT array_agg(name || '=' || setting ORDER BY name) FROM pg_settings WHERE source = 'session'
                   OR name ~ 'transaction|timeout|search_path'";
        pool.get().await.unwrap().query_one(sql, &[]).await.unwrap().get::<_, Vec<String>>(0)
    };
    let before = settings_of().await;
    assert!(before.contains(&"transaction_isolation=serializable".to_owned()), "{before:?}");
    let settings = Settings::resolve(Some(&database.dsn(READER))).unwrap();
    let cache = CredentialCache::over_pool(&settings, pool.clone(), CacheOptions::default()).await.unwrap();
    assert_eq!(cache.get(ANY).await.unwrap().expose().unwrap(), "value");
    assert_eq!(cache.warm().await.unwrap(), 1);
    assert_eq!(settings_of().await, before);
}

async fn next(watcher: &mut Watcher) -> EventKind {
    let Event { kind, .. } = timeout(PATIENCE, watcher.recv()).await.expect("an event").unwrap();
    kind
}

#[tokio::test]
async fn a_watcher_takes_the_time_that_it_needs() {
    let database = contrary().await;
    let alter = format!("ALTER DATABASE {}", database.name());
    let script = format!(
        "{alter} SET idle_session_timeout = '900ms'; {alter} SET statement_timeout = '400ms';
         {alter} SET lock_timeout = '200ms'; {alter} SET idle_in_transaction_session_timeout = '100ms'"
    );
    let superuser = database.superuser().await;
    let relaxed =
        "SET default_transaction_read_only = off; SET default_transaction_isolation = 'read committed'";
    superuser.batch_execute(relaxed).await.unwrap();
    superuser.batch_execute(&script).await.unwrap();
    let settings = Settings::resolve(Some(&database.dsn(READER))).unwrap();
    let options = WatchOptions { heartbeat: Duration::from_millis(1500), ..WatchOptions::default() };
    // A busy machine may take longer for the login than the database allows.
    let start = async {
        loop {
            match Watcher::start(&settings, options).await {
                Err(Error::Connect { .. } | Error::Disconnected { .. }) => {}
                Err(Error::Database { sqlstate, .. }) if sqlstate == "57014" => {}
                started => break started.unwrap(),
            }
        }
    };
    let mut watcher = timeout(PATIENCE, start).await.expect("a watcher");
    assert!(matches!(next(&mut watcher).await, EventKind::Synced { .. }));
    // Idle for longer than a session may by default, and then held up for longer than a statement may.
    sleep(Duration::from_secs(1)).await;
    superuser.batch_execute("BEGIN; LOCK TABLE integration_credentials.integration_catalog").await.unwrap();
    set(&superuser, ANY, "value").await.unwrap();
    sleep(Duration::from_millis(1500)).await;
    superuser.batch_execute("COMMIT").await.unwrap();
    let event = next(&mut watcher).await;
    assert!(matches!(&event, EventKind::Changed { key, .. } if key == ANY), "{event:?}");
    watcher.close().await;
}

#[tokio::test]
async fn a_session_that_was_healthy_however_shortly_ends_the_waiting() {
    let database = Cluster::shared().database().await;
    let superuser = database.superuser().await;
    let settings = Settings::resolve(Some(&database.dsn(READER))).unwrap();
    let options = WatchOptions { heartbeat: Duration::from_millis(20), ..WatchOptions::default() };
    let mut watcher = Watcher::start(&settings, options).await.unwrap();
    assert!(matches!(next(&mut watcher).await, EventKind::Synced { .. }));
    let mut waited = Vec::new();
    for _ in 0..12 {
        // Meanwhile it answers some heartbeats.
        sleep(Duration::from_millis(300)).await;
        terminate(&superuser).await;
        assert!(matches!(next(&mut watcher).await, EventKind::Disconnected { .. }));
        let began = Instant::now();
        assert!(matches!(next(&mut watcher).await, EventKind::Reconnected { .. }));
        waited.push(began.elapsed());
    }
    // Doubled each time, up to ten seconds, each of the last would take five seconds at least.
    assert!(waited[7..].iter().any(|waited| *waited < Duration::from_secs(4)), "{waited:?}");
}
