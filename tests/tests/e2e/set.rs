//! The steps of the set call: arguments, catalog, rules, encryption, upsert, audit, metering, result.

use crate::helpers::calls::{ANY, enable, get, register, set};
use crate::helpers::fixture::admin;
use integration_credentials_core::error::ErrorCode;
use serde_json::json;
use tests::{ADMIN, Canary, Cluster, READER, assert_error};

#[tokio::test]
async fn the_result_says_what_was_done_and_never_the_value() {
    let (database, admin) = admin().await;
    let canary = Canary::new();
    let result = set(&admin, ANY, canary.as_str()).await.unwrap();
    canary.assert_absent(&result);

    let updated_at = result["updatedAt"].as_str().unwrap().to_owned();
    assert_eq!(
        result,
        json!({"key": ANY, "isConfigured": true, "hasCredentials": true, "updatedAt": updated_at})
    );
    // 2026-04-29T14:00:00.000Z, and the row's own.
    let superuser = database.superuser().await;
    let row = superuser
        .query_one(
            "SELECT updated_at = $1::text::timestamptz + (updated_at - date_trunc('milliseconds', updated_at)),
                    $1 ~ '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z$'
             FROM integration_credentials.configured_integrations",
            &[&updated_at],
        )
        .await
        .unwrap();
    assert_eq!((row.get(0), row.get(1)), (true, true), "{updated_at}");
    assert_eq!(get(&database.connect(READER).await, ANY).await.unwrap(), canary.as_str());
}

#[tokio::test]
async fn what_is_refused_leaves_everything_as_it_was() {
    let (database, admin) = admin().await;
    let superuser = database.superuser().await;
    register(&admin, "strict", json!({"prefix": "good"})).await.unwrap();
    set(&admin, "strict", "good").await.unwrap();
    register(&admin, "off", json!({})).await.unwrap();
    set(&admin, "off", "value").await.unwrap();
    enable(&admin, "off", false).await.unwrap();

    let state = "SELECT string_agg(t::text, ';' ORDER BY t::text) FROM (
        SELECT c::text FROM integration_credentials.configured_integrations c
        UNION ALL SELECT a::text FROM integration_credentials.webapp_org_admin_audit_log a
        UNION ALL SELECT m::text FROM integration_credentials.tool_metering m) t";
    let before: String = superuser.query_one(state, &[]).await.unwrap().get(0);
    for (key, code, message) in [
        ("strict", ErrorCode::InvalidCredentials, "the value does not begin with \"good\""),
        ("off", ErrorCode::IntegrationDisabled, "integration \"off\" is disabled"),
        ("nowhere", ErrorCode::IntegrationNotFound, "the catalog has no integration with this key"),
        ("", ErrorCode::InvalidRequest, "key is empty"),
    ] {
        let canary = Canary::new();
        let error = assert_error(set(&admin, key, canary.as_str()).await, code);
        assert_eq!(error.message(), message);
        canary.assert_absent(&error);
    }
    let after: String = superuser.query_one(state, &[]).await.unwrap().get(0);
    assert_eq!(before, after);
    assert_eq!(get(&database.connect(READER).await, "strict").await.unwrap(), "good");
}

#[tokio::test]
async fn a_read_only_transaction_is_refused_before_anything_is_done() {
    let (_, admin) = admin().await;
    admin.batch_execute("BEGIN READ ONLY").await.unwrap();
    let error = set(&admin, ANY, "value").await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().code().code(), "25006");
    admin.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn a_kept_plan_survives_a_change_of_its_table() {
    let (database, admin) = admin().await;
    set(&admin, ANY, "before").await.unwrap();
    let superuser = database.superuser().await;
    let alter =
        "ALTER TABLE integration_credentials.configured_integrations ADD COLUMN note text DEFAULT 'x'";
    superuser.batch_execute(alter).await.unwrap();
    set(&admin, ANY, "after").await.unwrap();
    assert_eq!(get(&database.connect(READER).await, ANY).await.unwrap(), "after");
}

#[tokio::test]
async fn upsert_audit_and_metering_are_planned_once_a_session() {
    let cluster = Cluster::builder()
        .preload("pg_stat_statements")
        .setting("pg_stat_statements.track", "all")
        .setting("pg_stat_statements.track_planning", "on")
        .setting("plan_cache_mode", "force_generic_plan")
        .start();
    let database = cluster.database().await;
    let superuser = database.superuser().await;
    superuser.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    set(&admin, ANY, "value").await.unwrap();
    // The logs have rows added without a statement, unless somebody has changed them.
    let column = "ALTER TABLE integration_credentials.webapp_org_admin_audit_log ADD note text;
                  ALTER TABLE integration_credentials.tool_metering ADD note text";
    for (change, expected) in [("", 1), (column, 3)] {
        superuser.batch_execute(change).await.unwrap();
        superuser.batch_execute("SELECT pg_stat_statements_reset()").await.unwrap();
        for _ in 0..20 {
            set(&admin, ANY, "value").await.unwrap();
        }
        let statement = "SELECT query, plans, calls FROM pg_stat_statements
                         WHERE query ~ 'INSERT INTO integration_credentials'
                             AND query !~ 'audit_blocks|credential_reads'";
        let inserts = superuser.query(statement, &[]).await.unwrap();
        assert_eq!(inserts.len(), expected);
        for insert in inserts {
            let counted = (insert.get::<_, i64>(1) <= 1, insert.get::<_, i64>(2));
            assert_eq!(counted, (true, 20), "{}", insert.get::<_, &str>(0));
        }
    }
}
