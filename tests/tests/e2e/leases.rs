//! The leases of the library's caches and of `intcred listen`, as the server and other roles see them.

use crate::{
    command_line::{PATIENCE, database, eventually},
    helpers::calls::{ANY, register, set},
    listen::admit,
};
use intcred::{CacheOptions, CredentialCache, Error, Lease, Settings, WatchOptions};
use serde_json::{Value, json};
use std::time::Duration;
use tests::{ADMIN, Cluster, Database, READER, Session, Shutdown};
use tokio::time::{Instant, sleep};

fn settings(database: &Database) -> Settings {
    Settings::resolve(Some(&database.dsn(READER))).unwrap()
}

async fn start(database: &Database, options: CacheOptions) -> CredentialCache {
    CredentialCache::start(&settings(database), options).await.unwrap()
}

fn named(name: &str) -> CacheOptions {
    CacheOptions { name: Some(name.to_owned()), ..CacheOptions::default() }
}

/// Verdict, consumers and who is behind.
pub async fn status(session: &Session, key: &str) -> (String, i64, Value) {
    let sql = "SELECT verdict, consumers, behind FROM integration_credentials.rotation_status($1)";
    let row = session.query_one(sql, &[&key]).await.unwrap();
    (row.get(0), row.get(1), row.get::<_, Option<Value>>(2).unwrap_or_default())
}

pub async fn becomes(session: &Session, key: &str, verdict: &str) {
    eventually(verdict, async || status(session, key).await.0 == verdict).await;
}

/// Makes the leases complete, as they are a term after the first.
pub async fn begin(database: &Database) {
    let sql = "INSERT INTO integration_credentials.lease_epoch VALUES (true, now() - interval '1 day')
               ON CONFLICT (is_the_row) DO UPDATE SET began_at = excluded.began_at";
    database.superuser().await.batch_execute(sql).await.unwrap();
}

/// What a consumer of this name holds of each key.
pub async fn held(superuser: &Session, name: &str) -> Option<Value> {
    let sql = "SELECT held FROM integration_credentials.consumers WHERE name = $1 AND lease_until > now()";
    superuser.query_opt(sql, &[&name]).await.unwrap().map(|row| row.get(0))
}

#[tokio::test]
async fn a_rotation_waits_for_a_handle_and_says_whose() {
    let database = database().await;
    begin(&database).await;
    let (admin, superuser) = (database.connect(ADMIN).await, database.superuser().await);
    set(&admin, ANY, "one").await.unwrap();
    let cache = start(&database, named("web-1")).await;
    assert_eq!(cache.lease(), Lease::Running);
    assert_eq!(held(&superuser, "web-1").await, Some(json!({})));

    let handle = cache.get(ANY).await.unwrap();
    assert_eq!(handle.expose().unwrap(), "one");
    assert_eq!(held(&superuser, "web-1").await, Some(json!({ANY: [1, 1]})));
    assert_eq!(status(&admin, ANY).await.0, "converged");

    set(&admin, ANY, "two").await.unwrap();
    let (verdict, consumers, behind) = status(&admin, ANY).await;
    assert_eq!((verdict.as_str(), consumers), ("waiting", 1));
    assert_eq!((&behind[0]["name"], &behind[0]["oldest"]), (&json!("web-1"), &json!(1)));
    // The new value is used, and the old one by whoever has it.
    eventually("two", async || cache.get(ANY).await.unwrap().revision() == 2).await;
    eventually("reported", async || held(&superuser, "web-1").await == Some(json!({ANY: [1, 2]}))).await;
    assert_eq!(handle.expose().unwrap(), "one");
    assert_eq!(status(&admin, ANY).await.0, "waiting");
    drop(handle);
    becomes(&admin, ANY, "converged").await;
    assert_eq!(held(&superuser, "web-1").await, Some(json!({ANY: [2, 2]})));

    let handle = cache.get(ANY).await.unwrap();
    cache.close().await;
    assert!(matches!(handle.expose(), Err(Error::LeaseOver { .. })));
}

#[tokio::test]
async fn a_clean_end_is_no_wait() {
    let database = database().await;
    let superuser = database.superuser().await;
    set(&superuser, ANY, "one").await.unwrap();
    for is_closed in [true, false] {
        let mut ended = 0;
        // A cache has a second to tell the server. A busy machine may need longer, and then the lease runs out.
        for round in 0..3 {
            let name = format!("web-{is_closed}-{round}");
            let cache = start(&database, named(&name)).await;
            assert_eq!(cache.warm().await.unwrap(), 1);
            assert!(held(&superuser, &name).await.is_some());
            if is_closed {
                cache.close().await;
            } else {
                drop(cache);
                sleep(Duration::from_secs(2)).await;
            }
            ended += usize::from(held(&superuser, &name).await.is_none());
        }
        assert!(ended > 0, "closed: {is_closed}");
    }
}

