//! The public conformance suite, through a proxy that adds the API key: the suite can send none.

use crate::{install::node, scene::Scene};
use axum::http::header::AUTHORIZATION;
use std::fs;
use tests::run;

const SUITE: &str = "node_modules/@modelcontextprotocol/conformance/dist/index.js";

/// The scenarios that apply to a server of tools, and the protocol that each is run with. The others call tools, prompts
/// or resources of the suite's own.
const SCENARIOS: [(&str, &str); 9] = [
    ("server-initialize", "2025-11-25"),
    ("ping", "2025-11-25"),
    ("tools-list", "2025-11-25"),
    ("tools-list", "2026-07-28"),
    ("dns-rebinding-protection", "2026-07-28"),
    ("http-header-validation", "2026-07-28"),
    ("input-required-result-unsupported-methods", "2026-07-28"),
    ("server-stateless", "2026-07-28"),
    ("caching", "2026-07-28"),
];

#[tokio::test(flavor = "multi_thread")]
async fn conformance_suite_passes() {
    let scene = Scene::new().await;
    let key = scene.key(&["--scope", "admin"]).await;
    let authorization = format!("Bearer {key}").parse().unwrap();
    let proxy = scene.proxy(Some((AUTHORIZATION, authorization))).await;
    let _server = scene.replica(&proxy, &[], &[]).await;
    let url = format!("http://{}/mcp", proxy.address);
    let baseline = scene.file("baseline.yml");
    fs::write(&baseline, include_str!("../../clients/conformance-baseline.yml")).unwrap();
    for (scenario, version) in SCENARIOS {
        let mut suite = node(SUITE).await;
        suite.args([
            "server",
            "--url",
            &url,
            "--scenario",
            scenario,
            "--spec-version",
            version,
            "--expected-failures",
        ]);
        suite
            .arg(&baseline)
            .args(["--output-dir"])
            .arg(scene.file("results"))
            .current_dir(scene.written.path());
        let output = run(&mut suite, b"").await;
        assert_eq!(output.code, 0, "{scenario} {version}:\n{}{}", output.stdout, output.stderr);
    }
}
