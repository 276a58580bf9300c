//! The library's cache: current, from memory, through everything that breaks a connection.

use crate::{
    command_line::{PATIENCE, database, eventually},
    helpers::{
        calls::{ANY, enable, register, remove, set},
        fixture::until,
    },
    listen::{admit, sessions},
};
use deadpool_postgres::{Manager, Pool};
use futures_util::future::try_join_all;
use intcred::{CacheOptions, Change, Credential, CredentialCache, Error, ErrorCode, Settings, WatchOptions};
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};
use tests::{ADMIN, Cluster, Database, READER, SUPERUSER, Session, Shutdown};
use tokio::{
    runtime::{Builder, Runtime},
    time::{sleep, timeout},
};
use tokio_postgres::NoTls;

fn settings(database: &Database) -> Settings {
    Settings::resolve(Some(&database.dsn(READER))).unwrap()
}

/// A pool of ten connections.
fn pool(dsn: &str) -> Pool {
    let manager = Manager::new(dsn.parse().unwrap(), NoTls);
    Pool::builder(manager).max_size(10).build().unwrap()
}

async fn start(database: &Database, options: CacheOptions) -> CredentialCache {
    CredentialCache::start(&settings(database), options).await.unwrap()
}

fn seen(result: Result<Credential, Error>) -> (String, i64) {
    let credential = result.unwrap();
    (credential.expose().unwrap().to_owned(), credential.revision())
}

/// Waits until the cache says this.
async fn becomes(cache: &CredentialCache, key: &str, value: &str) {
    let what = format!("{key} becomes {value}");
    eventually(&what, async || {
        cache.get(key).await.is_ok_and(|credential| credential.expose().is_ok_and(|found| found == value))
    })
    .await;
}

/// Waits until the cache refuses with this code.
async fn becomes_refused(cache: &CredentialCache, key: &str, code: ErrorCode) {
    let refused = async || cache.get(key).await.is_err_and(|error| error.code() == Some(code));
    eventually(&format!("{key} becomes {code}"), refused).await;
}

async fn changed(changes: &mut intcred::Changes) -> (String, i64, bool) {
    let Change { key, revision, is_available } = timeout(PATIENCE, changes.recv()).await.expect("a change");
    (key, revision, is_available)
}

/// Changes a value behind the back of everybody.
async fn set_silently(superuser: &Session, revision: i64) {
    let sql = "UPDATE integration_credentials.configured_integrations SET revision = $1, updated_at = now()";
    superuser.execute(sql, &[&revision]).await.unwrap();
}

#[tokio::test]
async fn a_value_is_read_once_and_again_when_it_changed() {
    let database = database().await;
    let (admin, superuser) = (database.connect(ADMIN).await, database.superuser().await);
    set(&admin, ANY, "one").await.unwrap();
    let cache = start(&database, CacheOptions::default()).await;
    assert_eq!(seen(cache.get(ANY).await), ("one".into(), 1));
    set_silently(&superuser, 5).await;
    assert_eq!(seen(cache.get(ANY).await), ("one".into(), 1));
    assert_eq!(cache.get_with_revision(ANY).await.unwrap().1, 1);
    // Somebody was refused with it, and asks the server.
    assert_eq!(seen(cache.reread(ANY, 1).await), ("one".into(), 5));
    assert_eq!(seen(cache.reread(ANY, 1).await), ("one".into(), 5));

    set(&admin, ANY, "two").await.unwrap();
    becomes(&cache, ANY, "two").await;
    assert_eq!(seen(cache.get(ANY).await).1, 6);
    assert!(!format!("{cache:?} {:?}", cache.get(ANY).await).contains("two"));

    // No session is left when the last clone is gone.
    let clone = cache.clone();
    drop(cache);
    assert_eq!(seen(clone.get(ANY).await).1, 6);
    drop(clone);
    eventually("the sessions are gone", async || sessions(&superuser).await == 0).await;
}