#[tokio::test]
async fn a_lease_is_no_longer_than_the_server_grants() {
    let cluster = Cluster::builder().setting("integration_credentials.max_lease", "20s").start();
    let database = cluster.database().await;
    let superuser = database.superuser().await;
    register(&superuser, ANY, json!({})).await.unwrap();
    set(&superuser, ANY, "one").await.unwrap();
    let lease = async |name: &str| -> f64 {
        let sql = "SELECT extract(epoch FROM lease_until - reported_at)::float8
                   FROM integration_credentials.consumers WHERE name = $1";
        superuser.query_one(sql, &[&name]).await.unwrap().get(0)
    };
    let long = start(&database, named("long")).await;
    let short = start(&database, CacheOptions { grace: Duration::from_secs(3), ..named("short") }).await;
    assert!((lease("long").await - 20.0).abs() < 0.1 && (lease("short").await - 3.0).abs() < 0.1);
    assert!(long.get(ANY).await.is_ok() && short.get(ANY).await.is_ok());
    let none = start(&database, CacheOptions { grace: Duration::ZERO, ..named("none") }).await;
    assert!(none.get(ANY).await.is_ok());
    assert_eq!((none.lease(), held(&superuser, "none").await), (Lease::Off, None));
}

#[tokio::test]
async fn without_the_server_values_are_used_until_the_lease_is_over_and_then_by_nobody() {
    let mut cluster = Cluster::private();
    let database = cluster.database().await;
    let admin = database.superuser().await;
    register(&admin, ANY, json!({})).await.unwrap();
    set(&admin, ANY, "one").await.unwrap();
    let (grace, timeout) = (Duration::from_secs(15), Duration::from_secs(5));
    let cache = start(&database, CacheOptions { grace, timeout, ..named("web") }).await;
    let handle = cache.get(ANY).await.unwrap();
    cluster.stop(Shutdown::Immediate);
    assert_eq!((handle.expose().unwrap(), cache.get(ANY).await.unwrap().expose().unwrap()), ("one", "one"));
    assert!(cache.get("some-name").await.is_err());
    // Reports have failed by now, and the lease runs.
    let (lease, used) = (cache.lease(), handle.expose());
    assert!(lease == Lease::Running || used.is_err(), "{lease:?}");
    // The last that the server has heard was before.
    let (last, mut used) = (Instant::now(), Instant::now());
    eventually("it is over", async || {
        let look = Instant::now();
        let is_over = handle.expose().is_err();
        used = if is_over { used } else { look };
        is_over
    })
    .await;
    assert!(used - last < grace, "{:?}", used - last);
    assert!(cache.get(ANY).await.is_err());
    assert!(matches!(cache.lease(), Lease::Lapsed { .. }));

    cluster.start();
    eventually("the value is used again", async || handle.expose().is_ok()).await;
    let admin = database.superuser().await;
    assert_eq!(cache.get(ANY).await.unwrap().expose().unwrap(), "one");
    assert_eq!(held(&admin, "web").await, Some(json!({ANY: [1, 1]})), "no name that nobody knows");
    // A handle on a value that is no longer current after the lapse is dead for good. The cache comes back after the change.
    admit(&database, false).await;
    cluster.stop(Shutdown::Immediate);
    drop(admin);
    eventually("it is over", async || handle.expose().is_err()).await;
    cluster.start();
    let changed =
        "UPDATE integration_credentials.configured_integrations SET revision = 2, updated_at = now()";
    database.superuser().await.batch_execute(changed).await.unwrap();
    admit(&database, true).await;
    eventually("the new value is used", async || cache.get(ANY).await.is_ok_and(|new| new.revision() == 2))
        .await;
    assert_eq!(cache.lease(), Lease::Running);
    assert!(handle.expose().is_err());
}

