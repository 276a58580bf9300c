//! The catalog as a session caches it: every change is seen by all, in whatever way it is made.

use crate::helpers::calls::{
    ANY, GET, GET_AGGREGATOR, GET_ALL, GET_WITH_REVISION, SET, enable, get, refusal, register, set,
};
use crate::helpers::fixture::{sqlstate, until};
use serde_json::json;
use tests::{Cluster, READER, Session};

const CATALOG: &str = "integration_credentials.integration_catalog";

/// A reader that knows the key `any` to be enabled, and the superuser.
async fn who_knows(cluster: &Cluster) -> (Session, Session) {
    let database = cluster.database().await;
    let (superuser, reader) = (database.superuser().await, database.connect(READER).await);
    register(&superuser, ANY, json!({})).await.unwrap();
    set(&superuser, ANY, "value").await.unwrap();
    assert_eq!(get(&reader, ANY).await.unwrap(), "value");
    (reader, superuser)
}

#[tokio::test]
async fn a_change_of_the_catalog_is_seen_by_who_knew_better_however_it_is_made() {
    let cluster = Cluster::builder().setting("max_prepared_transactions", "1").start();
    let (reader, superuser) = who_knows(&cluster).await;
    let keep = format!("CREATE TEMP TABLE kept AS SELECT * FROM {CATALOG}");
    superuser.batch_execute(&keep).await.unwrap();
    let disable = format!("UPDATE {CATALOG} SET is_enabled = false");
    for (change, expected) in [
        ("SELECT integration_credentials.admin_set_integration_enabled('any', false, 'x')", "IC002"),
        (disable.as_str(), "IC002"),
        (
            &format!("SET session_replication_role = replica; {disable}; RESET session_replication_role"),
            "IC002",
        ),
        (
            &format!(
                "ALTER TABLE {CATALOG} DISABLE TRIGGER ALL; {disable}; ALTER TABLE {CATALOG} ENABLE TRIGGER ALL"
            ),
            "IC002",
        ),
        (&format!("BEGIN; {disable}; PREPARE TRANSACTION 'lookup'; COMMIT PREPARED 'lookup'"), "IC002"),
        (&format!("BEGIN; SAVEPOINT s; {disable}; RELEASE s; COMMIT"), "IC002"),
        (&format!("DELETE FROM {CATALOG}"), "IC004"),
        (&format!("TRUNCATE {CATALOG}"), "IC004"),
        (&format!("UPDATE {CATALOG} SET integration_key = integration_key || '2'"), "IC004"),
    ] {
        // In a transaction of the reader's that began before.
        reader.batch_execute("BEGIN").await.unwrap();
        assert_eq!(refusal(&reader).await, None);
        for statement in change.split("; ") {
            superuser.batch_execute(statement).await.unwrap();
        }
        assert_eq!(refusal(&reader).await.as_deref(), Some(expected), "{change}");
        reader.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(refusal(&reader).await.as_deref(), Some(expected), "{change}");
        // ALWAYS is what DISABLE and ENABLE take away.
        superuser
            .batch_execute(&format!(
                "DELETE FROM {CATALOG}; DELETE FROM integration_credentials.removed_integrations;
                 INSERT INTO {CATALOG} SELECT * FROM kept;
                 ALTER TABLE {CATALOG} ENABLE ALWAYS TRIGGER invalidates_caches"
            ))
            .await
            .unwrap();
        assert_eq!(refusal(&reader).await, None, "{change}");
    }
}

#[tokio::test]
async fn what_is_not_committed_is_seen_by_who_does_it_alone() {
    let (reader, superuser) = who_knows(Cluster::shared()).await;
    superuser.batch_execute("BEGIN; SAVEPOINT s").await.unwrap();
    enable(&superuser, ANY, false).await.unwrap();
    assert_eq!(refusal(&reader).await, None);
    assert_eq!(refusal(&superuser).await.as_deref(), Some("IC002"));
    superuser.batch_execute("ROLLBACK TO s").await.unwrap();
    assert_eq!(refusal(&superuser).await, None);
    enable(&superuser, ANY, false).await.unwrap();
    superuser.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!((refusal(&superuser).await, refusal(&reader).await), (None, None));
}

