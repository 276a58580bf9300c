//! How it ends: with the hooks that are due, within bounds.

use super::{Daemon, is_alive};
use crate::{
    command_line::{database, eventually},
    helpers::calls::{ANY, register, set},
};
use nix::sys::signal::Signal::{SIGINT, SIGTERM};
use serde_json::json;
use std::{fs, time::Duration};
use tests::{ADMIN, Database, Session};
use tokio::time::Instant;

const GATED: &str = r#"echo $$ > "$DIR/pid"; echo "begin $INTCRED_KEY" >> "$DIR/log"
    until [ -e "$DIR/go" ]; do sleep 0.02; done
    echo "end $INTCRED_KEY" >> "$DIR/log""#;

/// With room for one hook at a time, which the key `any` has, while `waiting` waits.
async fn one_running_and_one_waiting(database: &Database, admin: &Session, options: &[&str]) -> Daemon {
    let mut daemon = Daemon::start(database, options).await;
    set(admin, ANY, "value").await.unwrap();
    daemon.logs(&["begin any"]).await;
    daemon.line().await;
    set(admin, "waiting", "value").await.unwrap();
    daemon.line().await;
    daemon
}

#[tokio::test]
async fn it_lets_the_hooks_run_that_are_due_and_takes_no_more_events() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    for key in ["waiting", "late"] {
        register(&admin, key, json!({})).await.unwrap();
    }
    let options = ["--exec", GATED, "--exec-concurrency", "1", "--metrics", "127.0.0.1:0"];
    let mut daemon = one_running_and_one_waiting(&database, &admin, &options).await;

    daemon.signal(SIGTERM);
    eventually("it is not ready", async || daemon.page("/readyz").await == (503, "stopping\n".into())).await;
    set(&admin, "late", "value").await.unwrap();
    fs::write(daemon.path("go"), "").unwrap();
    assert_eq!(daemon.ended().await, 0);
    daemon.logs(&["begin any", "end any", "begin waiting", "end waiting"]).await;
    assert!(daemon.lines.next_line().await.unwrap().is_none());
    assert_eq!(daemon.stderr().lines().count(), 1, "{}", daemon.stderr());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_the_hook_with_it() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    for (first, second) in [(SIGTERM, SIGTERM), (SIGINT, SIGTERM)] {
        let mut daemon = Daemon::start(&database, &["--exec", GATED, "--metrics", "127.0.0.1:0"]).await;
        set(&admin, ANY, "value").await.unwrap();
        daemon.logs(&["begin any"]).await;
        let pid = daemon.read("pid");
        daemon.signal(first);
        eventually("it is stopping", async || daemon.page("/readyz").await.0 == 503).await;
        assert!(is_alive(&pid));
        let sent = Instant::now();
        daemon.signal(second);
        assert_eq!(daemon.ended().await, 0);
        assert!(sent.elapsed() < Duration::from_secs(15));
        eventually("the hook is gone", async || !is_alive(&pid)).await;
    }
}

#[tokio::test]
async fn hooks_have_no_more_time_than_one_may_take_and_what_was_left_is_told() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, "waiting", json!({})).await.unwrap();
    let options = ["--exec", GATED, "--exec-concurrency", "1", "--exec-timeout", "2"];
    let mut daemon = one_running_and_one_waiting(&database, &admin, &options).await;
    let pid = daemon.read("pid");
    let sent = Instant::now();
    daemon.signal(SIGTERM);
    assert_eq!(daemon.ended().await, 0);
    assert!(sent.elapsed() < Duration::from_secs(8), "{:?}", sent.elapsed());
    eventually("the hook is gone", async || !is_alive(&pid)).await;
    daemon.tells(r#"the hook for the last change of "waiting" did not end in time"#).await;
    daemon.tells(r#"the hook for the last change of "any" did not end in time"#).await;
}

#[tokio::test]
async fn a_reader_that_stalls_keeps_nothing_else_from_going_on() {
    let database = database().await;
    let superuser = database.superuser().await;
    // More than a pipe and the daemon's own backlog take.
    superuser
        .batch_execute(
            "SELECT integration_credentials.admin_register_integration(k, k, 'actor'),
                    integration_credentials.admin_set_integration_credentials(k, 'value', 'actor')
             FROM (SELECT rpad(n::text, 200, 'x') AS k FROM generate_series(1, 400) AS n) AS keys",
        )
        .await
        .unwrap();
    let mut daemon = Daemon::start(&database, &["--initial", "--metrics", "127.0.0.1:0"]).await;
    assert_eq!(daemon.page("/readyz").await.0, 200);
    let sent = Instant::now();
    daemon.signal(SIGTERM);
    assert_eq!(daemon.ended().await, 0);
    assert!(sent.elapsed() < Duration::from_secs(10), "{:?}", sent.elapsed());
}
