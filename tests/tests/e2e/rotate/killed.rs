//! A rotation that is killed at each of its steps, and resumed.

use super::{REVOKE, Rotation, TEST, steps};
use crate::{
    command_line::{PATIENCE, eventually},
    helpers::calls::ANY,
};
use std::{fs, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Child,
    time::timeout,
};

impl Rotation {
    /// Starts a rotation with its value on standard input.
    async fn start(&self, test: &str, revoke: &str) -> Child {
        let mut command = self.intcred(&["--json", "rotate", ANY, "--test", test, "--revoke", revoke]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"new").await.unwrap();
        child
    }

    /// Ends what was killed: by a resumption, or from the beginning where nothing was staged yet. Returns its
    /// steps.
    async fn end(&self) -> Vec<String> {
        let commands = ["--test", TEST, "--revoke", REVOKE];
        let mut steps = self.steps(&[&["--resume"], &commands[..]].concat(), "").await;
        if steps == ["none"] && self.current().await == "old" {
            steps = self.steps(&commands, "new").await;
        }
        assert_eq!(self.current().await, "new", "{steps:?}");
        assert_eq!(self.state().await, ("steady".to_owned(), 2), "{steps:?}");
        let previous = "SELECT previous_ciphertext IS NULL AND pending_ciphertext IS NULL
                        FROM integration_credentials.configured_integrations";
        assert!(self.superuser.query_one(previous, &[]).await.unwrap().get::<_, bool>(0));
        steps
    }
}

/// Waits until the killed process is gone, and the server has noticed.
async fn kill(rotation: &Rotation, mut child: Child) {
    child.kill().await.unwrap();
    let sessions =
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'intcred'";
    eventually("its sessions end", async || {
        rotation.superuser.query(sessions, &[]).await.unwrap().is_empty()
    })
    .await;
}

#[tokio::test]
async fn rotation_killed_after_each_line_is_resumed() {
    for line in 0..=7 {
        let rotation = Rotation::with_value("old").await;
        let mut child = rotation.start(TEST, REVOKE).await;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = String::new();
        for _ in 0..line {
            let next = timeout(PATIENCE, lines.next_line()).await.expect("a step").unwrap();
            seen += &(next.expect("it goes on") + "\n");
        }
        kill(&rotation, child).await;
        let steps = steps(&seen);
        let resumed = rotation.end().await;
        assert_eq!(rotation.read("tested"), "new", "{steps:?} {resumed:?}");
        assert_eq!(rotation.read("revoked"), "old", "{steps:?} {resumed:?}");
        assert_eq!(rotation.steps(&["--resume"], "").await, ["none"]);
    }
}

#[tokio::test]
async fn rotation_killed_while_it_tests_waits_or_revokes_is_resumed() {
    const BLOCKED: &str = r#"touch "$DIR/blocked"; until [ -e "$DIR/go" ]; do sleep 0.02; done; true"#;
    for (test, revoke, behind, expected) in [
        (BLOCKED, REVOKE, false, &["test", "promote", "wait", "revoke", "retire", "done"][..]),
        (TEST, REVOKE, true, &["wait", "revoke", "retire", "done"]),
        (TEST, BLOCKED, false, &["wait", "revoke", "retire", "done"]),
    ] {
        let rotation = Rotation::with_value("old").await;
        if behind {
            rotation.hold("web-1", 1, 300).await;
        }
        let child = rotation.start(test, revoke).await;
        if behind {
            eventually("it waits", async || rotation.state().await.0 == "rotating").await;
        } else {
            eventually("the command runs", async || rotation.path("blocked").exists()).await;
        }
        kill(&rotation, child).await;
        // The command may outlive a killed process.
        fs::write(rotation.path("go"), "").unwrap();
        if behind {
            rotation.hold("web-1", 2, 300).await;
        }
        assert_eq!(rotation.end().await, expected);
    }
}

#[tokio::test]
async fn read_of_the_old_value_by_a_killed_rotation_does_not_hold_up_its_resumption() {
    let rotation = Rotation::with_value("old").await;
    assert_eq!(rotation.steps(&["--detach"], "new").await, ["stage", "promote"]);
    // As far as a rotation gets that is killed between its read of the old value and its read of the new one.
    assert_eq!(rotation.run(&["get", ANY, "--which", "previous"], "").await.success(), "old");
    let status = rotation.status().await;
    assert_eq!(
        (&status["verdict"], &status["behind"][0]["role"]),
        (&"waiting".into(), &rotation.role.clone().into())
    );
    let steps = rotation.steps(&["--resume", "--revoke", REVOKE], "").await;
    assert_eq!(steps, ["wait", "revoke", "retire", "done"]);
}

#[tokio::test]
async fn server_that_goes_away_during_the_wait_is_waited_for() {
    let rotation = Rotation::with_value("old").await;
    rotation.hold("web-1", 1, 300).await;
    let child = rotation.start(TEST, REVOKE).await;
    eventually("it has promoted", async || rotation.state().await.0 == "rotating").await;
    // An idle session has sent its answer, so the rotation hears that it has promoted.
    let idle = "SELECT FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'intcred' AND state = 'idle'";
    eventually("it waits", async || !rotation.superuser.query(idle, &[]).await.unwrap().is_empty()).await;
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name = 'intcred'";
    for _ in 0..3 {
        eventually("a session ends", async || {
            !rotation.superuser.query(terminate, &[]).await.unwrap().is_empty()
        })
        .await;
    }
    rotation.hold("web-1", 2, 300).await;
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(rotation.read("revoked"), "old");
}
