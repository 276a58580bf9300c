//! What a hook is given, and which of them runs when.

use super::Daemon;
use crate::{
    command_line::{database, eventually},
    helpers::calls::{ANY, enable, register, remove, set},
};
use serde_json::json;
use std::fs;
use tests::{ADMIN, Canary, READER, Session};

#[tokio::test]
async fn a_hook_gets_the_event_and_neither_the_secret_nor_the_connection() {
    const HOOK: &str = r#"
        cat > "$DIR/stdin-$INTCRED_EVENT"; cat /proc/$$/environ > "$DIR/environ-$INTCRED_EVENT"
        cat /proc/$$/cmdline > "$DIR/cmdline-$INTCRED_EVENT"; echo "standard output of the hook"
        echo "$INTCRED_EVENT $INTCRED_ORG $INTCRED_KEY $INTCRED_REVISION $INTCRED_AT" >> "$DIR/log""#;
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    let (value, password) = (Canary::new(), Canary::new());
    let mut daemon = Daemon::start_with(&database, READER, &["--exec", HOOK], |command| {
        command.env("PGPASSWORD", password.as_str()).env("PGPASSFILE", "/nonexistent/passfile");
        command.env("CREDENTIALS_DIRECTORY", "/nonexistent").env("NOTIFY_SOCKET", "/nonexistent");
        command.env("INTCRED_KEY", "inherited").env("KEPT", "kept");
    })
    .await;

    let mut log = Vec::new();
    for (event, revision) in [("changed", 1), ("disabled", 1), ("enabled", 1), ("removed", 2)] {
        let answer = match event {
            "changed" => set(&admin, ANY, value.as_str()).await,
            "removed" => remove(&admin, ANY).await,
            word => enable(&admin, ANY, word == "enabled").await,
        };
        answer.unwrap();
        let line = daemon.line().await;
        let at = serde_json::from_str::<serde_json::Value>(&line).unwrap()["at"].take();
        log.push(format!("{event} {} {ANY} {revision} {}", database.name(), at.as_str().unwrap()));
        daemon.logs(&log.iter().map(String::as_str).collect::<Vec<_>>()).await;

        assert_eq!(daemon.read(&format!("stdin-{event}")), line + "\n");
        let environ = daemon.read(&format!("environ-{event}"));
        let names: Vec<_> = environ.split('\0').filter_map(|entry| entry.split_once('=')).collect();
        assert!(names.contains(&("KEPT", "kept")) && names.contains(&("INTCRED_KEY", ANY)), "{names:?}");
        let ours = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "CREDENTIALS_DIRECTORY"];
        assert!(names.iter().all(|(name, _)| !name.starts_with("PG") && !ours.contains(name)), "{names:?}");
        assert!(daemon.read(&format!("cmdline-{event}")).starts_with("sh\0-c\0"));
    }
    daemon.tells(&"standard output of the hook\n".repeat(4)).await;
    daemon.assert_absent(&value, &[]);
    assert_eq!(password.search(daemon.dir.path()), []);
    // So that a search that finds nothing means something.
    fs::write(daemon.path("planted"), password.as_str()).unwrap();
    assert_eq!(password.search(daemon.dir.path()).len(), 1);
}

/// A hook that says when it begins, and waits until the test lets it end.
const GATED: &str = r#"echo "begin $INTCRED_KEY $INTCRED_REVISION" >> "$DIR/log"
    until [ -e "$DIR/go" ]; do sleep 0.02; done
    echo "end $INTCRED_KEY $INTCRED_REVISION" >> "$DIR/log""#;

#[tokio::test]
async fn what_changes_while_the_hook_of_a_key_runs_collapses_into_the_last() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    let mut daemon = Daemon::start(&database, &["--exec", GATED]).await;
    set(&admin, ANY, "value").await.unwrap();
    daemon.logs(&["begin any 1"]).await;
    for revision in 2..=5 {
        set(&admin, ANY, "value").await.unwrap();
        // So that each of them is an event of its own.
        while !daemon.line().await.contains(&format!(r#""revision":{revision},"#)) {}
    }
    assert_eq!(daemon.read("log"), "begin any 1\n");
    fs::write(daemon.path("go"), "").unwrap();
    daemon.logs(&["begin any 1", "end any 1", "begin any 5", "end any 5"]).await;
}

/// Sets several keys in one transaction.
async fn set_together(admin: &mut Session, keys: &[&str]) {
    let transaction = admin.transaction().await.unwrap();
    let call = "SELECT integration_credentials.admin_set_integration_credentials($1, 'value', 'actor')";
    for key in keys {
        transaction.execute(call, &[key]).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn no_more_hooks_run_at_once_than_may() {
    let database = database().await;
    let mut admin = database.connect(ADMIN).await;
    let keys = ["a", "b", "c", "d", "e"];
    for key in keys {
        register(&admin, key, json!({})).await.unwrap();
    }
    let options = ["--exec", GATED, "--exec-concurrency", "2", "--metrics", "127.0.0.1:0"];
    let mut daemon = Daemon::start(&database, &options).await;
    set_together(&mut admin, &keys).await;
    for _ in keys {
        daemon.line().await;
    }
    daemon.measures("intcred_hooks_running 2").await;
    eventually("two have begun", async || daemon.read("log").lines().count() == 2).await;
    fs::write(daemon.path("go"), "").unwrap();
    eventually("all have ended", async || daemon.read("log").matches("end").count() == 5).await;

    let mut running = 0;
    for line in daemon.read("log").lines() {
        running += if line.starts_with("begin") { 1 } else { -1 };
        assert!((0..=2).contains(&running), "{}", daemon.read("log"));
    }
    daemon.measures("intcred_hooks_running 0").await;
    daemon.measures(r#"intcred_hook_runs_total{outcome="succeeded"} 5"#).await;
}

#[tokio::test]
async fn a_hook_need_not_read_its_input() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    let hook = r#"exec 0<&-; echo "$INTCRED_REVISION" >> "$DIR/log""#;
    let daemon = Daemon::start(&database, &["--exec", hook, "--with-value"]).await;
    // As much as there can be to read.
    set(&admin, ANY, &"😀".repeat(8192)).await.unwrap();
    daemon.logs(&["1"]).await;
    set(&admin, ANY, "value").await.unwrap();
    daemon.logs(&["1", "2"]).await;
    assert_eq!(daemon.stderr(), "");
}
