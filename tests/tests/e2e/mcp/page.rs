//! Links, and the two calls of the page.

use super::{
    http::Request,
    scene::{LIST, ORG, SET, Scene, Served, modern, seal},
    stdio,
};
use crate::helpers::calls::{ANY, enable, set};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tests::{ADMIN, Canary};

/// A call of the page's script, as the browser makes it.
pub fn post(served: &Served, path: &str, body: &Value) -> Request {
    post_to(&served.url(), path, body)
}

fn post_to(url: &str, path: &str, body: &Value) -> Request {
    Request::new("POST", path)
        .with("Content-Type", "application/json")
        .with("Origin", url)
        .with("Sec-Fetch-Site", "same-origin")
        .body(&body.to_string())
}

fn token(link: &str) -> &str {
    link.split_once("/credential#").unwrap().1
}

#[tokio::test]
async fn who_asked_enters_the_value_and_the_link_is_used() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key_with("admin", ORG, &["--label", "Ann's agent"]).await;
    let canary = Canary::new();
    let result = served.call(&key, SET, json!({"integration_key": ANY})).await;
    let object = &result["structuredContent"];
    assert_eq!((&object["hasCredentials"], &object["pending"]["revision"]), (&json!(false), &json!(0)));
    let told = result["content"][0]["text"].as_str().unwrap();
    assert!(told.contains("Do not ask for the secret") && told.contains("intcred set"), "{told}");
    let link = object["pending"]["url"].as_str().unwrap();
    assert!(link.starts_with(&format!("{}/credential#", served.url())), "{link}");
    let token = token(link);

    let details =
        served.send(&post(&served, "/credential/details", &json!({"token": token})).key(&key)).await;
    assert_eq!(details.status, 200, "{details:?}");
    let details = details.json();
    let shown = |name: &str| details[name].as_str().unwrap().to_owned();
    assert_eq!((shown("org"), shown("key"), shown("displayName")), (ORG.into(), ANY.into(), ANY.into()));
    assert_eq!((shown("requestedBy"), shown("role")), ("Ann's agent".into(), key[..16].to_owned()));
    assert_eq!((&details["docsUrl"], &details["rules"]), (&json!(null), &json!(null)));
    assert!(shown("expiresAt") > shown("requestedAt"));
    let sealing: Vec<_> = details["sealing"].as_object().unwrap().keys().collect();
    assert_eq!(sealing, ["form", "issuedAt", "keyId", "org", "publicKey", "role"]);

    let entry = json!({"token": token, "sealed": seal(&details["sealing"], ANY, canary.as_str())});
    let stored = served.send(&post(&served, "/credential", &entry).key(&key)).await;
    assert_eq!(stored.status, 200, "{stored:?}");
    assert_eq!(stored.json()["hasCredentials"], true);
    assert_eq!(scene.stored().await.as_deref(), Some(canary.as_str()));
    // The same link again, on this replica and on another.
    for served in [&served, &scene.serve().await] {
        let used = post(served, "/credential/details", &json!({"token": token})).key(&key);
        served.send(&used).await.assert_error(409, "revision_conflict");
        let sealed = served.seal(&key, "second").await;
        let again = post(served, "/credential", &json!({"token": token, "sealed": sealed})).key(&key);
        served.send(&again).await.assert_error(409, "revision_conflict");
    }
    assert_eq!(scene.stored().await.as_deref(), Some(canary.as_str()));
    assert_eq!(served.done(&key, LIST, json!({"keys": [ANY]})).await["integrations"][0]["revision"], 1);
}

#[tokio::test]
async fn another_person_cannot_use_a_link() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let link = served.link(&key).await;
    let body = json!({"token": token(&link)});
    for (other, status, code) in [
        (scene.key("admin").await, 403, "forbidden_admin_scope"),
        (scene.key_with("admin", "globex", &[]).await, 403, "forbidden_admin_scope"),
        (scene.key("user").await, 403, "forbidden_admin_scope"),
    ] {
        let answer = served.send(&post(&served, "/credential/details", &body).key(&other)).await;
        answer.assert_error(status, code);
        assert!(!answer.body.contains(ANY) && !answer.body.contains(ORG), "{answer:?}");
        let sealed = STANDARD.encode("sealed");
        let entry =
            post(&served, "/credential", &json!({"token": token(&link), "sealed": sealed})).key(&other);
        served.send(&entry).await.assert_error(status, code);
    }
    served.send(&post(&served, "/credential/details", &body)).await.assert_error(401, "unauthorized");
    assert_eq!(scene.revision().await, 0);
}