/// Planned once, and without BEGIN and COMMIT around it.
#[tokio::test]
async fn a_fetch_is_one_statement() {
    let database = database().await;
    let (admin, superuser) = (database.connect(ADMIN).await, database.superuser().await);
    set(&admin, ANY, "one").await.unwrap();
    let cache = start(&database, CacheOptions::default()).await;
    cache.get(ANY).await.unwrap();
    let last = "SELECT query FROM pg_stat_activity WHERE usename = $1 AND datname = $2";
    let last = superuser.query(last, &[&READER, &database.name()]).await.unwrap();
    let last: Vec<String> = last.iter().map(|row| row.get(0)).collect();
    assert!(last.len() == 2 && !last.contains(&"COMMIT".to_owned()), "{last:?}");
}

#[tokio::test]
async fn what_may_not_be_used_is_an_error_and_not_the_last_known_value() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    let cache = start(&database, CacheOptions::default()).await;
    let code = async |key| cache.get(key).await.unwrap_err().code().unwrap();
    assert_eq!(code(ANY).await, ErrorCode::CredentialsNotSet);
    assert_eq!(code("nowhere").await, ErrorCode::IntegrationNotFound);
    assert_eq!(code("").await, ErrorCode::InvalidRequest);

    for round in 1..=3 {
        set(&admin, ANY, "value").await.unwrap();
        becomes(&cache, ANY, "value").await;
        enable(&admin, ANY, false).await.unwrap();
        becomes_refused(&cache, ANY, ErrorCode::IntegrationDisabled).await;
        enable(&admin, ANY, true).await.unwrap();
        becomes(&cache, ANY, "value").await;
        remove(&admin, ANY).await.unwrap();
        becomes_refused(&cache, ANY, ErrorCode::CredentialsNotSet).await;
        assert_eq!(cache.reread(ANY, round).await.unwrap_err().code(), Some(ErrorCode::CredentialsNotSet));
    }
    // Registered after the cache was started, which nothing announces.
    register(&admin, "new", json!({})).await.unwrap();
    assert_eq!(code("new").await, ErrorCode::CredentialsNotSet);
    set(&admin, "new", "value").await.unwrap();
    becomes(&cache, "new", "value").await;
}

#[tokio::test]
async fn all_are_read_in_one_go_and_outlive_the_server_for_a_while() {
    let mut cluster = Cluster::private();
    let database = cluster.database().await;
    let admin = database.connect(ADMIN).await;
    let keys: Vec<_> = (0..50).map(|number| format!("k{number}")).collect();
    for key in &keys {
        register(&admin, key, json!({})).await.unwrap();
        set(&admin, key, key).await.unwrap();
    }
    let options = |grace| CacheOptions { grace, ..CacheOptions::default() };
    let (patient, strict) =
        (start(&database, options(PATIENCE)).await, start(&database, options(Duration::ZERO)).await);
    assert_eq!((patient.warm().await.unwrap(), strict.warm().await.unwrap()), (50, 50));

    cluster.stop(Shutdown::Immediate);
    eventually("the loss is noticed", async || strict.get("k0").await.is_err()).await;
    for key in &keys {
        assert_eq!(seen(patient.get(key).await), (key.clone(), 1));
        assert!(matches!(strict.get(key).await, Err(Error::Connect { .. } | Error::Disconnected { .. })));
    }

    cluster.start();
    let admin = database.connect(ADMIN).await;
    for key in &keys {
        set(&admin, key, "new").await.unwrap();
    }
    remove(&admin, "k0").await.unwrap();
    for cache in [&patient, &strict] {
        for key in &keys[1..] {
            becomes(cache, key, "new").await;
        }
        becomes_refused(cache, "k0", ErrorCode::CredentialsNotSet).await;
    }
}

