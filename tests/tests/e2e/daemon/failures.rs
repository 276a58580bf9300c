//! Hooks that fail, and hooks that do not end.

use super::{Daemon, is_alive};
use crate::{
    command_line::{database, eventually},
    helpers::calls::{ANY, register, set},
};
use serde_json::json;
use std::fs;
use tests::ADMIN;

#[tokio::test]
async fn a_hook_that_fails_is_run_again_and_then_given_up_for_all_to_see() {
    const HOOK: &str = r#"echo "$INTCRED_REVISION" >> "$DIR/log"; [ -e "$DIR/mended" ] || exit 3"#;
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    let options = ["--exec", HOOK, "--exec-retries", "2", "--metrics", "127.0.0.1:0"];
    let daemon = Daemon::start(&database, &options).await;
    let failed = format!(r#"intcred_hook_failed_revision{{org="{}",key="{ANY}"}} 1"#, database.name());
    daemon.measures("intcred_hook_failures_total 0").await;
    set(&admin, ANY, "value").await.unwrap();
    daemon.measures("intcred_hook_failures_total 1").await;
    daemon.measures(&failed).await;
    daemon.measures(r#"intcred_hook_runs_total{outcome="failed"} 3"#).await;
    daemon.logs(&["1", "1", "1"]).await;
    let told = r#"intcred: warning: the hook for "any" (changed, revision 1) failed: exit status: 3; "#;
    let stderr = daemon.stderr();
    let warnings: Vec<_> = stderr.lines().filter_map(|line| line.strip_prefix(told)).collect();
    assert_eq!(warnings.len(), 3, "{stderr}");
    assert!(warnings[..2].iter().all(|rest| rest.starts_with("retrying in ")), "{stderr}");
    assert_eq!(warnings[2], "given up (attempts: 3)");
    assert_eq!(daemon.page("/readyz").await.0, 200);

    fs::write(daemon.path("mended"), "").unwrap();
    set(&admin, ANY, "value").await.unwrap();
    daemon.logs(&["1", "1", "1", "2"]).await;
    daemon.measures(r#"intcred_hook_runs_total{outcome="succeeded"} 1"#).await;
    let (_, metrics) = daemon.page("/metrics").await;
    assert!(!metrics.contains("intcred_hook_failed_revision{"), "{metrics}");
    assert!(metrics.contains("intcred_hook_failures_total 1\n"), "{metrics}");
}

#[tokio::test]
async fn a_newer_change_takes_the_place_of_a_retry() {
    const HOOK: &str = r#"echo "$INTCRED_KEY $INTCRED_REVISION" >> "$DIR/log"; [ "$INTCRED_REVISION" != 1 ]"#;
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    let daemon = Daemon::start(&database, &["--exec", HOOK, "--exec-retries", "1000"]).await;
    set(&admin, ANY, "value").await.unwrap();
    // By now the next try is four seconds away, or more.
    eventually("five tries", async || daemon.stderr().matches("retrying").count() >= 5).await;
    let tries = daemon.read("log");
    set(&admin, ANY, "value").await.unwrap();
    eventually("the newer one", async || daemon.read("log").ends_with("any 2\n")).await;
    assert_eq!(daemon.read("log"), tries + "any 2\n");
    set(&admin, ANY, "value").await.unwrap();
    eventually("the newest", async || daemon.read("log").ends_with("any 2\nany 3\n")).await;
    assert!(!daemon.stderr().contains("given up"), "{}", daemon.stderr());
}

#[tokio::test]
async fn a_hook_that_takes_too_long_is_killed_with_all_that_it_started() {
    // One that would clean up, and two that would not go.
    const HOOK: &str = r#"
        case $INTCRED_KEY in any) ;; *) echo other >> "$DIR/log"; exit ;; esac
        trap 'echo terminated >> "$DIR/terminated"' TERM
        (trap '' TERM; exec sleep 1000) & echo $! > "$DIR/pid-1"
        sh -c 'trap "" TERM; echo $$ > "$DIR/pid-2"; while :; do sleep 1000; done' &
        echo $$ > "$DIR/pid-3"
        while :; do wait; done"#;
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, "other", json!({})).await.unwrap();
    let options = ["--exec", HOOK, "--exec-timeout", "10", "--exec-retries", "0", "--exec-concurrency", "1"];
    let daemon = Daemon::start(&database, &options).await;
    set(&admin, ANY, "value").await.unwrap();
    eventually("all of them run", async || {
        [1, 2, 3].iter().all(|number| !daemon.read(&format!("pid-{number}")).is_empty())
    })
    .await;
    let pids = [1, 2, 3].map(|number| daemon.read(&format!("pid-{number}")));
    assert!(pids.iter().all(|pid| is_alive(pid)), "{pids:?}");
    daemon.tells("failed: killed after 10 s; given up (attempts: 1)").await;
    eventually("they are gone", async || pids.iter().all(|pid| !is_alive(pid))).await;
    assert_eq!(daemon.read("terminated"), "terminated\n");
    // Its place is free again.
    set(&admin, "other", "value").await.unwrap();
    daemon.logs(&["other"]).await;
}