#[tokio::test]
async fn forged_and_altered_links_are_not_valid() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let link = served.link(&key).await;
    let good = token(&link);
    let middle = good.len() / 2;
    let flipped = if good.as_bytes()[middle] == b'A' { "B" } else { "A" };
    let altered = format!("{}{flipped}{}", &good[..middle], &good[middle + 1..]);
    // The state that a client hands back is no link.
    let params = json!({"name": SET, "arguments": {"integration_key": ANY}});
    let asked = served
        .send(&super::scene::modern_with("tools/call", params, &super::scene::opens_links()).key(&key))
        .await;
    let state = asked.json()["result"]["requestState"].as_str().unwrap().to_owned();
    for forged in [altered.as_str(), &good[1..], "", "A", &"A".repeat(9000), &state] {
        for path in ["/credential/details", "/credential"] {
            let mut body = json!({"token": forged});
            if path == "/credential" {
                body["sealed"] = STANDARD.encode("sealed").into();
            }
            let answer = served.send(&post(&served, path, &body).key(&key)).await;
            answer.assert_error(400, "invalid_request");
        }
    }
    for body in
        ["", "[]", "{}", r#"{"token":1}"#, r#"{"token":"a","role":"b"}"#, r#"{"token":"a","sealed":"?"}"#]
    {
        for path in ["/credential/details", "/credential"] {
            served
                .send(&post(&served, path, &json!({})).body(body).key(&key))
                .await
                .assert_error(400, "invalid_request");
        }
    }
}

#[tokio::test]
async fn only_the_page_itself_may_call() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let link = served.link(&key).await;
    for path in ["/credential/details", "/credential"] {
        let good = post(&served, path, &json!({"token": token(&link)})).key(&key);
        for bad in [
            good.clone().with("Origin", "https://evil.example"),
            good.clone().with("Origin", "null"),
            good.clone().without("Origin"),
            good.clone().with("Sec-Fetch-Site", "cross-site"),
            good.clone().with("Sec-Fetch-Site", "same-site"),
            good.clone().without("Sec-Fetch-Site"),
            good.clone().with("Host", "evil.example"),
        ] {
            served.send(&bad).await.assert_error(403, "forbidden_origin");
        }
        for form in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
            served
                .send(&good.clone().with("Content-Type", form))
                .await
                .assert_error(415, "unsupported_media_type");
        }
    }
}

#[tokio::test]
async fn the_document_is_constant_and_shut_in() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let link = served.link(&key).await;
    let path = link.strip_prefix(&served.url()).unwrap().split('#').next().unwrap();
    let page = served.send(&Request::new("GET", path)).await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    for part in ["default-src 'none'", "frame-ancestors 'none'", "connect-src 'self'", "form-action 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    for (name, value) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(page.header(name), Some(value));
    }
    assert_eq!(page.header("set-cookie"), None);
    assert_eq!(served.send(&Request::new("HEAD", path)).await.status, 200);
    // Whoever looks at it, it is the same, and the link is not used.
    let again = served.send(&Request::new("GET", path).with("User-Agent", "Slackbot-LinkExpanding")).await;
    assert_eq!(again.body, page.body);
    let details = post(&served, "/credential/details", &json!({"token": token(&link)})).key(&key);
    assert_eq!(served.send(&details).await.status, 200);
}

