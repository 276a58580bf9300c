//! Bad requests of HTTP.

use super::{
    http::{Request, read, send_raw},
    scene::{Scene, modern},
};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};

#[tokio::test]
async fn requests_that_are_not_the_protocols_are_refused() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key("user").await;
    let good = modern("tools/list", json!({})).key(&key);
    assert_eq!(served.send(&good).await.status, 200);
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let cases = [
        ("a foreign origin", good.clone().with("Origin", "https://evil.example"), 403),
        ("the origin null", good.clone().with("Origin", "null"), 403),
        ("our host, and another port", good.clone().with("Origin", "http://127.0.0.1:1"), 403),
        ("a foreign host", good.clone().with("Host", "evil.example"), 403),
        ("two hosts", good.clone().with("Host", &served.address()).and("Host", "evil.example"), 403),
        ("text", good.clone().with("Content-Type", "text/plain"), 415),
        ("a form", good.clone().with("Content-Type", "application/x-www-form-urlencoded"), 415),
        ("no Accept", good.clone().without("Accept"), 406),
        ("no JSON", good.clone().body("hello"), 415),
        ("nested JSON", good.clone().body(&nested), 415),
        ("a batch", good.clone().body("[]"), 415),
        ("a long body", good.clone().body(&"x".repeat(2 << 20)), 413),
        ("another method in the header", good.clone().with("Mcp-Method", "tools/call"), 400),
        ("another version in the header", good.clone().with("MCP-Protocol-Version", "2025-11-25"), 400),
        (
            "a version that nobody knows",
            Request::mcp(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}))
                .key(&key)
                .with("MCP-Protocol-Version", "2031-01-01"),
            400,
        ),
    ];
    for (what, request, status) in cases {
        let answer = served.send(&request).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert!(!answer.body.contains("evil"), "{what}: {answer:?}");
    }
    assert_eq!(
        served.send(&good.clone().with("Mcp-Method", "tools/call")).await.json()["error"]["code"],
        -32020
    );
    for method in ["GET", "DELETE", "PUT", "OPTIONS"] {
        let answer = served.send(&Request::new(method, "/mcp").key(&key)).await;
        answer.assert_error(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    assert_eq!(served.send(&good.with("Origin", &served.url())).await.status, 200);
}

#[tokio::test]
async fn other_paths_are_not_found_so_that_no_oauth_flow_starts() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    for path in [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/register",
        "/authorize",
        "/",
        "/mcp/",
        "//mcp",
        "/credential/../mcp",
        "/credential/other",
    ] {
        for method in ["GET", "POST"] {
            let answer = served.send(&Request::new(method, path)).await;
            answer.assert_error(404, "not_found");
            assert_eq!(answer.header("content-type"), Some("application/json"));
        }
    }
    let absolute = served.send(&Request::new("POST", &format!("http://evil.example{}", "/mcp"))).await;
    assert_ne!(absolute.status, 200);
}

#[tokio::test]
async fn a_key_in_the_url_is_refused_and_called_burnt() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key("user").await;
    for path in [format!("/mcp?key={key}"), format!("/credential?{key}"), format!("/mcp?a=b&token={key}")] {
        let answer = served.send(&modern("tools/list", json!({})).key(&key).path(&path)).await;
        answer.assert_error(400, "invalid_request");
        assert!(answer.body.contains("Revoke") && !answer.body.contains(&key), "{answer:?}");
    }
    assert!(!served.stderr().contains(&key));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key("user").await;
    let address = served.address();
    let slow = modern("tools/list", json!({})).key(&key).written(&address);
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(&slow.as_bytes()[..slow.len() - 1]).await.unwrap();
    read(&mut stream).await.assert_error(408, "too_slow");
    // Chunks that say nothing of their sum.
    let head = slow.split("\r\n\r\n").next().unwrap();
    let head: Vec<_> = head.lines().filter(|line| !line.starts_with("Content-Length")).collect();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(65536));
    let chunked = format!("{}\r\nTransfer-Encoding: chunked\r\n\r\n{}", head.join("\r\n"), chunk.repeat(3));
    send_raw(&address, chunked.as_bytes()).await.assert_error(413, "too_large");
}

#[tokio::test]
async fn a_head_that_is_too_long_or_no_http_ends_the_connection() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key("user").await;
    let long = modern("tools/list", json!({})).with("X-Long", &"x".repeat(64 << 10));
    assert_eq!(served.send(&long).await.status, 431);
    assert_eq!(send_raw(&served.address(), b"\x16\x03\x01\x02\x00 no HTTP\r\n\r\n").await.status, 400);
    assert_eq!(served.send(&modern("tools/list", json!({})).key(&key)).await.status, 200);
}

#[tokio::test]
async fn a_database_that_is_gone_is_503_and_comes_back() {
    use super::scene::ask_for_passwords;
    use tests::{Cluster, Shutdown};
    let mut cluster = Cluster::builder().setting("fsync", "off").start();
    ask_for_passwords(&cluster);
    let scene = Scene::within(&cluster).await;
    let served = scene.serve().await;
    let key = scene.key("user").await;
    let request = modern("tools/list", json!({})).key(&key);
    assert_eq!(served.send(&request).await.status, 200);
    cluster.stop(Shutdown::Fast);
    let answer = served.send(&request).await;
    answer.assert_error(503, "database_unavailable");
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert!(!answer.body.contains(&cluster.dir().display().to_string()), "{answer:?}");
    cluster.start();
    assert_eq!(served.send(&request).await.status, 200);
}

#[tokio::test]
async fn tls_of_the_servers_own_needs_a_private_key_file() {
    use std::{
        fs::{Permissions, set_permissions},
        os::unix::fs::PermissionsExt,
    };
    use tests::run;
    use tokio::process::Command;
    let scene = Scene::new().await;
    let (certificate, key) = (scene.dir.path().join("crt"), scene.dir.path().join("key"));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "1",
    ]);
    openssl.args([
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-keyout",
    ]);
    let made = run(openssl.arg(&key).arg("-out").arg(&certificate), b"").await;
    assert_eq!(made.code, 0, "{made:?}");
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let options = [
        "--public-url",
        "https://localhost:8443",
        "--tls-cert",
        &path(&certificate),
        "--tls-key",
        &path(&key),
    ];
    set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let pepper = path(&scene.pepper());
    let refused = scene
        .operator(&[&["mcp", "--http", "127.0.0.1:0", "--pepper-file", &pepper], &options[..]].concat())
        .await;
    crate::command_line::assert_fails(&refused, 2, "chmod 600");
    set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let served = scene.serve_with(&options).await;
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--include", "--cacert"]).arg(&certificate);
    let page = run(curl.arg(format!("https://{}/credential", served.address())), b"").await;
    assert!(
        page.stdout.starts_with("HTTP/1.1 200") && page.stdout.contains("strict-transport-security"),
        "{page:?}"
    );
    // In the clear, there is no answer.
    let mut curl = Command::new("curl");
    let clear = run(curl.args(["--silent", "--max-time", "5", &served.url()]), b"").await;
    assert!(clear.code != 0 && clear.stdout.is_empty(), "{clear:?}");
}
