//! A row that is found by its index is the one that a query would find.

use crate::support::{ANY, get, register, set};
use serde_json::json;
use tests::{ADMIN, Cluster, Database, READER};

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
