//! What each kind of client gets while a person types.

use super::{
    page::post,
    scene::{ORG, SET, Scene, Served, modern_with, opens_links, seal},
    stdio,
};
use crate::{
    command_line::eventually,
    helpers::calls::{ANY, register, set},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tests::ADMIN;
use tokio::time::sleep;

/// Asks to set [`ANY`] as a client that opens links; the result.
async fn ask(served: &Served, key: &str, more: &Value) -> Value {
    let mut params = json!({"name": SET, "arguments": {"integration_key": ANY}});
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = served.send(&modern_with("tools/call", params, &opens_links()).key(key)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// The link of a result, and the state to hand back.
fn asked(message: &Value) -> (String, String) {
    let result = &message["result"];
    assert_eq!(result["resultType"], "input_required", "{message}");
    let request = &result["inputRequests"]["credential"];
    assert_eq!(
        (&request["method"], &request["params"]["mode"]),
        (&json!("elicitation/create"), &json!("url"))
    );
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&request["params"]["url"]), text(&result["requestState"]))
}

fn answered(state: &str, action: &str) -> Value {
    json!({"requestState": state, "inputResponses": {"credential": {"action": action}}})
}

async fn enter(served: &Served, key: &str, link: &str, value: &str) {
    let terms = served.done(key, "get_sealing_key", json!({})).await;
    let token = link.split_once('#').unwrap().1;
    let body = json!({"token": token, "sealed": seal(&terms, ANY, value)});
    assert_eq!(served.send(&post(served, "/credential", &body).key(key)).await.status, 200);
}

#[tokio::test]
async fn a_call_waits_for_the_person_and_has_the_receipt_at_once() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let (mut took, mut last) = (Vec::new(), None);
    for number in 0..5 {
        let (link, state) = asked(&ask(&served, &key, &json!({})).await);
        let entering = async {
            sleep(Duration::from_secs(2)).await;
            enter(&served, &key, &link, &format!("typed-{number}")).await;
            Instant::now()
        };
        let waiting = async {
            let message = ask(&served, &key, &answered(&state, "accept")).await;
            (message, Instant::now())
        };
        let (entered, (message, got)) = tokio::join!(entering, waiting);
        assert_eq!(message["result"]["structuredContent"]["hasCredentials"], true, "{message}");
        took.push(got.saturating_duration_since(entered));
        last = Some((state, message));
    }
    // The looks are a second apart, and a busy machine may take long for one of these.
    took.sort_unstable();
    assert!(took[2] < Duration::from_millis(600), "not by the next look: {took:?}");
    let (state, message) = last.unwrap();
    let receipt = &message["result"]["structuredContent"];
    assert_eq!((&receipt["hasCredentials"], &message["result"]["isError"]), (&json!(true), &json!(false)));
    assert_eq!(receipt.get("pending"), None);
    // A retry after that, by another replica.
    let replayed = ask(&scene.serve().await, &key, &answered(&state, "accept")).await;
    assert_eq!(replayed["result"]["structuredContent"], *receipt);
}

#[tokio::test]
async fn an_entry_elsewhere_ends_the_wait_on_every_replica() {
    let scene = Scene::new().await;
    let (first, second) = (scene.serve().await, scene.serve().await);
    let key = scene.key("admin").await;
    let (link, state) = asked(&ask(&first, &key, &json!({})).await);
    drop(first);
    let entering = async {
        sleep(Duration::from_millis(500)).await;
        let third = scene.serve().await;
        enter(&third, &key, &link, "typed").await;
    };
    let accepted = answered(&state, "accept");
    let ((), message) = tokio::join!(entering, ask(&second, &key, &accepted));
    assert_eq!(message["result"]["structuredContent"]["hasCredentials"], true);
}

#[tokio::test]
async fn a_person_who_declines_ends_it() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let (_, state) = asked(&ask(&served, &key, &json!({})).await);
    for action in ["decline", "cancel"] {
        let message = ask(&served, &key, &answered(&state, action)).await;
        assert_eq!(message["result"]["structuredContent"]["error"]["code"], "invalid_request", "{message}");
    }
    assert_eq!(scene.revision().await, 0);
}

#[tokio::test]
async fn a_client_asks_again_without_asking_the_person_again() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let (_, state) = asked(&ask(&served, &key, &json!({})).await);
    let started = Instant::now();
    let message = ask(&served, &key, &answered(&state, "accept")).await;
    let waited = started.elapsed();
    assert!((Duration::from_secs(44)..Duration::from_secs(55)).contains(&waited), "{waited:?}");
    let result = &message["result"];
    assert_eq!(result["resultType"], "input_required");
    assert_eq!(result.get("inputRequests"), None, "{result}");
    assert_ne!(result["requestState"], json!(state));
}

