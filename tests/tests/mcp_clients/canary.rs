//! A value that was typed on the page is in nothing that anybody wrote.

use crate::{
    browser::Browser,
    client::{Answer, Client, Elicitation, Sdk},
    scene::{SLACK, STDIO, Scene, with_passwords},
};
use serde_json::json;
use std::fs;
use tests::{Canary, Cluster, Shutdown};

const SET: &str = "admin_set_integration_credentials";

#[tokio::test(flavor = "multi_thread")]
async fn value_typed_on_the_page_is_in_nothing_that_anybody_wrote() {
    let loud = [
        ("log_statement", "all"),
        ("log_min_messages", "debug2"),
        ("log_parameter_max_length_on_error", "-1"),
    ];
    let builder =
        loud.into_iter().fold(Cluster::builder(), |builder, (name, value)| builder.setting(name, value));
    let mut cluster = with_passwords(builder.start());
    let scene = Scene::within(&cluster).await;
    let (key, with_values) =
        (scene.key(&["--scope", "admin"]).await, scene.key(&["--scope", "admin", "--values"]).await);
    let proxy = scene.proxy(None).await;
    let server = scene.replica(&proxy, &[], &[]).await;
    let mut browser = Browser::start(&scene.file("profile")).await;
    let (mut typed, mut tokens) = (Vec::new(), vec![key.clone(), with_values.clone()]);
    for sdk in Sdk::ALL {
        for (server, key) in
            [(Scene::over_http(&proxy, &key), Some(key.as_str())), (scene.over_stdio(STDIO), None)]
        {
            let log = scene.file("clients.log");
            let mut client = Client::connect(sdk, &server, Elicitation::Url, &log).await;
            let answer = client.call(SET, json!({"integration_key": SLACK})).await;
            let (link, is_asked) = match answer {
                Answer::Link(link) => (link, true),
                pending => (pending.content()["pending"]["url"].as_str().unwrap().to_owned(), false),
            };
            let (wrong, right) = (Canary::new(), Canary::new());
            browser.enter(&link, key).await;
            browser.says("Enter the credential").await;
            browser.fill("Credential", wrong.as_str()).await;
            browser.click("Store").await;
            browser.says("does not begin with").await;
            browser.fill("Credential", &format!("xoxb-{right}")).await;
            browser.click("Store").await;
            browser.says("Stored at").await;
            if is_asked {
                client.reply("accept").await;
                assert_eq!(client.answer().await.content()["hasCredentials"], true, "{sdk:?}");
            }
            let (_, token) = link.split_once('#').expect("a token behind the address");
            tokens.push(token.to_owned());
            assert_eq!(scene.value().await, Some(format!("xoxb-{right}")));
            typed.extend([wrong, right]);
        }
    }
    // So that finding nothing means something: a value in an argument is found.
    let shown = Canary::new();
    let log = scene.file("clients.log");
    let mut client =
        Client::connect(Sdk::TypeScript2, &Scene::over_http(&proxy, &with_values), Elicitation::None, &log)
            .await;
    client.content(SET, json!({"integration_key": SLACK, "value": format!("xoxb-{shown}")})).await;
    browser.close().await;
    drop((client, server));
    cluster.stop(Shutdown::Fast);

    for canary in &typed {
        assert_eq!(canary.search(scene.written.path()), []);
        assert_eq!(canary.search(&cluster.data_dir()), []);
    }
    let places: Vec<_> = shown.search(scene.written.path()).into_iter().map(|hit| hit.file).collect();
    assert!(places.contains(&log) && places.contains(&scene.file("proxy.capture")), "{places:?}");
    assert!(!places.contains(&scene.file("server.log")), "{places:?}");
    // Nor is a key or a link in what the server and Postgres say.
    let said = fs::read_to_string(scene.file("server.log")).unwrap() + &cluster.log();
    assert!(said.contains("page/enter"), "{said}");
    assert!(!tokens.iter().any(|token| said.contains(token.as_str())));
}
