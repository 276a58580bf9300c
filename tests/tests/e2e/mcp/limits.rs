//! Too much of it: each limit has an answer that says which.

use super::page::post;
use super::scene::{LIST, REMOVE, SET, Scene, modern, modern_with, opens_links};
use crate::{command_line::eventually, helpers::calls::ANY};
use serde_json::json;
use std::time::Duration;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

/// Few, so that a busy machine makes more. The default is in docs/cli.md, which a test generates.
#[tokio::test]
async fn a_key_has_so_many_calls_a_second() {
    let scene = Scene::new().await;
    let served = scene.serve_with(&["--calls-per-second", "2"]).await;
    let (key, other) = (scene.key("user").await, scene.key("user").await);
    let mut accepted = 0;
    let refused = loop {
        let result = served.call(&key, LIST, json!({"limit": 1})).await;
        if result["isError"] == true {
            break result;
        }
        accepted += 1;
        assert!(accepted < 100, "none is refused");
    };
    assert!(accepted >= 2, "{accepted}");
    let error = &refused["structuredContent"]["error"];
    assert_eq!((&error["code"], &error["status"]), (&json!("rate_limited"), &json!(429)));
    assert_eq!(error["message"], "2 calls a second are allowed");
    served.done(&other, LIST, json!({"limit": 1})).await;
    sleep(Duration::from_secs(1)).await;
    served.done(&key, LIST, json!({"limit": 1})).await;
}

#[tokio::test]
async fn a_key_has_60_changes_a_minute() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let mut tried = 0;
    // A change comes back each second.
    let refused = loop {
        let error = served.refused(&key, REMOVE, json!({"integration_key": ANY})).await;
        if error["code"] == "rate_limited" {
            break error;
        }
        assert_eq!(error["code"], "credentials_not_set");
        tried += 1;
        assert!(tried < 200, "none is refused");
    };
    assert!(tried >= 60, "{tried}");
    assert_eq!(refused["message"], "60 changes a minute are allowed");
    served.done(&key, LIST, json!({})).await;
}

#[tokio::test]
async fn a_key_has_8_calls_at_once_of_which_32_wait_in_all() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let mut keys = Vec::new();
    for _ in 0..9 {
        keys.push(scene.key("admin").await);
    }
    let mut states = Vec::new();
    for key in &keys {
        let params = json!({"name": SET, "arguments": {"integration_key": ANY}});
        let asked = served.send(&modern_with("tools/call", params, &opens_links()).key(key)).await.json();
        states.push(asked["result"]["requestState"].as_str().unwrap().to_owned());
    }
    let link = served.link(&keys[0]).await;
    let token = link.split_once('#').unwrap().1;
    // Eight waits of each key.
    let mut calls = JoinSet::new();
    let address = served.address();
    let mut wait = |index: usize| {
        let params = json!({
            "name": SET, "arguments": {"integration_key": ANY}, "requestState": states[index],
            "inputResponses": {"credential": {"action": "accept"}},
        });
        let (request, address) =
            (modern_with("tools/call", params, &opens_links()).key(&keys[index]), address.clone());
        calls.spawn(async move {
            loop {
                request.send(&address).await;
                sleep(Duration::from_millis(500)).await;
            }
        });
    };
    for _ in 0..8 {
        wait(0);
    }
    // A call that looks whether all eight are running may be one of the eight. Then one of those comes again.
    let look = async || {
        sleep(Duration::from_secs(1)).await;
        served.send(&modern("tools/list", json!({})).key(&keys[0])).await
    };
    eventually("eight are running", async || look().await.status == 429).await;
    let answer = look().await;
    answer.assert_error(429, "rate_limited");
    assert!(answer.body.contains("8 calls of this caller are running"), "{answer:?}");
    // The person gets in while calls wait for just that.
    let details = post(&served, "/credential/details", &json!({"token": token})).key(&keys[0]);
    assert_eq!(served.send(&details).await.status, 200);
    served.done(&keys[1], LIST, json!({})).await;
    for index in 1..4 {
        for _ in 0..8 {
            wait(index);
        }
    }
    // Once 32 wait, the next is not kept waiting.
    let params = json!({
        "name": SET, "arguments": {"integration_key": ANY}, "requestState": states[4],
        "inputResponses": {"credential": {"action": "accept"}},
    });
    let next = modern_with("tools/call", params, &opens_links()).key(&keys[4]);
    let comes_again = async || {
        // Time for one that came too late to take the place of the attempt before.
        sleep(Duration::from_secs(1)).await;
        // One that waits does so for 45 seconds.
        let answer = timeout(Duration::from_secs(5), served.send(&next)).await;
        answer.is_ok_and(|answer| answer.json()["result"]["structuredContent"]["pending"]["url"].is_string())
    };
    let told = async { while !comes_again().await {} };
    timeout(Duration::from_mins(2), told).await.expect("the next is told to come again");
    calls.abort_all();
}

#[tokio::test]
async fn a_server_has_64_requests_at_once() {
    use tokio::{io::AsyncWriteExt, net::TcpStream};
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let mut keys = Vec::new();
    for _ in 0..9 {
        keys.push(scene.key("user").await);
    }
    let last = keys.pop().unwrap();
    let mut held = Vec::new();
    for key in &keys {
        let written = modern("tools/list", json!({})).key(key).written(&served.address());
        // Eight requests of each key, whose last byte does not come.
        for _ in 0..8 {
            let mut stream = TcpStream::connect(served.address()).await.unwrap();
            stream.write_all(&written.as_bytes()[..written.len() - 1]).await.unwrap();
            held.push(stream);
        }
    }
    let request = modern("tools/list", json!({})).key(&last);
    let answer = served.send(&request).await;
    answer.assert_error(503, "busy");
    assert_eq!(answer.header("retry-after"), Some("1"));
    drop(held);
    eventually("there is room", async || served.send(&request).await.status == 200).await;
}

#[tokio::test]
async fn connections_of_the_database_are_shared_and_few() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let mut keys = Vec::new();
    for _ in 0..40 {
        keys.push(scene.key("user").await);
    }
    for key in &keys {
        served.done(key, LIST, json!({"limit": 1})).await;
    }
    let superuser = scene.database.superuser().await;
    let open =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename LIKE 'icred%'";
    // A backend whose client has left ends a moment later.
    let has_few = async |open: &str, most: i64| {
        let count: i64 = superuser.query_one(open, &[]).await.unwrap().get(0);
        (1..=most).contains(&count)
    };
    eventually("32 at most", async || has_few(open, 32).await).await;
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let (request, address) = (modern("tools/list", json!({})).key(&keys[0]), served.address());
        calls.spawn(async move { request.send(&address).await.status });
    }
    assert!(calls.join_all().await.iter().all(|status| *status == 200));
    let of_one = format!("{open} AND usename = '{}'", &keys[0][..16]);
    eventually("two of a key at most", async || has_few(&of_one, 2).await).await;
}

#[tokio::test]
async fn a_signal_ends_the_server() {
    let scene = Scene::new().await;
    let mut served = scene.serve().await;
    assert_eq!(served.end().await, 0);
}
