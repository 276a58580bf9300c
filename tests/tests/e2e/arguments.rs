//! The arguments of a call: lengths, NULL, and any text at all.

use crate::helpers::calls::{ANY, get, record_failure, register, set, set_raw};
use crate::helpers::fixture::admin;
use integration_credentials_core::error::ErrorCode;
use serde_json::json;
use tests::{Canary, READER, assert_error};

#[tokio::test]
async fn arguments_are_counted_in_characters() {
    let (database, admin) = admin().await;
    let reader = database.connect(READER).await;
    for unit in ["a", "é", "😀"] {
        for length in [1, 8192] {
            let value = unit.repeat(length);
            set(&admin, ANY, &value).await.unwrap();
            assert_eq!(get(&reader, ANY).await.unwrap(), value);
        }
        let long = unit.repeat(255);
        register(&admin, &long, json!({})).await.unwrap();
        set_raw(&admin, Some(&long), Some("value"), Some(&long)).await.unwrap();

        let (key, value) = (unit.repeat(256), unit.repeat(8193));
        for refused in [
            set_raw(&admin, Some(&key), Some("value"), Some("actor")).await,
            set_raw(&admin, Some(ANY), Some(&value), Some("actor")).await,
            set_raw(&admin, Some(ANY), Some("value"), Some(&key)).await,
        ] {
            let error = assert_error(refused, ErrorCode::InvalidRequest);
            assert!(error.message().contains(" characters"), "{error:?}");
        }
    }
}

#[tokio::test]
async fn null_and_empty_arguments_are_refused_by_name() {
    let (_, admin) = admin().await;
    let given = [Some(ANY), Some("value"), Some("actor")];
    for (index, name) in ["key", "value", "actor"].into_iter().enumerate() {
        for (missing, problem) in [(None, "is NULL"), (Some(""), "is empty")] {
            let mut arguments = given;
            arguments[index] = missing;
            let [key, value, actor] = arguments;
            let error = assert_error(set_raw(&admin, key, value, actor).await, ErrorCode::InvalidRequest);
            assert_eq!(error.message(), format!("{name} {problem}"));
        }
    }
}

#[tokio::test]
async fn any_text_comes_back_as_it_was() {
    let (database, admin) = admin().await;
    let reader = database.connect(READER).await;
    for value in [
        " ",
        "\n",
        "  blanks around  \r\n\t",
        "quotes ' '' \" \\ \\' $$ $1 %s {}",
        "'); DROP TABLE integration_credentials.configured_integrations; --",
        r#"{"json": ["with", 1, null, "\u0000"]}"#,
        "日本語 العربية \u{202e}right to left\u{202c} e\u{301} \u{feff} 👩\u{200d}👩\u{200d}👧 \u{10ffff}",
        "\u{1}\u{7f}\u{85}",
        "<redacted>",
    ] {
        set(&admin, ANY, value).await.unwrap();
        assert_eq!(get(&reader, ANY).await.unwrap(), value);
    }
}

#[tokio::test]
async fn key_and_value_in_the_wrong_order_do_not_show_the_value() {
    let (database, admin) = admin().await;
    let canary = Canary::new();
    let error = assert_error(set(&admin, canary.as_str(), ANY).await, ErrorCode::IntegrationNotFound);
    canary.assert_absent(&error);
    let parameters = json!({"key": canary.as_str(), "value": canary.as_str(), "actor": "actor"}).to_string();
    record_failure(&admin, "integration_not_found", &parameters).await.unwrap();
    let superuser = database.superuser().await;
    let row =
        superuser.query_one("SELECT array_agg(m::text) FROM integration_credentials.tool_metering m", &[]);
    canary.assert_absent(&row.await.unwrap().get::<_, Vec<String>>(0));
}
