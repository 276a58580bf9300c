//! `--with-value`: the credential on the standard input of the hook, and nowhere else.

use super::Daemon;
use crate::{
    command_line::{assert_fails, database, eventually},
    helpers::calls::{ANY, enable, register, remove, set},
};
use serde_json::json;
use std::{fs, path::PathBuf};
use tests::{ADMIN, Canary, intcred, run};

/// As the help has it, and with a search of the hook's own arguments and environment.
const HOOK: &str = r#"read -r event; printf '%s\n' "$event" > "$DIR/event-$INTCRED_EVENT-$INTCRED_REVISION"
    cat > "$DIR/value-$INTCRED_EVENT-$INTCRED_REVISION"
    cat /proc/$$/environ /proc/$$/cmdline /proc/$PPID/environ /proc/$PPID/cmdline > "$DIR/proc-$INTCRED_REVISION"
    echo "$INTCRED_EVENT $INTCRED_REVISION" >> "$DIR/log""#;

#[tokio::test]
async fn the_value_is_on_standard_input_below_the_event_and_nowhere_else() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    let canary = Canary::new();
    let values = [
        canary.to_string(),
        format!("\n{canary}\\n\"'$(exit) \n\n"),
        format!("{}{canary}", "😀".repeat(8192 - canary.as_str().len())),
    ];
    let mut daemon = Daemon::start(&database, &["--exec", HOOK, "--with-value"]).await;
    let mut log = Vec::new();
    let mut files: Vec<PathBuf> = Vec::new();
    for (revision, value) in (1..).zip(&values) {
        set(&admin, ANY, value).await.unwrap();
        let line = daemon.line().await;
        log.push(format!("changed {revision}"));
        daemon.logs(&log.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!(daemon.read(&format!("event-changed-{revision}")), line + "\n");
        files.push(daemon.path(&format!("value-changed-{revision}")));
        assert!(fs::read(files.last().unwrap()).unwrap() == value.as_bytes(), "another value");
    }
    for word in ["disabled", "enabled", "removed"] {
        match word {
            "removed" => remove(&admin, ANY).await,
            _ => enable(&admin, ANY, word == "enabled").await,
        }
        .unwrap();
        log.push(format!("{word} {}", if word == "removed" { 4 } else { 3 }));
        daemon.logs(&log.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    assert_eq!(daemon.read("value-disabled-3"), "");
    assert_eq!(daemon.read("value-removed-4"), "");
    assert!(daemon.read("value-enabled-3") == values[2], "another value");
    files.push(daemon.path("value-enabled-3"));
    daemon.assert_absent(&canary, &files);
    assert_eq!(daemon.stderr(), "");
}

#[tokio::test]
async fn a_hook_is_not_run_without_a_value_where_one_is_due() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, "off", json!({})).await.unwrap();
    set(&admin, "off", "value").await.unwrap();
    enable(&admin, "off", false).await.unwrap();
    let options = ["--initial", "--exec", HOOK, "--with-value", "--metrics", "127.0.0.1:0"];
    let daemon = Daemon::start(&database, &options).await;
    daemon.measures(r#"intcred_hook_runs_total{outcome="skipped"} 1"#).await;
    enable(&admin, "off", true).await.unwrap();
    daemon.logs(&["enabled 1"]).await;
    assert_eq!(daemon.read("value-enabled-1"), "value");
    // Enabled, and none was ever set.
    enable(&admin, ANY, false).await.unwrap();
    daemon.logs(&["enabled 1", "disabled 0"]).await;
    enable(&admin, ANY, true).await.unwrap();
    daemon.measures(r#"intcred_hook_runs_total{outcome="skipped"} 2"#).await;
    daemon.logs(&["enabled 1", "disabled 0"]).await;
    assert_eq!(daemon.stderr().lines().count(), 1, "{}", daemon.stderr());
}

#[tokio::test]
async fn the_value_is_as_it_is_when_the_hook_starts() {
    const GATED: &str = r#"echo "$INTCRED_KEY $INTCRED_REVISION" >> "$DIR/log"
        read -r event; cat > "$DIR/value-$INTCRED_KEY"
        until [ -e "$DIR/go" ]; do sleep 0.02; done"#;
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, "first", json!({})).await.unwrap();
    let options = ["--exec", GATED, "--with-value", "--exec-concurrency", "1"];
    let mut daemon = Daemon::start(&database, &options).await;
    set(&admin, "first", "value").await.unwrap();
    daemon.logs(&["first 1"]).await;
    daemon.line().await;
    set(&admin, ANY, "old").await.unwrap();
    daemon.line().await;
    set(&admin, ANY, "new").await.unwrap();
    fs::write(daemon.path("go"), "").unwrap();
    eventually("the new value", async || daemon.read("value-any") == "new").await;
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    let superuser = database.superuser().await;
    let options = ["--exec", HOOK, "--with-value", "--exec-retries", "0"];
    let daemon = Daemon::start(&database, &options).await;
    let limit = |limit| format!("ALTER DATABASE {} CONNECTION LIMIT {limit}", database.name());
    superuser.batch_execute(&limit(0)).await.unwrap();
    set(&admin, ANY, "value").await.unwrap();
    daemon.tells("(changed, revision 1) failed: cannot read the credential: cannot connect").await;
    eventually("several tries", async || daemon.stderr().matches("retrying").count() >= 2).await;
    superuser.batch_execute(&limit(-1)).await.unwrap();
    daemon.logs(&["changed 1"]).await;
    assert!(!daemon.stderr().contains("given up"), "{}", daemon.stderr());
}

#[tokio::test]
async fn a_role_that_may_not_read_is_told_so_and_the_hook_not_run() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    let canary = Canary::new();
    let options = ["--exec", HOOK, "--with-value", "--exec-retries", "0"];
    let daemon = Daemon::start_with(&database, ADMIN, &options, |_| {}).await;
    set(&admin, ANY, canary.as_str()).await.unwrap();
    daemon.tells("cannot read the credential: permission denied").await;
    daemon.tells("given up (attempts: 1)").await;
    assert_eq!(daemon.read("log"), "");
    daemon.assert_absent(&canary, &[]);
}

#[tokio::test]
async fn the_options_of_hooks_need_a_hook() {
    let database = database().await;
    for options in [
        &["--with-value"][..],
        &["--exec-timeout", "1"],
        &["--exec-retries", "1"],
        &["--exec-concurrency", "1"],
    ] {
        let output = run(intcred().args(["--dsn", &database.dsn(ADMIN), "listen"]).args(options), b"").await;
        assert_eq!(output.code, 2, "{output:?}");
        assert!(output.stderr.contains("--exec <CMD>"), "{output:?}");
    }
    for options in [["--exec", ""], ["--exec-timeout", "0"], ["--exec-concurrency", "0"]] {
        let mut command = intcred();
        command.args(["--dsn", &database.dsn(ADMIN), "listen", "--exec", "true"]).args(options);
        assert_fails(&run(&mut command, b"").await, 2, "");
    }
}
