//! Nothing that a caller sends is logged, and nothing secret is shown.

use super::{
    page::post,
    scene::{LIST, ORG, SET, Scene, modern_with, opens_links},
    stdio,
};
use crate::{command_line::assert_fails, helpers::calls::ANY};
use serde_json::{Value, json};
use std::fs;
use tests::{ADMIN, Canary, SUPERUSER, intcred, run};

#[tokio::test]
async fn keys_tokens_and_values_are_in_no_log_and_no_answer() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key_with("admin", ORG, &["--values"]).await;
    let canary = Canary::new();
    let mut answers = String::new();
    let mut say = |value: &Value| answers += &value.to_string();

    say(&served.done(&key, SET, json!({"integration_key": ANY, "value": canary.as_str()})).await);
    let sealed = served.seal(&key, canary.as_str()).await;
    say(&served.done(&key, SET, json!({"integration_key": ANY, "sealed": sealed})).await);
    say(&served.refused(&key, SET, json!({"integration_key": canary.as_str()})).await);
    say(&served.done(&key, LIST, json!({"details": true})).await);
    let params = json!({"name": SET, "arguments": {"integration_key": ANY}});
    let asked = served.send(&modern_with("tools/call", params, &opens_links()).key(&key)).await.json();
    let state = asked["result"]["requestState"].as_str().unwrap().to_owned();
    let link = served.link(&key).await;
    let token = link.split_once('#').unwrap().1;
    let resealed = served.seal(&key, canary.as_str()).await;
    let entry = post(&served, "/credential", &json!({"token": token, "sealed": resealed})).key(&key);
    say(&served.send(&entry).await.json());

    served.tells("page/enter ok").await;
    let log = served.stderr();
    canary.assert_absent(&log);
    canary.assert_absent(&answers);
    for secret in [&key[17..], &state, token, &sealed, &resealed, "a pepper of more"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    assert!(!answers.contains(&key[17..]));
    // What the log has.
    let lines: Vec<_> = log.lines().skip(1).collect();
    assert!(lines.len() >= 8, "{log}");
    for line in lines {
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(words.len(), 6, "{line}");
        assert_eq!((words[1], words[5]), (&key[..16], "ms"), "{line}");
    }
    assert!(log.contains(" admin_set_integration_credentials integration_not_found "), "{log}");
    // Neither the arguments nor the environment of the process has it, and other users cannot look.
    let pid = served.child.id().unwrap();
    let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(canary.find(&cmdline).is_empty());
    let server_log = super::scene::cluster().log();
    assert!(canary.find(server_log.as_bytes()).is_empty());
    assert!(!server_log.contains(&key[17..]));
}

#[tokio::test]
async fn standard_output_is_the_protocols_alone() {
    let scene = Scene::new().await;
    let mut server = stdio::Server::start(&scene, ADMIN);
    server.initialize("2025-11-25", json!({})).await;
    let canary = Canary::new();
    let result = server.call(SET, json!({"integration_key": ANY, "value": canary.as_str()})).await;
    assert_eq!(result["structuredContent"]["error"]["code"], "invalid_request");
    server.write(format!("{}\n", canary.as_str()).as_bytes()).await;
    let answer = server.message().await;
    canary.assert_absent(&format!("{result} {answer} {}", server.stderr()));
    assert_eq!(server.end().await, 0);
    // `line` has parsed every line as JSON; there is no other.
    assert_eq!(server.line().await, None);
}

#[tokio::test]
async fn no_logger_is_linked_that_could_print_requests() {
    let lock = include_str!("../../../../Cargo.lock");
    let package = lock.split("[[package]]").find(|package| package.contains("name = \"intcred\"")).unwrap();
    for logger in ["tracing", "env_logger", "log\"", "fern", "slog"] {
        assert!(!package.contains(logger), "{logger} would print what rmcp says at debug");
    }
}

#[tokio::test]
async fn a_sealed_value_of_the_command_line_is_set_by_a_tool() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let terms = served.done(&key, "get_sealing_key", json!({})).await.to_string();
    let dir = tempfile::tempdir().unwrap();
    let (to, value) = (dir.path().join("key.json"), dir.path().join("value"));
    fs::write(&to, &terms).unwrap();
    let canary = Canary::new();
    fs::write(&value, canary.as_str()).unwrap();
    // No connection: there is no such server.
    let seal = |arguments: &[&str], stdin: &str| {
        let mut command = intcred();
        command.args(["--dsn", "host=/nonexistent", "seal", ANY]).args(arguments);
        let stdin = stdin.as_bytes().to_vec();
        async move { run(&mut command, &stdin).await }
    };
    let (to, value) = (to.to_str().unwrap(), value.to_str().unwrap());
    for output in [
        seal(&["--to", to], canary.as_str()).await,
        seal(&["--to", to, "--value-file", value], "").await,
        seal(&["--to", "-", "--value-file", value], &terms).await,
    ] {
        let sealed = output.success();
        canary.assert_absent(&sealed);
        served.done(&key, SET, json!({"integration_key": ANY, "sealed": sealed.trim_end()})).await;
        assert_eq!(scene.stored().await.as_deref(), Some(canary.as_str()));
    }
    assert_fails(&seal(&["--to", "-"], &terms).await, 2, "both be on standard input");
    assert_fails(&seal(&["--to", value, "--value-file", value], "").await, 2, "not a sealing key");
    let form_one = terms.replace("\"form\":2", "\"form\":1");
    assert_fails(&seal(&["--to", "-", "--value-file", value], &form_one).await, 1, "form 1");
    // Sealed for a role that is not the caller's.
    let of_superuser = run(intcred().args(["--dsn", &scene.database.dsn(SUPERUSER), "mcp"]), b"").await;
    assert_eq!(of_superuser.code, 0);
}