#[tokio::test]
async fn without_word_from_the_server_reads_go_to_the_server_after_the_grace() {
    let database = database().await;
    let (admin, superuser) = (database.connect(ADMIN).await, database.superuser().await);
    set(&admin, ANY, "one").await.unwrap();
    let pool = pool(&(database.dsn(READER) + " application_name=pool"));
    let options = CacheOptions { grace: Duration::ZERO, ..CacheOptions::default() };
    let cache = CredentialCache::over_pool(&settings(&database), pool.clone(), options).await.unwrap();
    assert_eq!(seen(cache.get(ANY).await).1, 1);
    let session = pool.get().await.unwrap();

    admit(&database, false).await;
    crate::listen::terminate(&superuser).await;
    set(&superuser, ANY, "two").await.unwrap();
    // The pool still has its session.
    drop(session);
    becomes(&cache, ANY, "two").await;
    set_silently(&superuser, 7).await;
    assert_eq!(seen(cache.get(ANY).await), ("two".into(), 7));
    admit(&database, true).await;
}

#[tokio::test]
async fn one_fetch_serves_all_who_ask_even_if_the_first_gives_up() {
    let database = database().await;
    set(&database.connect(ADMIN).await, ANY, "value").await.unwrap();
    let superuser = database.superuser().await;
    let pool = pool(&(database.dsn(READER) + " application_name=pool"));
    let cache =
        CredentialCache::over_pool(&settings(&database), pool, CacheOptions::default()).await.unwrap();

    superuser
        .batch_execute("BEGIN; LOCK TABLE integration_credentials.configured_integrations")
        .await
        .unwrap();
    timeout(Duration::from_millis(100), cache.get(ANY)).await.unwrap_err();
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { seen(cache.get(ANY).await) })
        })
        .collect();
    let fetching = "SELECT FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name = 'pool' AND state = 'active'";
    until(&superuser, &format!("{fetching} AND wait_event_type = 'Lock'")).await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(superuser.query(fetching, &[]).await.unwrap().len(), 1);
    superuser.batch_execute("COMMIT").await.unwrap();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), ("value".into(), 1));
    }
}

#[tokio::test]
async fn a_pool_of_another_org_is_found_out() {
    let database = database().await;
    let superuser = database.superuser().await;
    set(&superuser, ANY, "value").await.unwrap();
    superuser.batch_execute("SET integration_credentials.org_slug = 'other'").await.unwrap();
    set(&superuser, ANY, "of the other").await.unwrap();
    let other = database.dsn("postgres") + " options='-c integration_credentials.org_slug=other'";
    let cache = CredentialCache::over_pool(&settings(&database), pool(&other), CacheOptions::default())
        .await
        .unwrap();
    for error in [cache.get(ANY).await.unwrap_err(), cache.warm().await.unwrap_err()] {
        assert!(error.to_string().contains("\"other\""), "{error}");
    }
}