#[tokio::test]
async fn a_refused_value_leaves_the_link_good() {
    let scene = Scene::new().await;
    crate::helpers::calls::register(&scene.admin, ANY, json!({"prefix": "sk-"})).await.unwrap();
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let link = served.link(&key).await;
    let details = served
        .send(&post(&served, "/credential/details", &json!({"token": token(&link)})).key(&key))
        .await
        .json();
    assert_eq!(details["rules"], json!({"prefix": "sk-"}));
    for (value, status) in [("hunter2", 400), ("sk-hunter2", 200)] {
        let entry = json!({"token": token(&link), "sealed": seal(&details["sealing"], ANY, value)});
        let answer = served.send(&post(&served, "/credential", &entry).key(&key)).await;
        assert_eq!(answer.status, status, "{answer:?}");
        if status == 400 {
            answer.assert_error(400, "invalid_credentials");
        }
        assert!(!answer.body.contains("hunter2"));
    }
    assert_eq!(scene.stored().await.as_deref(), Some("sk-hunter2"));
}

#[tokio::test]
async fn a_link_is_for_what_the_row_was_when_it_was_made() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let link = served.link(&key).await;
    set(&scene.admin, ANY, "by somebody else").await.unwrap();
    let sealed = served.seal(&key, "late").await;
    let entry = post(&served, "/credential", &json!({"token": token(&link), "sealed": sealed})).key(&key);
    served.send(&entry).await.assert_error(409, "revision_conflict");
    let link = served.link(&key).await;
    enable(&scene.admin, ANY, false).await.unwrap();
    let details = post(&served, "/credential/details", &json!({"token": token(&link)})).key(&key);
    served.send(&details).await.assert_error(400, "integration_disabled");
    assert_eq!(scene.revision().await, 1);
}

#[tokio::test]
async fn two_entries_at_once_are_one() {
    let scene = Scene::new().await;
    let (first, second) = (scene.serve().await, scene.serve().await);
    let key = scene.key("admin").await;
    let link = first.link(&key).await;
    let terms = first.done(&key, "get_sealing_key", json!({})).await;
    let entry = |served: &Served, value| {
        let body = json!({"token": token(&link), "sealed": seal(&terms, ANY, value)});
        let (request, address) = (post(served, "/credential", &body).key(&key), served.address());
        async move { request.send(&address).await.status }
    };
    let answers = tokio::join!(entry(&first, "a"), entry(&second, "b"), entry(&first, "c"));
    let mut statuses = [answers.0, answers.1, answers.2];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409]);
    assert_eq!(scene.revision().await, 1);
}

#[tokio::test]
async fn stdios_page_is_for_the_user_of_the_process() {
    let scene = Scene::new().await;
    let mut server = stdio::Server::start(&scene, ADMIN);
    server.initialize("2025-11-25", json!({})).await;
    let result = server.call(SET, json!({"integration_key": ANY})).await;
    let link = result["structuredContent"]["pending"]["url"].as_str().unwrap().to_owned();
    let (url, _) = link.split_once("/credential#").unwrap();
    let address = url.strip_prefix("http://").unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    // No key: the connection is ours.
    let details = post_to(url, "/credential/details", &json!({"token": token(&link)})).send(address).await;
    assert_eq!(details.status, 200, "{details:?}");
    let details = details.json();
    assert_eq!((&details["role"], &details["org"]), (&json!(ADMIN), &json!(ORG)));
    // Another user of this machine gets no byte.
    let mut command = tokio::process::Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "5", &format!("{url}/credential")]).uid(65534);
    let other = tests::run(&mut command, b"").await;
    // An empty reply, or a reset of the connection.
    assert!([52, 56].contains(&other.code) && other.stdout.is_empty(), "{other:?}");
    // Nor is it an MCP server, which a page of a foreign site could look for.
    let mcp = modern("tools/list", json!({})).send(address).await;
    assert_eq!(mcp.status, 405, "{mcp:?}");
    let entry = json!({"token": token(&link), "sealed": seal(&details["sealing"], ANY, "typed")});
    assert_eq!(post_to(url, "/credential", &entry).send(address).await.status, 200);
    assert_eq!(scene.stored().await.as_deref(), Some("typed"));
    // Links of one process are not another's.
    let mut other = stdio::Server::start(&scene, ADMIN);
    other.initialize("2025-11-25", json!({})).await;
    let result = other.call(SET, json!({"integration_key": ANY})).await;
    let theirs = result["structuredContent"]["pending"]["url"].as_str().unwrap().to_owned();
    let forged = post_to(url, "/credential/details", &json!({"token": token(&theirs)})).send(address).await;
    forged.assert_error(400, "invalid_request");
}
