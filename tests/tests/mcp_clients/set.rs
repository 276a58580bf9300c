//! What each official SDK shows of each tool, over stdio and over HTTP.

use crate::{
    browser::Browser,
    client::{Answer, Client, Elicitation, Sdk},
    scene::{SLACK, STDIO, Scene, pending},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::fs;
use tests::{intcred, run};

const SET: &str = "admin_set_integration_credentials";
const REMOVE: &str = "admin_remove_integration_credentials";
const ADMINS: [&str; 4] = ["list_integrations", SET, REMOVE, "get_sealing_key"];

/// The entry of [`SLACK`] in the list.
async fn entry(client: &mut Client) -> Value {
    let list = client.content("list_integrations", json!({"keys": [SLACK]})).await;
    list["integrations"][0].clone()
}

/// Goes through all that an admin does, with a client that opens links and one that cannot.
async fn admin_does_everything(sdk: Sdk, server: &Value, key: Option<&str>, scene: &Scene) {
    let mut browser = Browser::start(&scene.file(&format!("{sdk:?}-profile"))).await;
    let log = scene.file(&format!("{sdk:?}.log"));
    let mut client = Client::connect(sdk, server, Elicitation::Url, &log).await;
    let tools = client.tools().await;
    assert!(ADMINS.iter().all(|tool| tools.contains(&(*tool).to_owned())), "{sdk:?}: {tools:?}");
    let before = entry(&mut client).await["revision"].as_i64().unwrap();

    let is_asked = key.is_none() || sdk.is_modern();
    match client.call(SET, json!({"integration_key": SLACK})).await {
        // A person opens the link, and types while the call waits.
        Answer::Link(link) if is_asked => {
            client.reply("accept").await;
            browser.enter(&link, key).await;
            browser.store("xoxb-typed").await;
            let receipt = client.answer().await.content();
            assert_eq!(
                (&receipt["key"], &receipt["hasCredentials"]),
                (&json!(SLACK), &json!(true)),
                "{sdk:?}"
            );
            // A person who declines stores nothing.
            client.call(SET, json!({"integration_key": SLACK})).await.link();
            client.reply("decline").await;
            assert_eq!(client.answer().await.refusal(), "invalid_request", "{sdk:?}");
        }
        Answer::Result(result) if !is_asked => {
            let link = result["structuredContent"]["pending"]["url"].as_str();
            browser.enter(link.unwrap_or_else(|| panic!("{sdk:?}: {result}")), key).await;
            browser.store("xoxb-typed").await;
        }
        other => panic!("{sdk:?}: {other:?}"),
    }
    assert_eq!(scene.value().await.as_deref(), Some("xoxb-typed"));
    assert_eq!(entry(&mut client).await["revision"], before + 1);

    // A program seals.
    let to = client.content("get_sealing_key", json!({})).await;
    let mut seal = intcred();
    let file = scene.file("sealing-key.json");
    fs::write(&file, to.to_string()).unwrap();
    seal.args(["seal", SLACK, "--to"]).arg(&file);
    let sealed = run(&mut seal, b"xoxb-sealed\n").await.success();
    let receipt = client.content(SET, json!({"integration_key": SLACK, "sealed": sealed.trim()})).await;
    assert_eq!(receipt["hasCredentials"], true, "{sdk:?}: {receipt}");
    assert_eq!(scene.value().await.as_deref(), Some("xoxb-sealed"));

    // Each error has its code.
    for (tool, arguments, code) in [
        (SET, json!({"integration_key": "nowhere"}), "integration_not_found"),
        (
            SET,
            json!({"integration_key": SLACK, "sealed": STANDARD.encode("not sealed at all")}),
            "invalid_request",
        ),
        (SET, json!({"integration_key": SLACK, "value": "xoxb-in-a-transcript"}), "invalid_request"),
        (REMOVE, json!({"integration_key": ""}), "invalid_request"),
    ] {
        assert_eq!(client.call(tool, arguments.clone()).await.refusal(), code, "{sdk:?}: {tool} {arguments}");
    }
    let Answer::Error(unknown) = client.call("no_tool_at_all", json!({})).await else { panic!("{sdk:?}") };
    assert_eq!(unknown["code"], -32602, "{sdk:?}: {unknown}");

    // A client that opens no links is told of one.
    let log = scene.file(&format!("{sdk:?}-plain.log"));
    let mut plain = Client::connect(sdk, server, Elicitation::None, &log).await;
    let link = pending(&mut plain).await;
    browser.enter(&link, key).await;
    browser.store("xoxb-pending").await;
    assert_eq!(scene.value().await.as_deref(), Some("xoxb-pending"));
    assert_eq!(entry(&mut plain).await["revision"], before + 3);

    let receipt = plain.content(REMOVE, json!({"integration_key": SLACK})).await;
    assert_eq!(receipt["hasCredentials"], false, "{sdk:?}: {receipt}");
    assert_eq!(scene.value().await, None);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_does_everything_over_stdio() {
    let scene = Scene::new().await;
    for sdk in Sdk::ALL {
        admin_does_everything(sdk, &scene.over_stdio(STDIO), None, &scene).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_does_everything_over_http() {
    let scene = Scene::new().await;
    let key = scene.key(&["--scope", "admin"]).await;
    let proxy = scene.proxy(None).await;
    let _server = scene.replica(&proxy, &[], &[]).await;
    for sdk in Sdk::ALL {
        admin_does_everything(sdk, &Scene::over_http(&proxy, &key), Some(&key), &scene).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn user_lists_and_does_nothing_else() {
    let scene = Scene::new().await;
    let key = scene.key(&["--scope", "user"]).await;
    let proxy = scene.proxy(None).await;
    let _server = scene.replica(&proxy, &[], &[]).await;
    for sdk in Sdk::ALL {
        let log = scene.file("user.log");
        let mut client = Client::connect(sdk, &Scene::over_http(&proxy, &key), Elicitation::Url, &log).await;
        assert_eq!(client.tools().await, ["list_integrations"], "{sdk:?}");
        assert_eq!(entry(&mut client).await["key"], SLACK, "{sdk:?}");
        assert_eq!(
            client.call(SET, json!({"integration_key": SLACK})).await.refusal(),
            "forbidden_admin_scope",
            "{sdk:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn value_is_an_argument_for_a_key_made_for_it() {
    let scene = Scene::new().await;
    let key = scene.key(&["--scope", "admin", "--values"]).await;
    let proxy = scene.proxy(None).await;
    let _server = scene.replica(&proxy, &[], &[]).await;
    for sdk in Sdk::ALL {
        let log = scene.file("values.log");
        let mut client = Client::connect(sdk, &Scene::over_http(&proxy, &key), Elicitation::None, &log).await;
        let value = format!("xoxb-{sdk:?}");
        let receipt = client.content(SET, json!({"integration_key": SLACK, "value": value})).await;
        assert_eq!(receipt["hasCredentials"], true, "{sdk:?}: {receipt}");
        assert_eq!(scene.value().await, Some(value));
        let wrong = client.call(SET, json!({"integration_key": SLACK, "value": "no prefix"})).await;
        assert_eq!(wrong.refusal(), "invalid_credentials", "{sdk:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_key_is_refused_at_the_next_request() {
    let scene = Scene::new().await;
    let proxy = scene.proxy(None).await;
    for sdk in Sdk::ALL {
        // A server counts the refused logins of an address.
        let _server = scene.replica(&proxy, &[], &[]).await;
        let key = scene.key(&["--scope", "admin"]).await;
        let log = scene.file("revoked.log");
        let mut client = Client::connect(sdk, &Scene::over_http(&proxy, &key), Elicitation::None, &log).await;
        let link = pending(&mut client).await;
        let mut browser = Browser::start(&scene.file(&format!("revoked-{sdk:?}"))).await;
        browser.enter(&link, Some(&key)).await;
        browser.says("Enter the credential").await;
        scene.revoke(&key).await;
        assert!(matches!(client.call("list_integrations", json!({})).await, Answer::Error(_)), "{sdk:?}");
        browser.fill("Credential", "xoxb-of-a-revoked-key").await;
        browser.click("Store").await;
        browser.says("key").await;
        assert_eq!(scene.value().await, None, "{sdk:?}");
        let refused =
            Client::try_connect(sdk, &Scene::over_http(&proxy, &key), Elicitation::None, &log).await;
        assert!(refused.is_err(), "{sdk:?}");
    }
}