#[tokio::test]
async fn a_state_is_for_one_caller_and_one_call() {
    let scene = Scene::new().await;
    register(&scene.admin, "other", json!({})).await.unwrap();
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let (link, state) = asked(&ask(&served, &key, &json!({})).await);
    let token = link.split_once('#').unwrap().1;
    let verify = async |key: &str, more: Value| {
        let message = ask(&served, key, &more).await;
        assert_eq!(message["error"]["code"], -32602, "{message}");
    };
    verify(&scene.key("admin").await, answered(&state, "accept")).await;
    verify(&scene.key_with("admin", "globex", &[]).await, answered(&state, "accept")).await;
    let mut other = answered(&state, "accept");
    other["arguments"] = json!({"integration_key": "other"});
    verify(&key, other).await;
    verify(&key, answered(&format!("{state}A"), "accept")).await;
    let mut altered = state.clone().into_bytes();
    altered[40] = if altered[40] == b'A' { b'B' } else { b'A' };
    verify(&key, answered(std::str::from_utf8(&altered).unwrap(), "accept")).await;
    verify(&key, answered(token, "accept")).await;
    verify(&key, answered("", "accept")).await;
    // A process with another pepper.
    std::fs::write(scene.pepper(), "another pepper of more than 32 bytes").unwrap();
    let elsewhere = scene.serve().await;
    let stranger = scene.key("admin").await;
    let message = ask(&elsewhere, &stranger, &answered(&state, "accept")).await;
    assert_eq!(message["error"]["code"], -32602);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_the_link_good() {
    use tokio::io::AsyncWriteExt;
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let (link, state) = asked(&ask(&served, &key, &json!({})).await);
    let mut params = json!({"name": SET, "arguments": {"integration_key": ANY}});
    params.as_object_mut().unwrap().extend(answered(&state, "accept").as_object().unwrap().clone());
    let request = modern_with("tools/call", params, &opens_links()).key(&key).written(&served.address());
    let mut stream = tokio::net::TcpStream::connect(served.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    sleep(Duration::from_millis(500)).await;
    drop(stream);
    enter(&served, &key, &link, "typed").await;
    assert_eq!(scene.stored().await.as_deref(), Some("typed"));
}

#[tokio::test]
async fn an_older_client_that_opens_links_is_asked_over_stdio() {
    let scene = Scene::new().await;
    for (action, expected) in
        [("accept", None), ("decline", Some("invalid_request")), ("cancel", Some("invalid_request"))]
    {
        let mut server = stdio::Server::start(&scene, ADMIN);
        server.initialize("2025-11-25", opens_links()).await;
        let call =
            server.request("tools/call", json!({"name": SET, "arguments": {"integration_key": ANY}})).await;
        let request = server.message().await;
        assert_eq!(
            (&request["method"], &request["params"]["mode"]),
            (&json!("elicitation/create"), &json!("url")),
            "{request}"
        );
        assert!(request["params"]["url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
        server.send(&json!({"jsonrpc": "2.0", "id": request["id"], "result": {"action": action}})).await;
        if action == "accept" {
            set(&scene.admin, ANY, "typed elsewhere").await.unwrap();
        }
        let answer = server.message().await;
        assert_eq!(answer["id"], call);
        let object = &answer["result"]["structuredContent"];
        match expected {
            None => assert_eq!(
                (&object["hasCredentials"], object.get("pending")),
                (&json!(true), None),
                "{answer}"
            ),
            Some(code) => assert_eq!(object["error"]["code"], code, "{answer}"),
        }
    }
}

#[tokio::test]
async fn a_client_that_cannot_open_links_gets_one_to_show() {
    let scene = Scene::new().await;
    let form = json!({"elicitation": {}});
    let forms = json!({"elicitation": {"form": {}}});
    for (version, capabilities) in
        [("2025-03-26", json!({})), ("2025-06-18", form.clone()), ("2025-11-25", form), ("2025-11-25", forms)]
    {
        let mut server = stdio::Server::start(&scene, ADMIN);
        server.initialize(version, capabilities).await;
        let result = server.call(SET, json!({"integration_key": ANY})).await;
        assert!(result["structuredContent"]["pending"]["url"].is_string(), "{version}: {result}");
        assert_eq!(result["isError"], false);
    }
    // Over HTTP, an older client has no session in which it could be asked.
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let params = json!({"name": SET, "arguments": {"integration_key": ANY}});
    let request = super::http::Request::mcp(
        &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}),
    );
    let answer = served.send(&request.with("MCP-Protocol-Version", "2025-11-25").key(&key)).await.json();
    assert!(answer["result"]["structuredContent"]["pending"]["url"].is_string(), "{answer}");
}

#[tokio::test]
async fn an_expected_revision_is_checked_before_anybody_types() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key_with("admin", ORG, &[]).await;
    let error = served.refused(&key, SET, json!({"integration_key": ANY, "expected_revision": 3})).await;
    assert_eq!((&error["code"], &error["status"]), (&json!("revision_conflict"), &json!(409)));
    served.done(&key, SET, json!({"integration_key": ANY, "expected_revision": 0})).await;
}

#[tokio::test]
async fn after_an_entry_a_cache_elsewhere_has_the_new_value() {
    use intcred::{CacheOptions, CredentialCache, Settings};
    let scene = Scene::new().await;
    set(&scene.admin, ANY, "first").await.unwrap();
    scene.database.set_role_org(tests::READER, ORG).await;
    let settings = Settings::resolve(Some(&scene.database.dsn(tests::READER))).unwrap();
    let cache = CredentialCache::start(&settings, CacheOptions::default()).await.unwrap();
    assert_eq!(cache.get(ANY).await.unwrap().expose().unwrap(), "first");
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let link = served.link(&key).await;
    enter(&served, &key, &link, "second").await;
    eventually("the cache has it", async || cache.get(ANY).await.unwrap().expose().unwrap() == "second")
        .await;
}