#[tokio::test]
async fn a_database_without_leases_is_as_before_and_says_so() {
    let database = database().await;
    let (admin, superuser) = (database.connect(ADMIN).await, database.superuser().await);
    set(&admin, ANY, "one").await.unwrap();
    let function = "integration_credentials.report_held_revisions(uuid, text, jsonb, interval)";
    superuser
        .batch_execute(&format!(
            "REVOKE ALL ON FUNCTION {function} FROM PUBLIC, integration_credentials_reader"
        ))
        .await
        .unwrap();
    let cache = start(&database, named("plain")).await;
    let Lease::Unsupported { reason } = cache.lease() else { panic!("{:?}", cache.lease()) };
    assert!(reason.contains("permission denied"), "{reason}");
    let handle = cache.get(ANY).await.unwrap();
    set(&admin, ANY, "two").await.unwrap();
    eventually("two", async || cache.get(ANY).await.unwrap().expose().unwrap() == "two").await;
    assert_eq!(handle.expose().unwrap(), "one");

    superuser.batch_execute(&format!("DROP FUNCTION {function} CASCADE")).await.unwrap_err();
    superuser
        .batch_execute(&format!(
            "ALTER EXTENSION integration_credentials DROP FUNCTION {function}; DROP FUNCTION {function}"
        ))
        .await
        .unwrap();
    let cache = start(&database, named("old")).await;
    assert!(matches!(cache.lease(), Lease::Unsupported { .. }), "{:?}", cache.lease());
    assert_eq!(cache.get(ANY).await.unwrap().expose().unwrap(), "two");
}

/// As after an update of the extension: the values in use are reported from then on.
#[tokio::test]
async fn a_lease_is_taken_once_there_is_one() {
    let database = database().await;
    begin(&database).await;
    let (admin, superuser) = (database.connect(ADMIN).await, database.superuser().await);
    set(&admin, ANY, "one").await.unwrap();
    let function = "integration_credentials.report_held_revisions(uuid, text, jsonb, interval)";
    let revoke = format!("REVOKE ALL ON FUNCTION {function} FROM PUBLIC, integration_credentials_reader");
    superuser.batch_execute(&revoke).await.unwrap();
    let watch = WatchOptions { heartbeat: Duration::from_millis(200), ..WatchOptions::default() };
    let cache = start(&database, CacheOptions { watch, ..named("late") }).await;
    let handle = cache.get(ANY).await.unwrap();
    let grant = format!("GRANT EXECUTE ON FUNCTION {function} TO integration_credentials_reader, {READER}");
    superuser.batch_execute(&grant).await.unwrap();
    eventually("a lease", async || cache.lease() == Lease::Running).await;
    assert_eq!(held(&superuser, "late").await, Some(json!({ANY: [1, 1]})));
    assert_eq!(handle.expose().unwrap(), "one");
    set(&admin, ANY, "two").await.unwrap();
    assert_eq!(status(&admin, ANY).await.0, "waiting");
    drop(handle);
    becomes(&admin, ANY, "converged").await;
}

#[tokio::test]
async fn a_cache_of_many_keys_reports_all_of_them() {
    const KEYS: i64 = 3000;
    let database = database().await;
    let superuser = database.superuser().await;
    let fill = format!(
        "SELECT integration_credentials.admin_register_integration('k' || n, 'K', 'test'),
                integration_credentials.admin_set_integration_credentials('k' || n, 'value', 'test')
         FROM generate_series(1, {KEYS}) AS n"
    );
    superuser.batch_execute(&fill).await.unwrap();
    let mut ended = 0;
    // As in `a_clean_end_is_no_wait`.
    for round in 0..3 {
        let name = format!("many-{round}");
        let cache = start(&database, named(&name)).await;
        assert_eq!(i64::try_from(cache.warm().await.unwrap()).unwrap(), KEYS);
        let reported = "SELECT count(*), count(DISTINCT consumer) FROM integration_credentials.consumers,
                        jsonb_object_keys(held) WHERE name = $1";
        let row = superuser.query_one(reported, &[&name]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), KEYS);
        assert!(row.get::<_, i64>(1) > 1);
        cache.close().await;
        let left = "SELECT FROM integration_credentials.consumers WHERE name = $1";
        ended += usize::from(superuser.query(left, &[&name]).await.unwrap().is_empty());
    }
    assert!(ended > 0);
}

#[tokio::test]
async fn nobody_who_is_not_admitted_uses_a_value_beyond_the_lease() {
    let database = database().await;
    let (admin, superuser) = (database.connect(ADMIN).await, database.superuser().await);
    set(&admin, ANY, "one").await.unwrap();
    let cache = start(&database, CacheOptions { grace: Duration::from_secs(5), ..named("web") }).await;
    let handle = cache.get(ANY).await.unwrap();
    admit(&database, false).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND application_name = 'intcred'";
    superuser.query(end, &[]).await.unwrap();
    eventually("the lease is over", async || handle.expose().is_err()).await;
    assert!(cache.get(ANY).await.is_err());
    admit(&database, true).await;
    eventually("the lease runs", async || handle.expose().is_ok()).await;
}