/// Whatever the transaction may still see: an entry that is disabled is not used from then on.
#[tokio::test]
async fn a_disabled_entry_is_disabled_in_every_transaction_however_old_its_snapshot() {
    let database = Cluster::shared().database().await;
    let (superuser, other) = (database.superuser().await, database.superuser().await);
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        // Before the transaction has written anything, and after.
        for begun in ["SELECT count(*) FROM pg_class", "CREATE TEMP TABLE written ()"] {
            for key in [ANY, "trustradius"] {
                register(&superuser, key, json!({})).await.unwrap();
                set(&superuser, key, "value").await.unwrap();
            }
            // A session that has cached the entries, and one that has not.
            let (cached, new) = (database.superuser().await, database.superuser().await);
            assert_eq!(get(&cached, ANY).await.unwrap(), "value");
            assert_eq!(get(&cached, "trustradius").await.unwrap(), "value");
            for session in [&cached, &new] {
                session.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; {begun}")).await.unwrap();
            }
            for key in [ANY, "trustradius"] {
                enable(&other, key, false).await.unwrap();
            }
            for session in [&cached, &new] {
                let reads =
                    [(ANY, GET), (ANY, GET_WITH_REVISION), ("trustradius", GET_AGGREGATOR), (ANY, SET)];
                for (key, read) in reads {
                    session.batch_execute("SAVEPOINT s").await.unwrap();
                    let refused = session.query(read, &[&key]).await;
                    assert_eq!(sqlstate(refused), "IC002", "{level}, {begun}: {read}");
                    session.batch_execute("ROLLBACK TO s").await.unwrap();
                }
                assert!(session.query(GET_ALL, &[]).await.unwrap().is_empty(), "{level}, {begun}");
                session.batch_execute("ROLLBACK").await.unwrap();
            }
            for key in [ANY, "trustradius"] {
                enable(&other, key, true).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn what_a_failed_statement_wrote_is_not_remembered() {
    let database = Cluster::shared().database().await;
    let other = database.superuser().await;
    register(&other, ANY, json!({})).await.unwrap();
    set(&other, ANY, "value").await.unwrap();
    enable(&other, ANY, false).await.unwrap();

    // A session that knows nothing. The triggers would come after the functions.
    let session = database.superuser().await;
    let made = format!(
        "WITH i AS (INSERT INTO {CATALOG} (integration_key, display_name) VALUES ('ghost', 'Ghost') RETURNING *)
         SELECT integration_credentials.admin_set_integration_credentials(integration_key, 'value', 'x'),
                1 / (length(integration_key) - 5)
         FROM i"
    );
    assert_eq!(sqlstate(session.batch_execute(&made).await), "22012");
    assert_eq!(sqlstate(set(&session, "ghost", "value").await), "IC004");

    let enabled = format!(
        "WITH u AS (UPDATE {CATALOG} SET is_enabled = true WHERE integration_key = 'any' RETURNING *)
         SELECT integration_credentials.get_integration_credentials(integration_key),
                1 / (length(integration_key) - 3)
         FROM u"
    );
    assert_eq!(sqlstate(session.batch_execute(&enabled).await), "22012");
    assert_eq!(sqlstate(get(&session, ANY).await), "IC002");
}

#[tokio::test]
async fn a_standby_is_told_too() {
    let primary = Cluster::private();
    let database = primary.database().await;
    let superuser = database.superuser().await;
    register(&superuser, ANY, json!({})).await.unwrap();
    set(&superuser, ANY, "value").await.unwrap();
    let standby = primary.standby();
    let reader = standby.named_database(database.name()).connect(READER).await;
    // The standby itself knows at once what it has replayed. Since 16, it may tell the primary ten seconds later.
    let replayed = async || {
        let written = superuser.query_one("SELECT pg_current_wal_lsn()::text", &[]).await.unwrap();
        let written: &str = written.get(0);
        until(&reader, &format!("SELECT WHERE pg_last_wal_replay_lsn() >= '{written}'")).await;
    };
    for _ in 0..3 {
        assert_eq!(refusal(&reader).await, None);
        enable(&superuser, ANY, false).await.unwrap();
        replayed().await;
        assert_eq!(refusal(&reader).await.as_deref(), Some("IC002"));
        enable(&superuser, ANY, true).await.unwrap();
        replayed().await;
    }
}
