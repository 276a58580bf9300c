//! `pg_dump` and restore: the catalog comes back as it was, and credentials with the same keyring only.

use crate::helpers::calls::{ANY, enable, get, register, remove, set};
use integration_credentials_core::error::ErrorCode;
use serde_json::json;
use tests::{ADMIN, Canary, Cluster, Database, READER, assert_error, run};

/// Everything that a dump must carry, row by row, without the columns that an earlier version lacks.
const STATE: &str = "
    SELECT string_agg(t, E'\\n' ORDER BY t) FROM (
        SELECT 'catalog ' || (to_jsonb(k) - 'keep_previous')::text AS t FROM integration_credentials.integration_catalog k
        UNION ALL SELECT 'credential ' || jsonb_strip_nulls(to_jsonb(c))::text FROM integration_credentials.configured_integrations c
        UNION ALL SELECT 'aggregator ' || a::text FROM integration_credentials.aggregator_credentials a
        UNION ALL SELECT 'audit ' || jsonb_strip_nulls(to_jsonb(l))::text FROM integration_credentials.webapp_org_admin_audit_log l
        UNION ALL SELECT 'metering ' || m::text FROM integration_credentials.tool_metering m) rows";

pub async fn state(database: &Database) -> String {
    database.superuser().await.query_one(STATE, &[]).await.unwrap().get(0)
}

/// A database with something of everything: edited, added, removed and untouched entries. It has this version of the
/// extension, or the one that is named.
pub async fn source(cluster: &Cluster, canary: &Canary, version: Option<&str>) -> Database {
    let database = cluster.database_at(version).await;
    database.set_org("acme").await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({"minLength": 3})).await.unwrap();
    set(&admin, ANY, canary.as_str()).await.unwrap();
    set(&admin, "trustradius", canary.as_str()).await.unwrap();
    register(&admin, "slack", json!({"prefix": "edited-"})).await.unwrap();
    set(&admin, "slack", "edited-value").await.unwrap();
    remove(&admin, "slack").await.unwrap();
    if version.is_none() {
        // A current, a previous and a pending value.
        register(&admin, "rotating", json!({})).await.unwrap();
        let options = [json!({}), json!({"expiresAt": "2999-01-01"}), json!({"stage": true})];
        for (number, options) in options.iter().enumerate() {
            let value = format!("{} {number}", canary.as_str());
            let set = "SELECT integration_credentials.admin_set_integration_credentials('rotating', $1, 'actor', $2)";
            admin.execute(set, &[&value, options]).await.unwrap();
        }
    }
    enable(&admin, "hubspot", false).await.unwrap();
    let unregister = "SELECT integration_credentials.admin_unregister_integration('github', 'actor')";
    admin.batch_execute(unregister).await.unwrap();
    // By hand as well, as an operator may.
    let superuser = database.superuser().await;
    let delete = "DELETE FROM integration_credentials.integration_catalog WHERE integration_key = 'stripe'";
    superuser.batch_execute(delete).await.unwrap();
    database
}

pub async fn dump_and_restore(from: (&Cluster, &Database), to: (&Cluster, &Database), canary: &Canary) {
    let dump = run(from.0.tool("pg_dump").args(["--no-owner", from.1.name()]), b"").await.success();
    assert!(canary.find(dump.as_bytes()).is_empty(), "the dump holds no plaintext");
    let mut psql = to.0.tool("psql");
    let restored = psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", to.1.name()]);
    let output = run(restored, dump.as_bytes()).await;
    assert_eq!(output.code, 0, "{}", output.stderr);
}

