//! A row that is found by its index is the one that a query would find, and what is remembered of the catalog is true.

use crate::fixture::{WAITING, sqlstate, until};
use crate::support::{ANY, count, enable, get, register, set};
use serde_json::json;
use tests::{ADMIN, Cluster, Database, READER, Session};
use tokio::time::{Duration, sleep};

/// A database that sorts as people do: `9` before `10`, and no capital before every small letter.
async fn icu_database(cluster: &Cluster) -> Database {
    // Makes the login roles, should no other test have done so.
    cluster.database().await;
    let superuser = cluster.named_database("postgres").superuser().await;
    let create = "CREATE DATABASE icu TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-u-kn-true'";
    superuser.batch_execute(create).await.unwrap();
    let database = cluster.named_database("icu");
    let install =
        concat!("CREATE EXTENSION integration_credentials;", include_str!("../../../sql/roles.sql"));
    database.superuser().await.batch_execute(install).await.unwrap();
    database
}

#[tokio::test]
async fn in_whatever_order_the_database_sorts() {
    let database = icu_database(Cluster::shared()).await;
    let (admin, reader) = (database.connect(ADMIN).await, database.connect(READER).await);
    let words = ["a", "A", "ä", "Ä", "ae", "b", "B", "z", "Z", "ß", "ss", "-", "a-b", "ab", "é", "e", "E"];
    let keys: Vec<String> =
        (0..40).flat_map(|number| words.map(|word| format!("{word}{number}{word}"))).collect();
    for key in &keys {
        register(&admin, key, json!({})).await.unwrap();
        set(&admin, key, &format!("value of {key}")).await.unwrap();
    }
    for key in &keys {
        assert_eq!(get(&reader, key).await.unwrap(), format!("value of {key}"));
    }
}

#[tokio::test]
async fn as_of_the_snapshot_of_the_statement() {
    let database = Cluster::shared().database().await;
    let (admin, reader) = (database.connect(ADMIN).await, database.connect(READER).await);
    register(&admin, ANY, json!({})).await.unwrap();
    set(&admin, ANY, "first").await.unwrap();
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    assert_eq!(get(&reader, ANY).await.unwrap(), "first");
    set(&admin, ANY, "second").await.unwrap();
    assert_eq!(get(&reader, ANY).await.unwrap(), "first");
    reader.batch_execute("COMMIT").await.unwrap();
    assert_eq!(get(&reader, ANY).await.unwrap(), "second");

    // What the own transaction has done is seen before its commit, and not when it is taken back.
    let superuser = database.superuser().await;
    superuser.batch_execute("BEGIN; SAVEPOINT s").await.unwrap();
    set(&superuser, ANY, "third").await.unwrap();
    assert_eq!(get(&superuser, ANY).await.unwrap(), "third");
    superuser.batch_execute("ROLLBACK TO s").await.unwrap();
    assert_eq!(get(&superuser, ANY).await.unwrap(), "second");
}

#[tokio::test]
async fn whatever_the_operator_does_to_the_tables() {
    let database = Cluster::shared().database().await;
    let (admin, reader) = (database.connect(ADMIN).await, database.connect(READER).await);
    let superuser = database.superuser().await;
    register(&admin, ANY, json!({})).await.unwrap();
    set(&admin, ANY, "value").await.unwrap();
    for change in [
        "ALTER TABLE integration_credentials.configured_integrations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "ALTER TABLE integration_credentials.integration_catalog ADD note text DEFAULT 'none'",
        "ALTER TABLE integration_credentials.configured_integrations ADD note text DEFAULT 'none'",
        "REINDEX TABLE CONCURRENTLY integration_credentials.configured_integrations",
        "ALTER INDEX integration_credentials.configured_integrations_pkey RENAME TO another",
        "CLUSTER integration_credentials.configured_integrations USING another",
        "VACUUM FULL integration_credentials.integration_catalog",
        "CREATE INDEX ON integration_credentials.configured_integrations (integration_key)",
    ] {
        superuser.batch_execute(change).await.unwrap();
        assert_eq!(get(&reader, ANY).await.unwrap(), "value", "{change}");
        set(&admin, ANY, "value").await.unwrap();
        assert_eq!(get(&reader, ANY).await.unwrap(), "value", "{change}");
    }
}

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

