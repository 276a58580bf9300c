//! Making, listing and revoking API keys; who gets in.

use super::{
    http::Request,
    scene::{LIST, ORG, SET, Scene, modern},
};
use crate::{command_line::assert_fails, helpers::calls::ANY};
use serde_json::{Value, json};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};
use tests::{ADMIN, Cluster, SUPERUSER, intcred, run};

#[tokio::test]
async fn a_key_is_printed_once_and_the_server_keeps_a_verifier() {
    let scene = Scene::new().await;
    let key =
        scene.key_with("admin", ORG, &["--label", "ci", "--values", "--valid-until", "2099-01-01"]).await;
    assert_eq!((key.len(), &key[..6]), (66, "icred_"));
    let superuser = scene.database.superuser().await;
    let role = &key[..16];
    let row = superuser
        .query_one(
            "SELECT rolpassword, rolconnlimit, rolsuper, rolinherit FROM pg_authid WHERE rolname = $1",
            &[&role],
        )
        .await
        .unwrap();
    assert!(row.get::<_, &str>(0).starts_with("SCRAM-SHA-256$4096:"));
    assert_eq!((row.get::<_, i32>(1), row.get::<_, bool>(2), row.get::<_, bool>(3)), (8, false, true));
    let listed = scene.operator(&["--json", "mcp", "key", "list"]).await.success();
    assert!(!listed.contains(&key[17..]), "{listed}");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let ours = listed.as_array().unwrap().iter().find(|row| row["id"] == role).unwrap();
    let groups = ["admin", "mcp", "mcp_values"].map(|group| format!("integration_credentials_{group}"));
    let expected = json!({
        "id": role, "label": "ci", "org": ORG, "groups": groups, "validUntil": "2099-01-01T00:00:00.000Z", "isRevoked": false,
    });
    assert_eq!(*ours, expected);
    // Neither half alone is a password.
    let login = |password: &str| {
        let dsn = format!("{} password='{password}'", scene.database.dsn(role));
        async move { run(intcred().args(["--dsn", &dsn, "list"]), b"").await.code }
    };
    assert_eq!(login(&key).await, 3);
    assert_eq!(login("a pepper of more than 32 bytes, and no secret").await, 3);
}

#[tokio::test]
async fn keys_are_a_superusers_to_make_and_revoke() {
    let scene = Scene::new().await;
    let pepper = scene.pepper();
    let add = |role: &str, more: &[&str]| {
        let mut command = intcred();
        command.args([
            "--dsn",
            &scene.database.dsn(role),
            "mcp",
            "key",
            "add",
            "--org",
            ORG,
            "--scope",
            "user",
        ]);
        command.arg("--pepper-file").arg(&pepper).args(more);
        async move { run(&mut command, b"").await }
    };
    assert_fails(&add(ADMIN, &[]).await, 3, "only a superuser");
    assert_fails(&add(SUPERUSER, &["--label", "a\nb"]).await, 2, "the label");
    fs::set_permissions(&pepper, Permissions::from_mode(0o644)).unwrap();
    assert_fails(&add(SUPERUSER, &[]).await, 2, "chmod 600");
    fs::set_permissions(&pepper, Permissions::from_mode(0o600)).unwrap();
    for content in ["short", &"long".repeat(300)] {
        fs::write(&pepper, content).unwrap();
        assert_fails(&add(SUPERUSER, &[]).await, 2, "32 to 1024 bytes");
    }
    assert_fails(&scene.operator(&["mcp", "key", "revoke", "icred_nobody0000"]).await, 2, "there is no key");
    assert_fails(&scene.operator(&["mcp", "key", "revoke", SUPERUSER]).await, 2, "there is no key");
    let quoted = "O'Neil \"x\"; DROP ROLE postgres";
    fs::write(&pepper, "a pepper of more than 32 bytes, and no secret").unwrap();
    assert_eq!(add(SUPERUSER, &["--label", quoted]).await.code, 0);
    let listed: Value =
        serde_json::from_str(&scene.operator(&["--json", "mcp", "key", "list"]).await.success()).unwrap();
    assert!(listed.as_array().unwrap().iter().any(|row| row["label"] == quoted), "{listed}");
}

