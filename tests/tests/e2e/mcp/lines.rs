//! Bad lines of standard input.

use super::{scene::Scene, stdio::Server};
use crate::command_line::eventually;
use serde_json::json;
use tests::{ADMIN, intcred, run};

#[tokio::test]
async fn a_line_that_is_no_request_is_answered_and_the_next_is_served() {
    let scene = Scene::new().await;
    let mut server = Server::start(&scene, ADMIN);
    server.initialize("2025-11-25", json!({})).await;
    for (line, code, id) in [
        ("not JSON", -32700, json!(null)),
        ("{\"jsonrpc\": ", -32700, json!(null)),
        ("[]", -32600, json!(null)),
        ("7", -32600, json!(null)),
        (r#"{"id": 9, "method": "ping"}"#, -32600, json!(9)),
    ] {
        server.write(format!("{line}\n").as_bytes()).await;
        let answer = server.message().await;
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &id), "{line}: {answer}");
    }
    server.write(format!("{}\n", "[".repeat(10_000)).as_bytes()).await;
    assert_eq!(server.message().await["error"]["code"], -32700);
    // Empty lines, carriage returns.
    server.write(b"\n  \r\n").await;
    assert!(server.ask("ping", json!({})).await["result"].is_object());
    assert_eq!(server.end().await, 0);
}

#[tokio::test]
async fn a_line_without_end_closes_the_connection() {
    let scene = Scene::new().await;
    for line in ["x".repeat(1 << 20), "\u{0}".repeat(300_000), "\u{fffd}".repeat(100_000)] {
        let mut server = Server::start(&scene, ADMIN);
        server.initialize("2025-11-25", json!({})).await;
        server.write(line.as_bytes()).await;
        assert_eq!(server.message().await["error"]["code"], -32600);
        assert_eq!(server.line().await, None);
        assert_eq!(server.child.wait().await.unwrap().code(), Some(0));
    }
}

#[tokio::test]
async fn the_end_of_input_is_the_end() {
    let scene = Scene::new().await;
    let dsn = scene.database.dsn(ADMIN);
    let output = run(intcred().args(["--dsn", &dsn, "mcp"]), b"").await;
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (0, "", ""));
    let output =
        run(intcred().args(["--dsn", &dsn, "mcp"]), b"{\"jsonrpc\": \"2.0\", \"method\": \"hunter2\"}\n")
            .await;
    assert_eq!((output.code, output.stdout.as_str()), (2, ""));
    assert!(!output.stderr.contains("hunter2"), "{output:?}");
}

#[tokio::test]
async fn a_database_that_is_gone_is_told_in_the_answer() {
    let mut server = Server::start_at("host=/nonexistent dbname=x user=alice");
    server.initialize("2025-11-25", json!({})).await;
    let result = server.call("list_integrations", json!({})).await;
    let error = &result["structuredContent"]["error"];
    assert_eq!((&error["code"], &error["status"]), (&json!("database_unavailable"), &json!(503)));
    eventually("the log says where", async || server.stderr().contains("/nonexistent")).await;
    assert!(!error.to_string().contains("nonexistent"));
}

#[tokio::test]
async fn a_standby_and_a_server_without_keyring_say_so() {
    use super::scene::{SET, seal};
    use crate::helpers::calls::ANY;
    let mut cluster = tests::Cluster::builder().setting("fsync", "off").start();
    let scene = Scene::within(&cluster).await;
    let mut server = Server::start(&scene, ADMIN);
    server.initialize("2025-11-25", json!({})).await;
    let terms = server.call("get_sealing_key", json!({})).await["structuredContent"].clone();
    let arguments = json!({"integration_key": ANY, "sealed": seal(&terms, ANY, "value")});
    let read_only =
        format!("ALTER DATABASE {} SET default_transaction_read_only = on", scene.database.name());
    scene.database.superuser().await.batch_execute(&read_only).await.unwrap();
    let standby = cluster.standby();
    let mut on_standby = Server::start_at(&standby.named_database(scene.database.name()).dsn(ADMIN));
    on_standby.initialize("2025-11-25", json!({})).await;
    let error = on_standby.call(SET, arguments.clone()).await["structuredContent"]["error"].clone();
    assert_eq!((&error["code"], &error["status"]), (&json!("invalid_request"), &json!(400)), "{error}");
    assert!(error["message"].as_str().unwrap().contains("standby"), "{error}");
    drop((on_standby, standby));
    std::fs::remove_file(cluster.keyring_file()).unwrap();
    cluster.restart();
    let mut server = Server::start(&scene, ADMIN);
    server.initialize("2025-11-25", json!({})).await;
    let error = server.call(SET, arguments).await["structuredContent"]["error"].clone();
    assert_eq!(
        (&error["code"], &error["status"]),
        (&json!("encryption_unavailable"), &json!(500)),
        "{error}"
    );
}