async fn refusal(session: &Session) -> Option<String> {
    get(session, ANY).await.err().map(|error| error.code().unwrap().code().to_owned())
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
                 ALTER TABLE {CATALOG} ENABLE ALWAYS TRIGGER tells_sessions"
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

const GET_ALL: &str = "SELECT key FROM integration_credentials.get_all_integration_credentials()";
const GET_WITH_REVISION: &str =
    "SELECT value FROM integration_credentials.get_integration_credentials_with_revision($1)";
const GET_AGGREGATOR: &str = "SELECT integration_credentials.get_aggregator_credentials($1)";

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

const GET_IN_ALL: &str =
    "SELECT FROM integration_credentials.get_all_integration_credentials() WHERE key = $1";
const GET: &str = "SELECT integration_credentials.get_integration_credentials($1)";
const SET: &str =
    "SELECT integration_credentials.admin_set_integration_credentials($1, 'new-value', 'actor')";

/// A statement that waits for a table to be rewritten had its snapshot before, which shows nothing of the new table.
#[tokio::test]
async fn a_table_that_is_rewritten_meanwhile_is_not_taken_for_empty() {
    let rewrites = [
        "ALTER TABLE integration_credentials.integration_catalog ALTER validator_owner TYPE text USING validator_owner || ''",
        "ALTER TABLE integration_credentials.configured_integrations ALTER created_at TYPE timestamptz USING created_at + '0 s'",
        "ALTER TABLE integration_credentials.aggregator_credentials ALTER updated_at TYPE timestamptz USING updated_at + '0 s'",
        "CLUSTER integration_credentials.configured_integrations USING configured_integrations_pkey",
    ];
    let list =
        "SELECT FROM integration_credentials.list_integrations() WHERE \"hasCredentials\" AND key = $1";
    let list_some =
        "SELECT FROM integration_credentials.list_integrations(ARRAY[$1]) WHERE \"hasCredentials\"";
    let describe = "SELECT FROM integration_credentials.describe_integrations() WHERE key = $1";
    let database = Cluster::shared().database().await;
    let (superuser, watcher) = (database.superuser().await, database.superuser().await);
    set(&superuser, "trustradius", "a-long-value").await.unwrap();
    for rewrite in rewrites {
        for read in [GET, GET_WITH_REVISION, GET_AGGREGATOR, GET_IN_ALL, list, list_some, describe, SET] {
            for knows in [true, false] {
                let reader = database.superuser().await;
                if knows {
                    reader.query(read, &[&"trustradius"]).await.unwrap();
                }
                superuser.batch_execute(&format!("BEGIN; {rewrite}")).await.unwrap();
                let reading = tokio::spawn(async move { reader.query(read, &[&"trustradius"]).await });
                // Some do not look at this table, or know what is in it.
                while !reading.is_finished() && watcher.query(WAITING, &[]).await.unwrap().is_empty() {
                    sleep(Duration::from_millis(5)).await;
                }
                superuser.batch_execute("COMMIT").await.unwrap();
                let rows =
                    reading.await.unwrap().unwrap_or_else(|error| panic!("{rewrite}: {read}: {error:?}"));
                assert_eq!(rows.len(), 1, "{rewrite}: {read}, knows: {knows}");
            }
        }
    }

    // VACUUM FULL and CLUSTER of everything, which are no part of a transaction, again and again.
    let rewriting = async {
        for _ in 0..20 {
            superuser
                .batch_execute("VACUUM FULL integration_credentials.configured_integrations")
                .await
                .unwrap();
            superuser.batch_execute("VACUUM FULL integration_credentials.integration_catalog").await.unwrap();
            superuser.batch_execute(rewrites[0]).await.unwrap();
            superuser.batch_execute(rewrites[1]).await.unwrap();
        }
    };
    let reader = database.superuser().await;
    let reading = async {
        loop {
            for read in [GET, GET_WITH_REVISION, GET_IN_ALL, list, list_some, describe] {
                assert_eq!(reader.query(read, &[&"trustradius"]).await.unwrap().len(), 1, "{read}");
            }
        }
    };
    tokio::select! {
        () = rewriting => {}
        () = reading => {}
    }
}

/// Postgres itself shows such a transaction an empty table; here it is told to run again.
#[tokio::test]
async fn a_transaction_older_than_a_rewritten_table_is_told_to_run_again() {
    let database = Cluster::shared().database().await;
    let (reader, superuser) = (database.connect(READER).await, database.superuser().await);
    set(&superuser, "trustradius", "a-long-value").await.unwrap();
    for read in [GET, GET_WITH_REVISION, GET_IN_ALL] {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
        reader.batch_execute(&format!("{begin}; SELECT count(*) FROM pg_class")).await.unwrap();
        let rewrite = "ALTER TABLE integration_credentials.configured_integrations ALTER created_at TYPE timestamptz USING created_at + '0 s'";
        superuser.batch_execute(rewrite).await.unwrap();
        assert_eq!(sqlstate(reader.query(read, &[&"trustradius"]).await), "40001");
        reader.batch_execute(&format!("ROLLBACK; {begin}")).await.unwrap();
        assert_eq!(reader.query(read, &[&"trustradius"]).await.unwrap().len(), 1);
        // What is not there is not there, and no reason to try again.
        assert_eq!(sqlstate(reader.query(GET, &[&"slack"]).await), "IC005");
        reader.batch_execute("ROLLBACK").await.unwrap();
    }
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
    for _ in 0..3 {
        assert_eq!(refusal(&reader).await, None);
        enable(&superuser, ANY, false).await.unwrap();
        let replayed = "SELECT FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()";
        until(&superuser, replayed).await;
        assert_eq!(refusal(&reader).await.as_deref(), Some("IC002"));
        enable(&superuser, ANY, true).await.unwrap();
        until(&superuser, replayed).await;
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
async fn whoever_waits_for_a_table_takes_the_one_that_has_the_name_afterwards() {
    let database = Cluster::shared().database().await;
    let (admin, superuser) = (database.connect(ADMIN).await, database.superuser().await);
    register(&admin, ANY, json!({})).await.unwrap();
    set(&admin, ANY, "value").await.unwrap();
    superuser
        .batch_execute(
            "BEGIN;
             ALTER TABLE integration_credentials.tool_metering RENAME TO last_year;
             CREATE TABLE integration_credentials.tool_metering
                 (LIKE integration_credentials.last_year INCLUDING ALL)",
        )
        .await
        .unwrap();
    let waiting = tokio::spawn(async move { set(&admin, ANY, "value").await });
    until(&database.superuser().await, WAITING).await;
    superuser.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(count(&superuser, "last_year").await, 2, "registered and set once");
    assert_eq!(count(&superuser, "tool_metering").await, 1);
}