#[tokio::test]
async fn whoever_has_no_valid_key_gets_the_same_answer() {
    let scene = Scene::new().await;
    let good = scene.key("user").await;
    let (revoked, expired) =
        (scene.key("user").await, scene.key_with("user", ORG, &["--valid-until", "2001-01-01"]).await);
    scene.revoke(&revoked).await;
    let unknown = other_secret(&good);
    let request = modern("tools/list", json!({}));
    let with = |value: &str| request.clone().with("Authorization", value);
    let cases = [
        request.clone(),
        with(&format!("Basic {good}")),
        with(&good),
        with("Bearer"),
        with("Bearer "),
        with("Bearer hunter2"),
        with(&format!("Bearer {}x", &good[..65])),
        with(&format!("Bearer {good}")).and("Authorization", &format!("Bearer {good}")),
        request.clone().key(&unknown),
        request.clone().key(&revoked),
        request.clone().key(&expired),
    ];
    let mut bodies = Vec::new();
    for case in cases {
        // A server of its own, because five failures of an address are too many.
        let served = scene.serve().await;
        let answer = served.send(&case).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"intcred\""));
        bodies.push(answer.body);
        assert_eq!(served.send(&request.clone().key(&good)).await.status, 200, "a good key still gets in");
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
}

/// A key of the same role, with a right check sum and other random characters.
fn other_secret(key: &str) -> String {
    const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let body = format!("{}{}", &key[..17], "a".repeat(43));
    let digest = openssl_sha256(body.as_bytes());
    let mut rest = digest[..4].iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
    let mut check = String::new();
    for _ in 0..6 {
        check.push(char::from(ALPHABET[rest % 62]));
        rest /= 62;
    }
    body + &check
}

fn openssl_sha256(bytes: &[u8]) -> Vec<u8> {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };
    let mut child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let hex = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    (0..32).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

#[tokio::test]
async fn revocation_takes_effect_with_the_next_request() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let (key, other) = (scene.key("admin").await, scene.key("admin").await);
    let link = served.link(&key).await;
    served.link(&other).await;
    scene.revoke(&key).await;
    assert_eq!(served.send(&modern("tools/list", json!({})).key(&key)).await.status, 401);
    let token = link.split_once('#').unwrap().1;
    let details = super::page::post(&served, "/credential/details", &json!({"token": token})).key(&key);
    assert_eq!(served.send(&details).await.status, 401);
    served.done(&other, LIST, json!({})).await;
    // Also on a connection of HTTP that is still open, and by another replica.
    let replica = scene.serve().await;
    assert_eq!(replica.send(&modern("tools/list", json!({})).key(&key)).await.status, 401);
    let listed = scene.operator(&["--json", "mcp", "key", "list"]).await.success();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let ours = listed.as_array().unwrap().iter().find(|row| row["id"] == key[..16]).unwrap();
    assert_eq!((&ours["isRevoked"], &ours["groups"]), (&json!(true), &json!([])));
}

#[tokio::test]
async fn a_key_is_refused_where_its_org_is_not_its_own_setting() {
    let scene = Scene::new().await;
    let key = scene.key("admin").await;
    let superuser = scene.database.superuser().await;
    let name = scene.database.name();
    superuser
        .batch_execute(&format!("ALTER ROLE {} IN DATABASE {name} RESET ALL", &key[..16]))
        .await
        .unwrap();
    scene.database.set_org("somebody").await;
    let served = scene.serve().await;
    let answer = served.send(&modern("tools/list", json!({})).key(&key)).await;
    answer.assert_error(503, "database_unavailable");
    served.tells("its org is not a setting of the role").await;
}

#[tokio::test]
async fn no_key_gets_in_where_the_server_asks_for_no_password() {
    // Trusts everybody.
    let cluster = Cluster::builder().setting("fsync", "off").start();
    let scene = Scene::within(&cluster).await;
    let key = scene.key("admin").await;
    let served = scene.serve().await;
    for key in [&key, &other_secret(&key)] {
        served
            .send(&modern("tools/list", json!({})).key(key))
            .await
            .assert_error(503, "database_unavailable");
    }
    served.tells("pg_hba.conf lets it in without a password").await;
}

