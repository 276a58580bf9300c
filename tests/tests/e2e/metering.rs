//! The metering log: a row for each call, with the value redacted.

use crate::helpers::calls::{ANY, count, record_failure, set};
use crate::helpers::fixture::admin;
use integration_credentials_core::error::ErrorCode;
use serde_json::{Value, json};
use tests::{Canary, assert_error};

#[tokio::test]
async fn each_call_is_metered_with_the_value_redacted() {
    let (database, admin) = admin().await;
    set(&admin, ANY, "value").await.unwrap();
    let superuser = database.superuser().await;
    let statement = "SELECT org_slug, actor, outcome, duration_ms, metadata
                     FROM integration_credentials.tool_metering
                     WHERE tool_key = 'admin_set_integration_credentials'";
    let row = superuser.query_one(statement, &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1), row.get(2)), (database.name(), "actor", "ok"));
    let duration: f64 = row.get(3);
    assert!(duration > 0.0 && duration < 60_000.0, "{duration}");
    let metadata: Value = row.get(4);
    assert_eq!(metadata, json!({"parameters": {"key": ANY, "value": "<redacted>", "actor": "actor"}}));
}

#[tokio::test]
async fn a_failed_call_is_metered_by_the_client_and_redacted_by_the_server() {
    let (database, admin) = admin().await;
    let canary = Canary::new();
    let parameters =
        json!({"key": ANY, "value": canary.as_str(), "actor": "actor", "Value": canary.as_str()}).to_string();
    record_failure(&admin, "invalid_credentials", &parameters).await.unwrap();
    let superuser = database.superuser().await;
    let statement = "SELECT outcome, actor, duration_ms, metadata FROM integration_credentials.tool_metering
                     WHERE outcome <> 'ok'";
    let row = superuser.query_one(statement, &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1), row.get(2)), ("invalid_credentials", "actor", 1.5));
    let expected = json!({"parameters": {"key": ANY, "value": "<redacted>", "actor": "actor"}});
    assert_eq!(row.get::<_, Value>(3), expected);

    let rows = count(&superuser, "tool_metering").await;
    for (outcome, parameters) in
        [("no_such_code", "{}"), ("invalid_request", "not json"), ("invalid_request", "[]")]
    {
        assert_error(record_failure(&admin, outcome, parameters).await, ErrorCode::InvalidRequest);
    }
    assert_eq!(count(&superuser, "tool_metering").await, rows);
}
