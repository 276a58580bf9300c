//! What a call may cost: nothing that a role gives takes much memory or time, or a server down where there is none left.

use crate::helpers::calls::{ANY, get, register, set};
use crate::helpers::fixture::sqlstate;
use integration_credentials_core::error::ErrorCode;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tests::{ADMIN, Cluster, READER, SUPERUSER, assert_error, backend::peak_memory};

/// What a call may take in addition, in bytes.
const MEMORY: u64 = 80_000_000;
/// On a busy machine.
const TIME: Duration = Duration::from_secs(10);

fn many(count: usize, part: impl Fn(usize) -> Value) -> Value {
    (0..count).map(part).collect()
}

/// The worst rules of each kind that come within 64 KiB, and others that are longer.
fn costly_rules() -> [Value; 7] {
    [
        json!({"pattern": r"(?i)\p{L}{250}"}),
        json!({"pattern": r"(?i:\p{L})".repeat(6000)}),
        json!({"pattern": "(?:(?:a?){300}){300}Z"}),
        json!({"schema": {"allOf": many(2000, |number| json!({"pattern": format!(r"\p{{L}}{{230}}{number}?")}))}}),
        json!({"schema": {"patternProperties": (0..64).map(|number| (format!(r"\p{{L}}{{230}}{number}"), json!({})))
            .collect::<serde_json::Map<_, _>>()}}),
        json!({"schema": {"properties": {"a".repeat(30_000): {"allOf": many(8000, |_| json!({}))}}}}),
        json!({"schema": {"enum": many(400_000, Value::from)}}),
    ]
}

#[tokio::test]
async fn costly_rules_are_refused_and_the_costliest_that_are_not_take_little() {
    let database = Cluster::shared().database().await;
    let admin = database.connect(ADMIN).await;
    let before = peak_memory(admin.pid().await);
    let costly = costly_rules();
    let began = Instant::now();
    for rules in costly {
        assert_error(register(&admin, "costly", rules).await, ErrorCode::InvalidRequest);
    }
    // 64 patterns, in as many integrations as a session remembers.
    for integration in 0..64 {
        let name = format!("costly{integration}");
        let patterns = many(60, |number| json!({"pattern": format!("[a-z]{{150}}{integration}{number}|a")}));
        register(&admin, &name, json!({"pattern": ".*", "schema": {"allOf": patterns}})).await.unwrap();
        set(&admin, &name, &json!("a".repeat(8000)).to_string()).await.unwrap();
    }
    assert!(began.elapsed() < TIME * 6, "{:?}", began.elapsed());
    let taken = peak_memory(admin.pid().await).saturating_sub(before);
    assert!(taken < 2 * MEMORY, "{taken} bytes");
}

#[tokio::test]
async fn arguments_that_are_too_long_are_refused_before_they_are_read() {
    let database = Cluster::shared().database().await;
    let admin = database.connect(ADMIN).await;
    admin
        .batch_execute("SELECT length(repeat('0,', 20000000)), length(repeat('0,', 20000000) || 'x')")
        .await
        .unwrap();
    let before = peak_memory(admin.pid().await);
    for call in [
        "record_tool_failure('admin_set_integration_credentials', 'invalid_request',
            '{\"key\":[' || repeat('0,', 10000000) || '0]}', 1)",
        "admin_set_integration_credentials('any', repeat('x', 40000000), 'actor')",
        "admin_set_integration_credentials(repeat('x', 40000000), 'value', 'actor')",
        "admin_set_integration_credentials('any', 'value', repeat('x', 40000000))",
        "admin_set_integration_credentials_sealed('any', repeat('x', 40000000)::bytea, 'actor')",
        "admin_register_integration('any', 'Any', 'actor', '{}', repeat('x', 40000000))",
        "admin_register_integration('any', 'Any', 'actor', to_jsonb(repeat('x', 40000000)))",
    ] {
        let began = Instant::now();
        let call = format!("SELECT integration_credentials.{call}");
        assert_error(admin.query_one(&call, &[]).await, ErrorCode::InvalidRequest);
        assert!(began.elapsed() < TIME, "{call}: {:?}", began.elapsed());
    }
    // The server's own copies of 40 MB.
    let taken = peak_memory(admin.pid().await).saturating_sub(before);
    assert!(taken < 2 * MEMORY, "{taken} bytes");
}

#[tokio::test]
async fn a_list_of_many_unknown_keys_is_not_kept() {
    let database = Cluster::shared().database().await;
    let reader = database.connect(READER).await;
    let keys = "(SELECT array_agg(n::text) FROM generate_series(1, 600000) n)";
    // With the array, and a copy.
    reader.batch_execute(&format!("SELECT cardinality({keys} || '{{x}}'::text[])")).await.unwrap();
    let before = peak_memory(reader.pid().await);
    let list = format!("SELECT count(*) FROM integration_credentials.list_integrations({keys})");
    assert_eq!(reader.query_one(&list, &[]).await.unwrap().get::<_, i64>(0), 0);
    let taken = peak_memory(reader.pid().await).saturating_sub(before);
    assert!(taken < MEMORY / 5, "{taken} bytes");
}

#[tokio::test]
async fn a_session_without_memory_gets_an_error_and_the_server_lives() {
    let cluster = Cluster::builder().setting("fsync", "off").memory_kb(600_000).start();
    let database = cluster.database().await;
    let witness = database.connect(SUPERUSER).await;
    let admin = database.connect(ADMIN).await;
    let long = "😀".repeat(1 << 18);
    witness.batch_execute("SET integration_credentials.max_value_length = 1048576").await.unwrap();
    register(&admin, "long", json!({})).await.unwrap();
    register(&admin, ANY, json!({"pattern": r"\p{L}{20}|.*"})).await.unwrap();
    set(&witness, "long", &long).await.unwrap();
    let mut refused = 0;
    for spare in [0, 2_000_000, 30_000_000] {
        for step in 0..5 {
            let session = database.connect(SUPERUSER).await;
            session.batch_execute("SET integration_credentials.max_value_length = 1048576").await.unwrap();
            let _ = session
                .batch_execute(&format!("SELECT set_config('my.spare', repeat('x', {}), false)", spare / 2))
                .await;
            // Each is kept twice.
            let mut count = 0;
            for bytes in [30_000_000, 1_000_000, 100_000] {
                let fill = |count| {
                    format!("SELECT length(set_config('my.fill{count}', repeat('x', {bytes}), false))")
                };
                while session.query_one(&fill(count), &[]).await.is_ok() {
                    count += 1;
                }
            }
            let _ = session.batch_execute("SELECT set_config('my.spare', '', false)").await;
            let result = match step {
                0 => register(&session, "other", json!({"pattern": r"\p{L}{20}"})).await.map(|_| ()),
                1 => register(
                    &session,
                    "other",
                    json!({"schema": {"allOf": many(3000, |_| json!({"not": {}}))}}),
                )
                .await
                .map(|_| ()),
                2 => set(&session, ANY, "value").await.map(|_| ()),
                3 => set(&session, "long", &long).await.map(|_| ()),
                _ => get(&session, "long").await.map(|_| ()),
            };
            if let Err(error) = result {
                assert_eq!(sqlstate(Err::<(), _>(error)), "53200", "{spare} bytes, step {step}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
    witness.batch_execute("SELECT 1").await.expect("no crash has ended the session");
    assert_eq!(get(&database.connect(READER).await, "long").await.unwrap(), long);
}
