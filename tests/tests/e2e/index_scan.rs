//! A row that is found by its index is the one that a query would find, and what is remembered of the catalog is true.

use crate::command_line::PATIENCE;
use crate::helpers::calls::{
    ANY, GET, GET_AGGREGATOR, GET_IN_ALL, GET_WITH_REVISION, SET, count, get, register, set,
};
use crate::helpers::fixture::{WAITING, sqlstate, until};
use integration_credentials_core::error::ErrorCode;
use serde_json::json;
use tests::{ADMIN, Cluster, Database, READER, assert_error, installation::Installation};
use tokio::time::{Duration, Instant, sleep};

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
    if !Installation::find().has_icu() {
        return;
    }
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

/// A session remembers where it has found a row. By then another row may be there, or nothing, or no page at all.
#[tokio::test]
async fn where_a_row_was_last_is_only_a_hint() {
    let cluster = Cluster::builder().setting("autovacuum", "off").start();
    let database = cluster.database().await;
    let superuser = database.superuser().await;
    let not_set = async |key: &str| assert_error(get(&superuser, key).await, ErrorCode::CredentialsNotSet);
    let delete = async |which: &str| {
        let delete = format!("DELETE FROM integration_credentials.configured_integrations WHERE {which}");
        superuser.batch_execute(&delete).await.unwrap();
        let vacuum = "VACUUM (INDEX_CLEANUP ON, TRUNCATE) integration_credentials.configured_integrations";
        superuser.batch_execute(vacuum).await.unwrap();
    };
    let blocks = async || {
        let size = "SELECT pg_relation_size('integration_credentials.configured_integrations') / 8192";
        superuser.query_one(size, &[]).await.unwrap().get::<_, i64>(0)
    };
    let keys: Vec<_> = (0..200).map(|number| format!("key-{number}")).collect();
    for key in &keys {
        register(&superuser, key, json!({})).await.unwrap();
        set(&superuser, key, key).await.unwrap();
    }
    let last = blocks().await;
    assert!(last > 2);
    for _ in 0..2 {
        for key in &keys {
            assert_eq!(get(&superuser, key).await.unwrap(), *key);
        }
    }

    // The page is gone. A worker that runs meanwhile keeps VACUUM from it.
    let began = Instant::now();
    loop {
        delete("integration_key NOT IN ('key-0', 'key-1')").await;
        if blocks().await < last {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "VACUUM truncates no table");
    }
    for key in &keys[2..] {
        not_set(key).await;
    }
    // Another row is in the place.
    let place = "SELECT ctid::text FROM integration_credentials.configured_integrations WHERE integration_key = 'key-2'";
    let began = Instant::now();
    loop {
        delete("integration_key IN ('key-0', 'key-2')").await;
        set(&superuser, "key-2", "key-2").await.unwrap();
        if superuser.query_one(place, &[]).await.unwrap().get::<_, &str>(0) == "(0,1)" {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the row is elsewhere");
    }
    not_set("key-0").await;
    assert_eq!(get(&superuser, "key-2").await.unwrap(), "key-2");

    // The row of another org.
    for (org, value) in [("one", "of one"), ("two", "of two")] {
        superuser.batch_execute(&format!("SET integration_credentials.org_slug = {org}")).await.unwrap();
        not_set("key-1").await;
        set(&superuser, "key-1", value).await.unwrap();
    }
    for (org, value) in [("one", "of one"), ("two", "of two"), ("one", "of one")] {
        superuser.batch_execute(&format!("SET integration_credentials.org_slug = {org}")).await.unwrap();
        assert_eq!(get(&superuser, "key-1").await.unwrap(), value);
    }
}

/// After another session's rotation as well, since the row stays on its page. Each upsert scans the index once, and now
/// and then a read does, for Postgres to see that the page is in use.
#[tokio::test]
async fn a_row_that_is_read_again_is_found_without_its_index() {
    let database = Cluster::shared().database().await;
    let (superuser, other) = (database.superuser().await, database.superuser().await);
    register(&superuser, ANY, json!({})).await.unwrap();
    set(&superuser, ANY, "value").await.unwrap();
    let scans = async || {
        for session in [&superuser, &other] {
            session.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
        }
        let scans =
            "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'configured_integrations_pkey'";
        superuser.query_one(scans, &[]).await.unwrap().get::<_, i64>(0)
    };
    get(&superuser, ANY).await.unwrap();
    let before = scans().await;
    for _ in 0..100 {
        assert_eq!(get(&superuser, ANY).await.unwrap(), "value");
    }
    let reads = scans().await - before;
    assert!((1..10).contains(&reads), "{reads}");
    set(&other, ANY, "value 0").await.unwrap();
    let before = scans().await;
    for turn in 1..=100 {
        let value = format!("value {turn}");
        set(&other, ANY, &value).await.unwrap();
        assert_eq!(get(&superuser, ANY).await.unwrap(), value);
    }
    let sets = scans().await - before;
    assert!((100..120).contains(&sets), "{sets}");
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
