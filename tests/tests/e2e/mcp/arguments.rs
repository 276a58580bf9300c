//! Bad arguments: refused, nothing stored, nothing quoted.

use super::scene::{LIST, ORG, REMOVE, SET, Scene};
use crate::helpers::calls::ANY;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tests::Canary;

#[tokio::test]
async fn arguments_that_do_not_fit_are_refused_unquoted() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key_with("admin", ORG, &["--values"]).await;
    let canary = Canary::new();
    let secret = canary.as_str();
    let sealed = served.seal(&key, secret).await;
    let truncated = STANDARD.encode(&STANDARD.decode(&sealed).unwrap()[..60]);
    let set = |more: Value| {
        let mut arguments = json!({"integration_key": ANY});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        (SET, arguments)
    };
    let cases = [
        set(json!({"value": secret, "sealed": sealed})),
        set(json!({"value": ""})),
        set(json!({"sealed": ""})),
        set(json!({"value": "x".repeat(8193)})),
        set(json!({"value": 7})),
        set(json!({"value": [secret]})),
        set(json!({"value": "nul\u{0}"})),
        set(json!({"sealed": format!("{secret}!")})),
        set(json!({"sealed": "A".repeat(44_101)})),
        set(json!({"sealed": truncated})),
        set(json!({"sealed": STANDARD.encode(secret)})),
        set(json!({"sealed": sealed, "expected_revision": secret})),
        set(json!({"sealed": sealed, "expected_revision": -1})),
        set(json!({secret: secret})),
        set(json!({"actor": "someone"})),
        set(json!({"org": "globex"})),
        (SET, json!({})),
        (SET, json!({"integration_key": ""})),
        (SET, json!({"integration_key": null})),
        (SET, json!({"integration_key": "k".repeat(256)})),
        (SET, json!({"integration_key": format!("{secret}\u{0}")})),
        (REMOVE, json!({"integration_key": "\u{0}"})),
        (REMOVE, json!({"integration_key": ANY, "purge": true})),
        (LIST, json!({"limit": 0})),
        (LIST, json!({"limit": 201})),
        (LIST, json!({"limit": secret})),
        (LIST, json!({"keys": []})),
        (LIST, json!({"keys": vec!["k"; 101]})),
        (LIST, json!({"keys": ["k".repeat(256)]})),
        (LIST, json!({"after": "k".repeat(256)})),
        (LIST, json!({"org": "globex"})),
        ("rotation_status", json!({"integration_key": ""})),
        ("get_sealing_key", json!({"org": "globex"})),
    ];
    for (tool, arguments) in cases {
        let result = served.call(&key, tool, arguments.clone()).await;
        assert_eq!(
            result["structuredContent"]["error"]["code"], "invalid_request",
            "{tool} {arguments}: {result}"
        );
        canary.assert_absent(&result.to_string());
    }
    let unknown = served.refused(&key, REMOVE, json!({"integration_key": secret})).await;
    assert_eq!(unknown["code"], "integration_not_found");
    canary.assert_absent(&unknown.to_string());
    assert_eq!(scene.revision().await, 0);
    canary.assert_absent(&served.stderr());
}

#[tokio::test]
async fn a_value_needs_the_right_of_the_key() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let (without, with) = (scene.key("admin").await, scene.key_with("admin", ORG, &["--values"]).await);
    let canary = Canary::new();
    let arguments = json!({"integration_key": ANY, "value": canary.as_str()});
    for odd in
        [arguments.clone(), json!({"value": canary.as_str()}), json!({"integration_key": ANY, "value": {}})]
    {
        let error = served.refused(&without, SET, odd).await;
        assert_eq!(error["code"], "invalid_request");
        let told = error.to_string();
        assert!(told.contains("transcript") && told.contains("vendor"), "{told}");
        canary.assert_absent(&told);
    }
    assert_eq!(scene.revision().await, 0);
    assert_eq!(served.done(&with, SET, arguments).await["hasCredentials"], true);
    assert_eq!(scene.stored().await.as_deref(), Some(canary.as_str()));
    let longest = "😀".repeat(8192);
    let sealed = served.seal(&without, &longest).await;
    assert!(sealed.len() <= 44_100, "{}", sealed.len());
    served.done(&without, SET, json!({"integration_key": ANY, "sealed": sealed})).await;
    assert_eq!(scene.stored().await, Some(longest));
}