#[tokio::test]
async fn keys_of_another_pepper_do_not_get_in() {
    let scene = Scene::new().await;
    let key = scene.key("admin").await;
    fs::write(scene.pepper(), "another pepper of more than 32 bytes").unwrap();
    let served = scene.serve().await;
    assert_eq!(served.send(&modern("tools/list", json!({})).key(&key)).await.status, 401);
}

#[tokio::test]
async fn five_failures_of_an_address_in_a_minute_are_the_last() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let (good, other) = (scene.key("user").await, scene.key("user").await);
    let request = modern("tools/list", json!({}));
    assert_eq!(served.send(&request.clone().key(&good)).await.status, 200);
    let wrong = other_secret(&other);
    let mut statuses = Vec::new();
    // Few, so that a busy machine has made them before the minute is over.
    for _ in 0..100 {
        statuses.push(served.send(&request.clone().key(&wrong)).await.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 5);
    assert_eq!(statuses[5..].iter().filter(|status| **status == 429).count(), 95);
    let late = served.send(&request.clone().key(&other)).await;
    assert_eq!((late.status, late.header("retry-after")), (429, Some("60")));
    assert_eq!(served.send(&request.key(&good)).await.status, 200, "who is in stays in");
}

#[tokio::test]
async fn behind_a_proxy_the_address_is_the_one_that_the_proxy_saw() {
    let scene = Scene::new().await;
    let url = "https://mcp.example.com";
    let served = scene.serve_with(&["--public-url", url, "--behind-proxy"]).await;
    let key = scene.key("user").await;
    let request = modern("tools/list", json!({})).with("Host", "mcp.example.com");
    let wrong = other_secret(&scene.key("user").await);
    for number in 0..6 {
        // What the client claims comes first.
        let from = format!("203.0.113.{number}, 192.0.2.1");
        let status = served.send(&request.clone().key(&wrong).with("X-Forwarded-For", &from)).await.status;
        assert_eq!(status, if number < 5 { 401 } else { 429 });
    }
    let elsewhere = served.send(&request.clone().key(&key).with("X-Forwarded-For", "192.0.2.2")).await;
    assert_eq!(elsewhere.status, 200);
    assert_eq!(elsewhere.header("strict-transport-security"), Some("max-age=31536000"));
    let pending = served
        .send(
            &modern("tools/call", json!({"name": SET, "arguments": {"integration_key": ANY}}))
                .with("Host", "mcp.example.com")
                .key(&key),
        )
        .await;
    assert_eq!(pending.json()["result"]["structuredContent"]["error"]["code"], "forbidden_admin_scope");
}

#[tokio::test]
async fn a_server_that_would_send_keys_in_the_clear_does_not_start() {
    let scene = Scene::new().await;
    let pepper = scene.pepper();
    let start = |options: &[&str]| {
        let mut command = intcred();
        command
            .args(["--dsn", &scene.database.dsn(SUPERUSER), "mcp", "--pepper-file"])
            .arg(&pepper)
            .args(options);
        async move { run(&mut command, b"").await }
    };
    for options in [
        &["--http", "0.0.0.0:0"][..],
        &["--http", "0.0.0.0:0", "--public-url", "http://mcp.example.com"],
        &["--http", "0.0.0.0:0", "--public-url", "https://mcp.example.com"],
        &["--http", "0.0.0.0:0", "--public-url", "http://mcp.example.com", "--behind-proxy"],
    ] {
        assert_fails(&start(options).await, 2, "in the clear");
    }
    assert_fails(
        &start(&["--http", "127.0.0.1:0", "--public-url", "https://mcp.example.com/path"]).await,
        2,
        "URL",
    );
    assert_fails(&start(&["--http", "127.0.0.1:0", "--allow-origin", "null"]).await, 2, "URL");
}

#[tokio::test]
async fn requests_of_one_connection_are_each_checked() {
    use tokio::io::AsyncWriteExt;
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key("user").await;
    let address = served.address();
    let first =
        modern("tools/list", json!({})).key(&key).written(&address).replace("Connection: close\r\n", "");
    let second = Request::clone(&modern("tools/list", json!({}))).written(&address);
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    stream.write_all((first + &second).as_bytes()).await.unwrap();
    let answer = super::http::read(&mut stream).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("HTTP/1.1 401"), "{answer:?}");
}