/// Others still read the older value, and a consumer may come and use it.
#[tokio::test]
async fn no_transaction_gets_a_verdict_on_its_own_change() {
    let database = database().await;
    begin(&database).await;
    let admin = database.connect(ADMIN).await;
    set(&admin, ANY, "one").await.unwrap();
    admin.batch_execute("BEGIN; SAVEPOINT before").await.unwrap();
    set(&admin, ANY, "two").await.unwrap();
    admin.batch_execute("RELEASE before").await.unwrap();
    assert_eq!(status(&admin, ANY).await.0, "unknown");
    let retire = "SELECT integration_credentials.admin_retire_integration_credentials($1, 'test')";
    assert_eq!(admin.query(retire, &[&ANY]).await.unwrap_err().code().unwrap().code(), "IC009");
    admin.batch_execute("ROLLBACK; BEGIN").await.unwrap();
    register(&admin, "other", json!({})).await.unwrap();
    assert_eq!(status(&admin, ANY).await.0, "converged");
    admin.batch_execute("COMMIT").await.unwrap();
    set(&admin, ANY, "two").await.unwrap();
    assert_eq!(status(&admin, ANY).await.0, "converged");
}

async fn report(session: &Session, id: &str, held: Value) {
    let sql = "SELECT integration_credentials.report_held_revisions($1::text::uuid, 'test', $2, '5 min')";
    session.query_one(sql, &[&id, &held]).await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_registered_again_has_revisions_of_its_own() {
    let database = database().await;
    begin(&database).await;
    let (admin, reader) = (database.connect(ADMIN).await, database.connect(READER).await);
    for _ in 0..3 {
        set(&admin, ANY, "value").await.unwrap();
    }
    let id = "00000000-0000-4000-8000-000000000001";
    report(&reader, id, json!({ANY: [3, 3]})).await;
    let purge = "SELECT integration_credentials.admin_remove_integration_credentials($1, 'test', true)";
    admin.query_one(purge, &[&ANY]).await.unwrap();
    admin
        .query_one("SELECT integration_credentials.admin_unregister_integration($1, 'test')", &[&ANY])
        .await
        .unwrap();
    register(&admin, ANY, json!({})).await.unwrap();
    set(&admin, ANY, "another").await.unwrap();
    assert_eq!(status(&admin, ANY).await.0, "waiting");
    report(&reader, id, json!({ANY: [1, 1]})).await;
    assert_eq!(status(&admin, ANY).await.0, "converged");
}

/// Why a consumer goes on with another id after a report without an answer: that report may arrive after the
/// next.
#[tokio::test]
async fn a_late_report_of_another_id_takes_nothing_back() {
    let database = database().await;
    begin(&database).await;
    let (admin, reader) = (database.connect(ADMIN).await, database.connect(READER).await);
    let (first, second) = ("00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002");
    for (next, verdict) in [(first, "converged"), (second, "waiting")] {
        set(&admin, ANY, "old").await.unwrap();
        let row = "SELECT revision FROM integration_credentials.rotation_status($1)";
        let revision: i64 = admin.query_one(row, &[&ANY]).await.unwrap().get(0);
        report(&reader, next, json!({ANY: [revision, revision]})).await;
        // Sent before that one, when the key was not used yet.
        report(&reader, first, json!({})).await;
        set(&admin, ANY, "new").await.unwrap();
        assert_eq!(status(&admin, ANY).await.0, verdict);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_of_a_hundred_listeners_is_over_in_milliseconds() {
    const CONSUMERS: usize = 100;
    const ROTATIONS: usize = 20;
    let cluster = Cluster::builder().setting("max_connections", "350").setting("fsync", "off").start();
    let database = cluster.database().await;
    begin(&database).await;
    let admin = database.superuser().await;
    register(&admin, ANY, json!({})).await.unwrap();
    set(&admin, ANY, "one").await.unwrap();
    let mut caches = Vec::new();
    for number in 0..CONSUMERS {
        let cache = start(&database, named(&format!("web-{number}"))).await;
        assert!(cache.get(ANY).await.is_ok());
        caches.push(cache);
    }
    let mut took = Vec::new();
    for _ in 0..ROTATIONS {
        set(&admin, ANY, "next").await.unwrap();
        let since = Instant::now();
        loop {
            let (verdict, consumers, behind) = status(&admin, ANY).await;
            assert!(consumers >= i64::try_from(CONSUMERS).unwrap());
            if verdict == "converged" {
                break;
            }
            assert!(since.elapsed() < PATIENCE, "{verdict}: {behind}");
            sleep(Duration::from_millis(2)).await;
        }
        took.push(since.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    took.sort_unstable();
    println!(
        "from the change to converged, {CONSUMERS} consumers: median {:?} of {took:?}",
        took[ROTATIONS / 2]
    );
    // The goal is 20 ms on a quiet machine.
    assert!(took[ROTATIONS / 2] < Duration::from_secs(2), "{took:?}");
}