#[tokio::test]
async fn a_restored_database_is_the_same_and_goes_on() {
    let canary = Canary::new();
    let cluster = Cluster::shared();
    let original = source(cluster, &canary, None).await;

    let other = Cluster::builder().keyring(cluster.keyring()).setting("fsync", "off").start();
    // Makes the roles that the dump grants to.
    other.database().await;
    let restored = other.empty_database().await;
    dump_and_restore((cluster, &original), (&other, &restored), &canary).await;
    assert_eq!(state(&restored).await, state(&original).await);

    // ALTER DATABASE is not part of a plain dump: the org is the operator's to set again. Until then it is another.
    assert_error(get(&restored.connect(READER).await, ANY).await, ErrorCode::CredentialsNotSet);
    restored.set_org("acme").await;
    let (admin, reader) = (restored.connect(ADMIN).await, restored.connect(READER).await);
    assert_eq!(get(&reader, ANY).await.unwrap(), canary.as_str());
    let aggregator = "SELECT integration_credentials.get_aggregator_credentials('trustradius')";
    let row = reader.query_one(aggregator, &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), canary.as_str());
    assert_error(get(&reader, "hubspot").await, ErrorCode::IntegrationDisabled);
    assert_error(get(&reader, "github").await, ErrorCode::IntegrationNotFound);
    assert_error(get(&reader, "stripe").await, ErrorCode::IntegrationNotFound);
    // Identity columns go on counting where they were, or this would be a duplicate key.
    set(&admin, ANY, "next").await.unwrap();
    set(&admin, "slack", "edited-again").await.unwrap();
    assert_eq!(crate::helpers::calls::revision(&admin, "slack").await, 3);

    // And a dump of the restored one is as good as the first.
    let third = other.empty_database().await;
    dump_and_restore((&other, &restored), (&other, &third), &canary).await;
    assert_eq!(state(&third).await, state(&restored).await);
}

#[tokio::test]
async fn of_parts_of_a_database_the_extension_has_the_rows_and_the_schema_has_none() {
    let canary = Canary::new();
    let cluster = Cluster::shared();
    let original = source(cluster, &canary, None).await;
    let dump = async |part: [&str; 2]| {
        run(cluster.tool("pg_dump").args(part).arg(original.name()), b"").await.success()
    };
    let schema = dump(["-n", "integration_credentials"]).await;
    assert!(!schema.contains("COPY ") && !schema.contains("INSERT "), "{schema}");

    let extension = dump(["-e", "integration_credentials"]).await;
    let restored = cluster.empty_database().await;
    let mut psql = cluster.tool("psql");
    let restore = psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", restored.name()]);
    let output = run(restore, extension.as_bytes()).await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_eq!(state(&restored).await, state(&original).await);
    restored.set_org("acme").await;
    let superuser = restored.superuser().await;
    assert_eq!(get(&superuser, ANY).await.unwrap(), canary.as_str());
    set(&superuser, ANY, "next").await.unwrap();
}

#[tokio::test]
async fn with_another_keyring_nothing_is_read() {
    let canary = Canary::new();
    let cluster = Cluster::shared();
    let original = source(cluster, &canary, None).await;
    let other = Cluster::builder().setting("fsync", "off").start();
    other.database().await;
    let restored = other.empty_database().await;
    dump_and_restore((cluster, &original), (&other, &restored), &canary).await;
    restored.set_org("acme").await;
    let reader = restored.connect(READER).await;
    assert_error(get(&reader, ANY).await, ErrorCode::EncryptionUnavailable);
    set(&restored.connect(ADMIN).await, ANY, "set again").await.unwrap();
    assert_eq!(get(&reader, ANY).await.unwrap(), "set again");
}

#[tokio::test]
async fn a_directory_dump_restores_in_parallel() {
    let canary = Canary::new();
    let cluster = Cluster::shared();
    let original = source(cluster, &canary, None).await;
    let restored = cluster.empty_database().await;
    let archive = cluster.dir().join("archive");
    let mut pg_dump = cluster.tool("pg_dump");
    let dumped = run(pg_dump.args(["-Fd", "-f"]).arg(&archive).arg(original.name()), b"").await;
    assert_eq!(dumped.stderr, "");
    let mut pg_restore = cluster.tool("pg_restore");
    let restore = pg_restore.args(["--exit-on-error", "-j", "4", "-d", restored.name()]).arg(&archive);
    assert_eq!(run(restore, b"").await.stderr, "");
    assert_eq!(state(&restored).await, state(&original).await);
}
