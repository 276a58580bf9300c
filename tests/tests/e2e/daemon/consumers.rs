//! What hooks hold, and the notices that a credential will expire.

use super::Daemon;
use crate::{
    command_line::{database, eventually},
    helpers::calls::{ANY, set},
    leases::{becomes, begin, held, status},
};
use nix::sys::signal::Signal::SIGTERM;
use serde_json::{Value, json};
use std::fs;
use tests::{ADMIN, Database, Session};

async fn expire(admin: &Session, key: &str, expires_at: &str) {
    let sql = "SELECT integration_credentials.admin_set_integration_credentials($1, 'value', 'test', $2)";
    admin.query_one(sql, &[&key, &json!({"expiresAt": expires_at})]).await.unwrap();
}

#[tokio::test]
async fn a_hook_holds_a_value_until_the_hook_for_the_next_succeeds() {
    let database = database().await;
    begin(&database).await;
    let (admin, superuser) = (database.connect(ADMIN).await, database.superuser().await);
    set(&admin, ANY, "one").await.unwrap();
    let hook = "while [ ! -e \"$DIR/go\" ]; do sleep 0.02; done; read -r event; cat >\"$DIR/value\"";
    let options = ["--name", "files", "--with-value", "--exec", hook];
    let mut daemon = Daemon::start(&database, &options).await;
    // What an earlier daemon wrote.
    eventually("reported", async || held(&superuser, "files").await == Some(json!({ANY: [1, 1]}))).await;
    set(&admin, ANY, "two").await.unwrap();
    eventually("reported", async || held(&superuser, "files").await == Some(json!({ANY: [1, 2]}))).await;
    assert_eq!(status(&admin, ANY).await.0, "waiting");
    fs::write(daemon.path("go"), "").unwrap();
    becomes(&admin, ANY, "converged").await;
    assert_eq!(daemon.read("value"), "two");
    assert_eq!(held(&superuser, "files").await, Some(json!({ANY: [2, 2]})));
    daemon.signal(SIGTERM);
    assert_eq!(daemon.ended().await, 0);
    eventually("its lease has ended", async || held(&superuser, "files").await.is_none()).await;
}

#[tokio::test]
async fn a_hook_that_fails_keeps_the_rotation_waiting() {
    let database = database().await;
    begin(&database).await;
    let (admin, superuser) = (database.connect(ADMIN).await, database.superuser().await);
    set(&admin, ANY, "one").await.unwrap();
    let options = ["--name", "files", "--exec-retries", "0", "--exec", "test -e \"$DIR/go\""];
    let daemon = Daemon::start(&database, &options).await;
    eventually("reported", async || held(&superuser, "files").await == Some(json!({ANY: [1, 1]}))).await;
    set(&admin, ANY, "two").await.unwrap();
    daemon.tells("given up").await;
    assert_eq!(status(&admin, ANY).await.0, "waiting");
    fs::write(daemon.path("go"), "").unwrap();
    set(&admin, ANY, "three").await.unwrap();
    becomes(&admin, ANY, "converged").await;
}

#[tokio::test]
async fn a_credential_that_will_expire_is_a_line_and_a_metric() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    expire(&admin, ANY, "2999-01-01T00:00:00Z").await;
    let superuser = database.superuser().await;
    let mut daemon = Daemon::start(&database, &["--metrics", "127.0.0.1:0"]).await;
    let metric = format!(
        r#"intcred_expires_timestamp_seconds{{org="{}",key="{ANY}"}} 32472144000.0"#,
        database.name()
    );
    daemon.measures(&metric).await;
    let soon =
        "UPDATE integration_credentials.configured_integrations SET expires_at = now() + interval '3 days'";
    // A payload that is no event makes the daemon read the list.
    superuser.batch_execute(&format!("{soon}; NOTIFY integration_credentials")).await.unwrap();
    // By the next look.
    let line: Value = serde_json::from_str(&daemon_line(&mut daemon, "expiring").await).unwrap();
    assert_eq!((&line["key"], &line["days"], &line["revision"]), (&json!(ANY), &json!(7), &json!(1)));
}

#[tokio::test]
async fn the_consumers_of_a_key_are_a_metric() {
    let database: Database = database().await;
    begin(&database).await;
    let admin = database.connect(ADMIN).await;
    set(&admin, ANY, "one").await.unwrap();
    let options = ["--metrics", "127.0.0.1:0", "--exec", "true"];
    let daemon = Daemon::start(&database, &options).await;
    daemon.measures("intcred_lease 1").await;
    let metric = format!(r#"intcred_consumers{{org="{}",key="{ANY}",state="current"}} 1"#, database.name());
    daemon.measures(&metric).await;
}

/// The next line of this event.
async fn daemon_line(daemon: &mut Daemon, event: &str) -> String {
    loop {
        let line = daemon.line().await;
        if line.contains(&format!("\"event\":\"{event}\"")) {
            return line;
        }
    }
}
