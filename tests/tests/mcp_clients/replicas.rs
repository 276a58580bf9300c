//! No server remembers anything: a link and a call that waits go on at another replica.

use crate::{
    browser::Browser,
    client::{Client, Elicitation, Sdk},
    scene::{SLACK, Scene},
};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn link_and_retry_go_on_when_replicas_are_killed_in_turn() {
    let scene = Scene::new().await;
    let key = scene.key(&["--scope", "admin"]).await;
    let proxy = scene.proxy(None).await;
    let mut serving = scene.replica(&proxy, &[], &[]).await;
    let mut browser = Browser::start(&scene.file("profile")).await;
    for sdk in [Sdk::Python2, Sdk::TypeScript2] {
        let log = scene.file("replicas.log");
        let mut client = Client::connect(sdk, &Scene::over_http(&proxy, &key), Elicitation::Url, &log).await;
        for value in ["xoxb-first", "xoxb-second"] {
            let call = client.call("admin_set_integration_credentials", json!({"integration_key": SLACK}));
            let link = call.await.link();
            // The one that made the link is gone before anybody opens it, and the next one before the client asks again.
            for is_typed in [false, true] {
                serving.kill().await;
                serving = scene.replica(&proxy, &[], &[]).await;
                if !is_typed {
                    browser.enter(&link, Some(&key)).await;
                    browser.store(value).await;
                }
            }
            client.reply("accept").await;
            let receipt = client.answer().await.content();
            assert_eq!(receipt["hasCredentials"], true, "{sdk:?}: {receipt}");
            assert_eq!(scene.value().await.as_deref(), Some(value));
        }
    }
}
