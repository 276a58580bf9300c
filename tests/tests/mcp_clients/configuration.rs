//! What `docs/mcp.md` has people write into their clients' files works, as it stands there.

use crate::{
    client::{Client, Elicitation, Sdk},
    scene::{STDIO, Scene},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs};
use tests::{document, process::intcred_path};

#[tokio::test(flavor = "multi_thread")]
async fn configurations_of_the_document_connect() {
    let scene = Scene::new().await;
    let key = scene.key(&["--scope", "admin"]).await;
    let proxy = scene.proxy(None).await;
    let _server = scene.replica(&proxy, &[], &[]).await;
    let services = scene.file("services.conf");
    let dsn = scene.database.dsn(STDIO).replace(['\''], "").replace(' ', "\n");
    fs::write(&services, format!("[acme]\n{dsn}\n")).unwrap();

    let document = document::read("docs/mcp.md");
    let mut connected = BTreeMap::new();
    for block in document.split("```json\n").skip(1) {
        let block = block.split("```").next().unwrap();
        let configuration: Value =
            serde_json::from_str(block).unwrap_or_else(|error| panic!("{error}: {block}"));
        let servers = ["servers", "mcpServers"].map(|name| configuration[name].as_object());
        for server in servers.into_iter().flatten().flat_map(|servers| servers.values()) {
            let target = if server["url"].is_null() {
                let mut environment = server["env"].clone();
                environment["PGSERVICEFILE"] = json!(services);
                assert!(server["command"].as_str().unwrap().ends_with("intcred"), "{block}");
                json!({"command": intcred_path(), "args": server["args"], "env": environment})
            } else {
                assert_eq!(server["url"], "https://mcp.example.com/mcp");
                // The client replaces what stands for the API key.
                let given = server["headers"]["Authorization"].as_str().unwrap();
                let (scheme, variable) = given.split_once(' ').unwrap();
                assert!(
                    scheme == "Bearer" && variable.starts_with("${") && variable.ends_with('}'),
                    "{given}"
                );
                Scene::over_http(&proxy, &key)
            };
            let log = scene.file("configuration.log");
            let mut client = Client::connect(Sdk::TypeScript2, &target, Elicitation::None, &log).await;
            assert!(client.tools().await.contains(&"list_integrations".to_owned()), "{block}");
            *connected.entry(server["url"].is_null()).or_insert(0) += 1;
        }
    }
    assert_eq!(connected, BTreeMap::from([(true, 4), (false, 3)]));
}
