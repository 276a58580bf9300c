//! The page as a person uses it: over HTTP and over stdio, from a mouse, a keyboard and a screen reader.

use crate::{
    browser::Browser,
    scene::{PREFIX, SLACK, STDIO, Scene},
};
use axum::{Router, response::Html, routing::get};
use intcred::{CacheOptions, CredentialCache, Settings};
use integration_credentials_core::limits::DEFAULT_VALUE_CHARS;
use std::{env, fs, time::Duration};
use tests::{READER, document};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};

const INVITATION: &str = "Enter the credential of Slack for acme.";

async fn revision(scene: &Scene) -> i64 {
    let sql = "SELECT coalesce(max(revision), 0) FROM integration_credentials.configured_integrations";
    scene.superuser.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn value_typed_on_the_page_is_stored_after_a_wrong_one() {
    let scene = Scene::new().await;
    let key = scene.key(&["--scope", "admin", "--label", "laptop"]).await;
    let proxy = scene.proxy(None).await;
    let _server = scene.replica(&proxy, &[], &[]).await;
    let settings = Settings::resolve(Some(&scene.database.dsn(READER))).unwrap();
    let cache = CredentialCache::start(&settings, CacheOptions::default()).await.unwrap();
    let mut changes = cache.changes();
    let (_client, link) = scene.link(&Scene::over_http(&proxy, &key)).await;

    let mut browser = Browser::start(&scene.file("profile")).await;
    browser.enter(&link, Some(&key)).await;
    browser.says(INVITATION).await;
    assert_eq!(browser.evaluate("location.href").await, format!("http://{}/credential", proxy.address));
    let shown = browser.text().await;
    for part in ["acme", "Slack (slack)", "laptop, at", "begins with xoxb-", "https://api.slack.com/"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }

    browser.fill("Credential", "no token of Slack at all").await;
    browser.click("Store").await;
    browser.says("the value does not begin with").await;
    assert_eq!(revision(&scene).await, 0);
    assert_eq!(browser.evaluate("document.getElementById('value').value").await, "no token of Slack at all");
    // Of several lines, as a key in PEM; the last newline is a part of it.
    let value = format!("{PREFIX}-Zoë's 😀\nsecond line\n");
    browser.fill("Credential", &value).await;
    browser.click("Store").await;
    browser.says("Stored at").await;
    assert_eq!(browser.evaluate("document.getElementById('value').value").await, "");
    assert_eq!(scene.value().await.as_deref(), Some(value.as_str()));
    let change = timeout(Duration::from_mins(1), changes.recv()).await.expect("a change");
    assert_eq!((change.key.as_str(), change.revision), (SLACK, 1));
    assert_eq!(cache.get(SLACK).await.unwrap().expose().unwrap(), value);
    let audited = "SELECT FROM integration_credentials.webapp_org_admin_audit_log WHERE actor = 'mcp:laptop'
                   AND session_role LIKE 'icred%' AND action = 'set_integration_credentials'";
    assert_eq!(scene.superuser.query(audited, &[]).await.unwrap().len(), 1);

    // A used link is dead, for the same person too.
    browser.enter(&link, Some(&key)).await;
    browser.says("meanwhile").await;
    assert!(!browser.text().await.contains("Credential\n"));
    // What Chromium says of an answer that is an error. A violation of the page's policy would be a line more.
    let complaints = browser.complaints().await;
    let expected = ["401", "400", "401", "409"].map(|status| format!("status of {status}"));
    assert_eq!(complaints.len(), expected.len(), "{complaints:?}");
    assert!(expected.iter().zip(&complaints).all(|(status, line)| line.contains(status)), "{complaints:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn page_over_stdio_asks_for_no_key() {
    let scene = Scene::new().await;
    let (_client, link) = scene.link(&scene.over_stdio(STDIO)).await;
    assert!(link.starts_with("http://127.0.0.1:"), "{link}");
    let mut browser = Browser::start(&scene.file("profile")).await;
    browser.open(&link).await;
    // Copying brings a newline after a single line.
    browser.store("xoxb-over-stdio\n").await;
    assert_eq!(scene.value().await.as_deref(), Some("xoxb-over-stdio"));
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn link_of_another_person_shows_nothing() {
    let scene = Scene::new().await;
    let (alice, bob) = (scene.key(&["--scope", "admin"]).await, scene.key(&["--scope", "admin"]).await);
    let proxy = scene.proxy(None).await;
    let _server = scene.replica(&proxy, &[], &[]).await;
    let (_client, link) = scene.link(&Scene::over_http(&proxy, &alice)).await;
    let mut browser = Browser::start(&scene.file("profile")).await;
    for key in [bob.as_str(), "icred_no_key_at_all"] {
        browser.enter(&link, Some(key)).await;
        browser.evaluate("new Promise((done) => setInterval(() => document.querySelector('#status.bad') && done(), 10))").await;
        let shown = browser.text().await;
        assert!(!shown.contains("acme") && !shown.contains("Slack") && shown.contains("API key"), "{shown}");
    }
    // Alice is next at the same page.
    browser.give_key(&alice).await;
    browser.says(INVITATION).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn link_expires_after_ten_minutes() {
    let scene = Scene::new().await;
    let key = scene.key(&["--scope", "admin"]).await;
    let proxy = scene.proxy(None).await;
    let _now = scene.replica(&proxy, &[], &[]).await;
    let mut browser = Browser::start(&scene.file("profile")).await;
    let (_client, link) = scene.link(&Scene::over_http(&proxy, &key)).await;
    // Another replica, whose clock is ahead.
    let nearly = scene.replica(&proxy, &["faketime", "-f", "+8m"], &[]).await;
    browser.enter(&link, Some(&key)).await;
    browser.says(INVITATION).await;
    let later = scene.replica(&proxy, &["faketime", "-f", "+11m"], &[]).await;
    browser.fill("Credential", "xoxb-too-late").await;
    browser.click("Store").await;
    browser.says("expired").await;
    browser.enter(&link, Some(&key)).await;
    browser.says("expired").await;
    assert_eq!(revision(&scene).await, 0);
    for server in [nearly, later] {
        server.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn link_is_neither_framed_nor_burnt_by_a_preview() {
    let scene = Scene::new().await;
    let (_client, link) = scene.link(&scene.over_stdio(STDIO)).await;
    let frame = Html(format!("<iframe src=\"{link}\" onload=\"document.title = 'loaded'\"></iframe>"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let foreign = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
    let router = Router::new().route("/", get(async move || frame));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut browser = Browser::start(&scene.file("profile")).await;
    browser.open(&foreign).await;
    let mut complaints = Vec::new();
    let complained = async {
        while !complaints.iter().any(|text: &String| text.contains("frame-ancestors 'none'")) {
            complaints.extend(browser.complaints().await);
            sleep(Duration::from_millis(20)).await;
        }
    };
    let complained = timeout(Duration::from_secs(30), complained).await;
    assert!(complained.is_ok(), "{complaints:?}");
    // A bot reads the page, and all that it links to, a few times.
    browser
        .evaluate(&format!("Promise.allSettled([1, 2, 3].map(() => fetch('{link}', {{mode: 'no-cors'}})))"))
        .await;
    browser.open(&link).await;
    browser.says(INVITATION).await;
    // A link in the same tab differs in its fragment alone.
    browser.fill("Credential", "of the link before").await;
    browser.open(&link).await;
    browser.says(INVITATION).await;
    browser.store("xoxb-of-this-link").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn value_stays_in_the_field_while_the_server_is_gone() {
    let scene = Scene::new().await;
    let key = scene.key(&["--scope", "admin"]).await;
    let proxy = scene.proxy(None).await;
    let server = scene.replica(&proxy, &[], &[]).await;
    let (_client, link) = scene.link(&Scene::over_http(&proxy, &key)).await;
    let mut browser = Browser::start(&scene.file("profile")).await;
    browser.enter(&link, Some(&key)).await;
    browser.says(INVITATION).await;
    browser.fill("Credential", "xoxb-patience").await;
    server.kill().await;
    browser.click("Store").await;
    browser.says("does not answer as it should").await;
    let _again = scene.replica(&proxy, &[], &[]).await;
    browser.click("Store").await;
    browser.says("Stored at").await;
    assert_eq!(scene.value().await.as_deref(), Some("xoxb-patience"));
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_sync_of_a_stored_value_is_told() {
    let scene = Scene::new().await;
    let handler = "CREATE SCHEMA app;
        CREATE FUNCTION app.sync(org text, key text, value text) RETURNS void LANGUAGE plpgsql
            AS $$ BEGIN RAISE 'nobody takes it'; END $$;
        ALTER FUNCTION app.sync(text, text, text) OWNER TO alice_admin;
        GRANT USAGE ON SCHEMA app TO alice_admin;
        SELECT integration_credentials.register_sync_handler('slack', 'app.sync(text,text,text)', 'surface')";
    scene.superuser.batch_execute(handler).await.unwrap();
    let (_client, link) = scene.link(&scene.over_stdio(STDIO)).await;
    let mut browser = Browser::start(&scene.file("profile")).await;
    browser.open(&link).await;
    browser.says(INVITATION).await;
    browser.fill("Credential", "xoxb-of-no-aggregator").await;
    browser.click("Store").await;
    browser.says("The credential is stored, but its sync failed.").await;
    let shown = browser.text().await;
    assert!(shown.contains("Nobody takes it"), "{shown}");
    assert_eq!(scene.value().await.as_deref(), Some("xoxb-of-no-aggregator"));
}

#[tokio::test(flavor = "multi_thread")]
async fn field_is_masked_until_shown_and_takes_no_longer_value() {
    let scene = Scene::new().await;
    let (_client, link) = scene.link(&scene.over_stdio(STDIO)).await;
    let mut browser = Browser::start(&scene.file("profile")).await;
    browser.open(&link).await;
    browser.says(INVITATION).await;
    let mask = "getComputedStyle(document.getElementById('value')).webkitTextSecurity";
    assert_eq!(browser.evaluate(mask).await, "disc");
    browser.click("Show").await;
    assert_eq!(browser.evaluate(mask).await, "none");
    browser.click("Show").await;
    assert_eq!(browser.evaluate(mask).await, "disc");
    // The page sends no more than this, and the server decides about the rest.
    browser.fill("Credential", &"a".repeat(48_001)).await;
    browser.click("Store").await;
    let message = browser.evaluate("document.getElementById('value').validationMessage").await;
    assert_eq!(message, "This page sends at most 48000 bytes. `intcred set` takes a longer value.");
    browser.fill("Credential", &format!("{PREFIX}{}", "😀".repeat(DEFAULT_VALUE_CHARS))).await;
    browser.click("Store").await;
    browser.says("8197 characters").await;
    let longest = format!("{PREFIX}{}", "😀".repeat(DEFAULT_VALUE_CHARS - PREFIX.len()));
    browser.fill("Credential", &longest).await;
    browser.click("Store").await;
    browser.says("Stored at").await;
    assert_eq!(scene.value().await, Some(longest));
}

#[tokio::test(flavor = "multi_thread")]
async fn page_without_x25519_or_script_has_no_field() {
    let scene = Scene::new().await;
    let (_client, link) = scene.link(&scene.over_stdio(STDIO)).await;
    for name in ["x25519", "script"] {
        let mut browser = Browser::start(&scene.file(name)).await;
        match name {
            "script" => browser.without_scripts().await,
            _ => {
                browser
                    .before_pages("SubtleCrypto.prototype.generateKey = () => Promise.reject(new Error())")
                    .await;
            }
        }
        browser.open(&link).await;
        let elements = browser.elements().await;
        assert!(!elements.iter().any(|element| element.role == "textbox"), "{name}: {elements:?}");
        assert!(
            elements.iter().any(|element| element.name.contains("intcred set KEY")),
            "{name}: {elements:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_is_used_by_keyboard_and_screen_reader() {
    let scene = Scene::new().await;
    let key = scene.key(&["--scope", "admin"]).await;
    let proxy = scene.proxy(None).await;
    let _server = scene.replica(&proxy, &[], &[]).await;
    let (_client, link) = scene.link(&Scene::over_http(&proxy, &key)).await;
    let mut browser = Browser::start(&scene.file("profile")).await;
    browser.open(&link).await;
    browser.says("Only who asked").await;
    let focused = async |browser: &mut Browser| {
        let mut elements = browser.elements().await;
        elements.retain(|element| element.is_focused && element.role != "RootWebArea");
        elements.pop().expect("something has the focus")
    };
    let field = focused(&mut browser).await;
    assert_eq!((field.role.as_str(), field.name.as_str()), ("textbox", "API key"));
    assert!(field.description.contains("Only who asked"), "{field:?}");
    browser.type_text(&key).await;
    let field = focused(&mut browser).await;
    assert!(!field.value.contains(&key[6..]), "{field:?}");
    browser.press(&["Enter"]).await;
    browser.says(INVITATION).await;

    let field = focused(&mut browser).await;
    assert_eq!((field.role.as_str(), field.name.as_str()), ("textbox", "Credential"));
    assert!(
        field.description.contains("acme") && field.description.contains("begins with xoxb-"),
        "{field:?}"
    );
    browser.type_text("wrong").await;
    for (keys, name) in [(&["Tab"][..], "Store"), (&["Tab"], "Show"), (&["Shift+Tab"], "Store")] {
        browser.press(keys).await;
        let button = focused(&mut browser).await;
        assert_eq!((button.role.as_str(), button.name.as_str()), ("button", name));
    }
    browser.press(&["Enter"]).await;
    browser.says("does not begin with").await;
    // The field has the focus, and the reason is what describes it.
    let field = focused(&mut browser).await;
    assert_eq!(field.name, "Credential");
    assert!(field.description.contains("does not begin with"), "{field:?}");
    let elements = browser.elements().await;
    assert!(elements.iter().any(|element| element.role == "status"), "{elements:?}");
    assert!(elements.iter().any(|element| element.role == "heading" && element.name == "Store a credential"));
    browser.press(&["Control+a"]).await;
    browser.type_text("xoxb-by-keyboard").await;
    browser.press(&["Tab", "Space"]).await;
    browser.says("Stored at").await;
    assert_eq!(scene.value().await.as_deref(), Some("xoxb-by-keyboard"));
}

/// The least contrast of a text with what is behind it, and whether anything is wider than the window.
const LOOK: &str = "(() => {
    const light = (colour) => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map((part) => part / 255)
            .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        const colour = getComputedStyle(element).backgroundColor;
        return colour === 'rgba(0, 0, 0, 0)' ? behind(element.parentElement) : colour;
    };
    const contrasts = [...document.querySelectorAll('main *')].filter((element) => element.checkVisibility()).map((element) => {
        const [text, back] = [light(getComputedStyle(element).color), light(behind(element))];
        return (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05);
    });
    return {contrast: Math.min(...contrasts), isWide: document.documentElement.scrollWidth > innerWidth};
})()";

#[tokio::test(flavor = "multi_thread")]
async fn page_is_read_in_dark_and_light_on_wide_and_narrow_screens() {
    let scene = Scene::new().await;
    let (_client, link) = scene.link(&scene.over_stdio(STDIO)).await;
    let mut browser = Browser::start(&scene.file("profile")).await;
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        for width in [320, 800] {
            browser.prefer(scheme, width).await;
            browser.open(&link).await;
            browser.says(INVITATION).await;
            let look = browser.evaluate(LOOK).await;
            assert!(look["contrast"].as_f64().unwrap() >= 4.5, "{scheme}: {look}");
            assert_eq!(look["isWide"], false, "{scheme} {width}");
            browser.fill("Credential", "xoxb-1111-2222-the-first-token").await;
            if width == 800 {
                backgrounds.push(browser.evaluate("getComputedStyle(document.body).backgroundColor").await);
                let picture = scene.file("page.png");
                browser.screenshot(&picture).await;
                // A picture has the time of day, and the fonts of a machine.
                if env::var_os("GENERATE_DOCS").is_some() {
                    fs::copy(&picture, document::root().join(format!("docs/mcp/page-{scheme}.png"))).unwrap();
                }
            }
        }
    }
    assert_ne!(backgrounds[0], backgrounds[1]);
}