#[tokio::test]
async fn who_follows_the_changes_learns_the_last_of_each_key() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, "other", json!({})).await.unwrap();
    set(&admin, ANY, "one").await.unwrap();
    let cache = start(&database, CacheOptions::default()).await;
    let mut changes = cache.changes();
    set(&admin, ANY, "two").await.unwrap();
    assert_eq!(changed(&mut changes).await, (ANY.into(), 2, true));
    assert_eq!(seen(cache.get(ANY).await).0, "two");

    // It sleeps while much happens.
    for number in 0..300 {
        set(&admin, ANY, &number.to_string()).await.unwrap();
    }
    set(&admin, "other", "value").await.unwrap();
    becomes(&cache, "other", "value").await;
    assert_eq!(changed(&mut changes).await, (ANY.into(), 302, true));
    assert_eq!(changed(&mut changes).await, ("other".into(), 1, true));
    enable(&admin, "other", false).await.unwrap();
    assert_eq!(changed(&mut changes).await, ("other".into(), 1, false));
    remove(&admin, ANY).await.unwrap();
    assert_eq!(changed(&mut changes).await, (ANY.into(), 303, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reader_ever_sees_an_older_value_than_before_whatever_breaks() {
    const ROTATIONS: i64 = 120;
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    let superuser = database.superuser().await;
    let keys: Vec<_> = (0..5).map(|number| format!("k{number}")).collect();
    for key in &keys {
        register(&admin, key, json!({})).await.unwrap();
        set(&admin, key, "1").await.unwrap();
    }
    let pool = pool(&(database.dsn(READER) + " application_name=pool"));
    let own = start(&database, CacheOptions::default()).await;
    let pooled =
        CredentialCache::over_pool(&settings(&database), pool, CacheOptions::default()).await.unwrap();

    let mut readers = Vec::new();
    for cache in [own, pooled] {
        for _ in 0..4 {
            let (cache, keys) = (cache.clone(), keys.clone());
            readers.push(tokio::spawn(async move {
                let mut last = BTreeMap::new();
                while last.len() < keys.len() || last.values().any(|seen| *seen < ROTATIONS) {
                    for key in &keys {
                        // A fetch may meet a session that is ended.
                        let Ok(credential) = cache.get(key).await else { continue };
                        assert_eq!(credential.expose().unwrap(), credential.revision().to_string());
                        let before = last.insert(key.clone(), credential.revision());
                        assert!(before <= Some(credential.revision()), "{key}: {before:?}, {credential:?}");
                    }
                    // Others must get the processor, too.
                    sleep(Duration::from_millis(1)).await;
                }
            }));
        }
    }
    for revision in 2..=ROTATIONS {
        for key in &keys {
            set(&admin, key, &revision.to_string()).await.unwrap();
        }
        if revision % 20 == 0 {
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                       WHERE datname = current_database() AND application_name IN ('intcred', 'pool')";
            superuser.query(end, &[]).await.unwrap();
        }
    }
    timeout(PATIENCE, try_join_all(readers)).await.expect("a reader does not get there").unwrap();
}

#[tokio::test]
async fn a_standby_serves_too_and_its_promotion_goes_unnoticed() {
    let mut cluster = Cluster::private();
    let database = cluster.database().await;
    let superuser = database.superuser().await;
    register(&superuser, ANY, json!({})).await.unwrap();
    set(&superuser, ANY, "one").await.unwrap();
    cluster.stop(Shutdown::Fast);
    std::fs::write(cluster.data_dir().join("standby.signal"), "").unwrap();
    cluster.start();

    let watch = WatchOptions { poll: Duration::from_millis(50), ..WatchOptions::default() };
    let cache = start(&database, CacheOptions { watch, ..CacheOptions::default() }).await;
    assert_eq!(cache.warm().await.unwrap(), 1);
    assert_eq!(seen(cache.get(ANY).await), ("one".into(), 1));
    let superuser = database.superuser().await;
    superuser.batch_execute("SELECT pg_promote()").await.unwrap();
    assert_eq!(seen(cache.get(ANY).await), ("one".into(), 1));
    set(&superuser, ANY, "two").await.unwrap();
    becomes(&cache, ANY, "two").await;
}

/// Its statements have other columns then, and the server keeps their plans.
#[tokio::test]
async fn an_update_of_the_extension_goes_unnoticed() {
    let database = Cluster::shared().empty_database().await;
    let superuser = database.superuser().await;
    superuser.batch_execute("CREATE EXTENSION integration_credentials VERSION '0.1.0'").await.unwrap();
    register(&superuser, ANY, json!({})).await.unwrap();
    set(&superuser, ANY, "one").await.unwrap();
    let settings = Settings::resolve(Some(&database.dsn(SUPERUSER))).unwrap();
    let cache = CredentialCache::start(&settings, CacheOptions::default()).await.unwrap();
    becomes(&cache, ANY, "one").await;
    for value in ["two", "three"] {
        set(&superuser, ANY, value).await.unwrap();
        becomes(&cache, ANY, value).await;
    }
    superuser.batch_execute("ALTER EXTENSION integration_credentials UPDATE").await.unwrap();
    for value in ["four", "five"] {
        set(&superuser, ANY, value).await.unwrap();
        becomes(&cache, ANY, value).await;
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn cache_outlives_the_runtimes_of_its_callers_and_ends_with_its_own() {
    let (harness, own) = (runtime(), Runtime::new().unwrap());
    let (database, superuser) = harness.block_on(async {
        let database = database().await;
        set(&database.connect(ADMIN).await, ANY, "value").await.unwrap();
        let superuser = database.superuser().await;
        (database, superuser)
    });
    let options = CacheOptions { grace: Duration::ZERO, ..CacheOptions::default() };
    let cache = own.block_on(start(&database, options));

    let lock = "BEGIN; LOCK TABLE integration_credentials.configured_integrations";
    harness.block_on(superuser.batch_execute(lock)).unwrap();
    let caller = runtime();
    caller.block_on(async { timeout(Duration::from_millis(100), cache.get(ANY)).await }).unwrap_err();
    drop(caller);
    harness.block_on(superuser.batch_execute("COMMIT")).unwrap();
    let callers = [runtime(), runtime()];
    for caller in &callers {
        assert_eq!(seen(caller.block_on(cache.get(ANY))), ("value".into(), 1));
    }
    // Nobody follows the changes of a value any more.
    drop(own);
    let over = "the runtime that the cache was started in has ended";
    for caller in &callers {
        for error in
            [caller.block_on(cache.get(ANY)).unwrap_err(), caller.block_on(cache.warm()).unwrap_err()]
        {
            assert!(error.to_string().contains(over), "{error}");
        }
    }
}

#[tokio::test]
async fn cache_takes_times_without_end() {
    let database = database().await;
    let (admin, superuser) = (database.connect(ADMIN).await, database.superuser().await);
    set(&admin, ANY, "one").await.unwrap();
    let end = Duration::MAX;
    let watch = WatchOptions { heartbeat: end, timeout: end, poll: end, ..WatchOptions::default() };
    let options = CacheOptions { watch, grace: end, timeout: end, ..CacheOptions::default() };
    let cache = start(&database, options).await;
    becomes(&cache, ANY, "one").await;
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND usename = $1";
    superuser.execute(sql, &[&READER]).await.unwrap();
    set(&admin, ANY, "two").await.unwrap();
    becomes(&cache, ANY, "two").await;
}

#[tokio::test]
async fn cache_follows_when_its_sessions_get_another_org() {
    let cluster = Cluster::private();
    let database = cluster.database().await;
    let superuser = database.superuser().await;
    register(&superuser, ANY, json!({})).await.unwrap();
    let reset = format!("ALTER DATABASE {} RESET integration_credentials.org_slug", database.name());
    superuser.batch_execute(&reset).await.unwrap();
    let move_to = async |org: &str| {
        let sql = format!("ALTER SYSTEM SET integration_credentials.org_slug = '{org}'");
        superuser.batch_execute(&sql).await.unwrap();
        cluster.reload();
        let of_session = async || {
            let session = database.superuser().await;
            let row = session.query_one("SELECT integration_credentials.current_org()", &[]).await;
            row.is_ok_and(|row| row.get::<_, &str>(0) == org)
        };
        eventually("new sessions are of the org", of_session).await;
    };
    move_to("acme").await;
    set(&database.superuser().await, ANY, "of acme").await.unwrap();
    let heartbeat = Duration::from_millis(100);
    let watch = WatchOptions { heartbeat, ..WatchOptions::default() };
    let cache = start(&database, CacheOptions { watch, ..CacheOptions::default() }).await;
    becomes(&cache, ANY, "of acme").await;
    // No credential of another org changes, appears or disappears with this.
    move_to("globex").await;
    becomes_refused(&cache, ANY, ErrorCode::CredentialsNotSet).await;
    set(&database.superuser().await, ANY, "of globex").await.unwrap();
    becomes(&cache, ANY, "of globex").await;
}
