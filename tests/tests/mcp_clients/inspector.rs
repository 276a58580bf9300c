//! The command line of the MCP inspector.

use crate::{
    install::node,
    scene::{SLACK, STDIO, Scene},
};
use serde_json::Value;
use tests::{Output, run};

const INSPECTOR: &str = "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js";

async fn inspect(scene: &Scene, target: &[&str], arguments: &[&str]) -> Output {
    let mut command = node(INSPECTOR).await;
    // Where it keeps its own files.
    command.env("HOME", scene.written.path());
    run(command.arg("--cli").args(target).args(["--format", "json"]).args(arguments), b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn inspector_lists_and_calls_in_both_eras() {
    let scene = Scene::new().await;
    let key = scene.key(&["--scope", "admin"]).await;
    let proxy = scene.proxy(None).await;
    let _server = scene.replica(&proxy, &[], &[]).await;
    let (url, header) = (format!("http://{}/mcp", proxy.address), format!("Authorization: Bearer {key}"));
    let stdio = scene.over_stdio(STDIO);
    let stdio: Vec<_> = [&stdio["command"]]
        .into_iter()
        .chain(stdio["args"].as_array().unwrap())
        .map(|part| part.as_str().unwrap())
        .collect();
    let http = ["--server-url", url.as_str(), "--transport", "http", "--header", &header];
    for target in [http.as_slice(), &stdio] {
        for era in ["legacy", "modern"] {
            let inspect = async |arguments: &[&str]| {
                inspect(&scene, target, &[&["--protocol-era", era], arguments].concat()).await
            };
            let list = inspect(&["--method", "tools/list", "--strict"]).await;
            assert_eq!(list.code, 0, "{era}: {list:?}");
            assert!(list.stdout.contains("admin_set_integration_credentials"), "{list:?}");
            let call =
                inspect(&["--method", "tools/call", "--tool-name", "list_integrations"]).await.success();
            let answer: Value = serde_json::from_str(&call).unwrap();
            assert!(answer.to_string().contains(SLACK), "{era}: {answer}");
            let refused = inspect(&[
                "--method",
                "tools/call",
                "--tool-name",
                "admin_remove_integration_credentials",
                "--tool-arg",
                "integration_key=nowhere",
            ])
            .await;
            assert_eq!(refused.code, 5, "{era}: {refused:?}");
            assert!(refused.stdout.contains("integration_not_found"), "{refused:?}");
        }
    }
    let keyless = ["--server-url", url.as_str(), "--transport", "http", "--stored-auth-only"];
    let refused = inspect(&scene, &keyless, &["--method", "tools/list"]).await;
    assert_eq!(refused.code, 3, "{refused:?}");
}
