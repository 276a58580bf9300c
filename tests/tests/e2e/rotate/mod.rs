//! `intcred rotate`, and the commands for its single steps.
//!
//! | module | concept |
//! | --- | --- |
//! | `vendor` | a real HTTP service, whose keys are rotated under load |
//! | `killed` | a rotation that is killed at each of its steps, and resumed |
//! | `shown` | what a terminal shows, and what nothing shows: the values |
//! | `refused` | bad input: refused, and nothing is changed |

mod killed;
mod refused;
mod shown;
mod vendor;

use crate::{
    command_line::{assert_fails, database, eventually, intcred_as},
    helpers::calls::{ANY, get, set},
};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};
use tempfile::TempDir;
use tests::{ADMIN, Database, Output, READER, Session, run};
use tokio::process::Command;

/// A database whose leases are complete, a role that may set and read, and a directory for its commands.
struct Rotation {
    database: Database,
    /// A member of the groups of admins and of readers.
    role: String,
    admin: Session,
    reader: Session,
    superuser: Session,
    dir: TempDir,
}

/// A consumer that holds [`ANY`]: a lease, as a service takes one.
const CONSUMER: &str = "6f3a3d2e-0000-4000-8000-000000000001";

impl Rotation {
    async fn new() -> Self {
        let database = database().await;
        let superuser = database.superuser().await;
        let role = format!("{}_rotator", database.name());
        let script = format!(
            "CREATE ROLE {role} LOGIN IN ROLE integration_credentials_admin, integration_credentials_reader;
             INSERT INTO integration_credentials.lease_epoch (began_at) VALUES (now() - interval '1 day')
                 ON CONFLICT (is_the_row) DO UPDATE SET began_at = excluded.began_at"
        );
        superuser.batch_execute(&script).await.unwrap();
        let (admin, reader) = (database.connect(ADMIN).await, database.connect(READER).await);
        Self { database, role, admin, reader, superuser, dir: tempfile::tempdir().unwrap() }
    }

    /// With a value of revision 1.
    async fn with_value(value: &str) -> Self {
        let rotation = Self::new().await;
        set(&rotation.admin, ANY, value).await.unwrap();
        rotation
    }

    /// `intcred` with these arguments, whose commands find the directory in `$DIR`.
    fn intcred(&self, arguments: &[&str]) -> Command {
        let mut command = intcred_as(&self.database, &self.role, arguments);
        command.env("DIR", self.dir.path());
        command
    }

    async fn run(&self, arguments: &[&str], stdin: &str) -> Output {
        run(&mut self.intcred(arguments), stdin.as_bytes()).await
    }

    /// The steps that `intcred rotate` printed with `--json`.
    async fn steps(&self, arguments: &[&str], stdin: &str) -> Vec<String> {
        let output = self.run(&[&["--json", "rotate", ANY], arguments].concat(), stdin).await;
        steps(&output.success())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file that a command wrote, if it did.
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The row of `intcred status`.
    async fn status(&self) -> Value {
        let rows: Value =
            serde_json::from_str(&self.run(&["--json", "status", ANY], "").await.success()).unwrap();
        rows[0].clone()
    }

    async fn state(&self) -> (String, i64) {
        let status = self.status().await;
        (status["state"].as_str().unwrap().to_owned(), status["revision"].as_i64().unwrap())
    }

    /// Reports as a consumer that uses no revision below `revision`.
    async fn hold(&self, name: &str, revision: i64, seconds: i32) {
        let report = "SELECT integration_credentials.report_held_revisions(
            $1::text::uuid, $2, $3, make_interval(secs => $4))";
        let held = json!({ANY: [revision, revision]});
        self.reader.query(report, &[&CONSUMER, &name, &held, &f64::from(seconds)]).await.unwrap();
    }

    async fn current(&self) -> String {
        get(&self.database.connect(&self.role).await, ANY).await.unwrap()
    }
}

fn steps(lines: &str) -> Vec<String> {
    let step = |line: &str| serde_json::from_str::<Value>(line).unwrap()["step"].as_str().unwrap().to_owned();
    lines.lines().map(step).collect()
}

/// Writes its input to a file, unless the input is empty. A test may outlive a rotation that was killed, and would empty the
/// file that the next rotation writes.
const TEST: &str = r#"value=$(cat); [ -z "$value" ] || printf %s "$value" > "$DIR/tested""#;
const REVOKE: &str = r#"value=$(cat); [ -z "$value" ] || printf %s "$value" > "$DIR/revoked""#;

#[tokio::test]
async fn rotation_is_staged_tested_promoted_waited_for_revoked_and_retired() {
    let rotation = Rotation::with_value("old").await;
    let output = rotation.run(&["rotate", ANY, "--test", TEST, "--revoke", REVOKE], "new\n").await;
    assert_eq!(output.stderr, "");
    let lines: Vec<_> = output.stdout.lines().collect();
    let expected = [
        "any: staged",
        "any: tested",
        "any: promoted at revision 2",
        "any: 0/0 consumers use revision 2",
        "any: revoked the value of revision 1",
        "any: retired the value of revision 1",
        "any: rotated to revision 2",
    ];
    assert_eq!(lines, expected);
    assert_eq!((rotation.read("tested").as_str(), rotation.read("revoked").as_str()), ("new", "old"));
    assert_eq!(rotation.current().await, "new");
    assert_eq!(rotation.state().await, ("steady".to_owned(), 2));

    // Again with JSON, and with an expiry.
    let arguments = ["--test", TEST, "--revoke", REVOKE, "--expires", "2099-01-31"];
    let steps = rotation.steps(&arguments, "newer").await;
    assert_eq!(steps, ["stage", "test", "promote", "wait", "revoke", "retire", "done"]);
    assert_eq!((rotation.read("tested").as_str(), rotation.read("revoked").as_str()), ("newer", "new"));
    let list: Value = serde_json::from_str(&rotation.run(&["--json", "list"], "").await.success()).unwrap();
    assert_eq!(list[0]["expiresAt"], "2099-01-31T00:00:00.000Z");
}

#[tokio::test]
async fn first_value_is_rotated_to_as_well() {
    let rotation = Rotation::new().await;
    let steps = rotation.steps(&["--test", TEST, "--revoke", REVOKE], "first").await;
    assert_eq!(steps, ["stage", "test", "promote", "wait", "done"]);
    assert_eq!((rotation.read("tested").as_str(), rotation.read("revoked").as_str()), ("first", ""));
    assert_eq!(rotation.state().await, ("steady".to_owned(), 1));

    // And a credential that was removed.
    assert_eq!(rotation.run(&["remove", ANY], "").await.code, 0);
    let steps = rotation.steps(&["--revoke", REVOKE], "second").await;
    assert_eq!(steps, ["stage", "promote", "wait", "done"]);
    assert_eq!((rotation.current().await.as_str(), rotation.read("revoked").as_str()), ("second", ""));
}

#[tokio::test]
async fn value_whose_test_fails_is_discarded() {
    let rotation = Rotation::with_value("old").await;
    for (test, failure) in
        [("exit 3", "exit status: 3"), ("kill $$", "signal: 15"), ("sleep 60", "killed after 1 s")]
    {
        let limit = if test.starts_with("sleep") { "1" } else { "30" };
        let arguments = ["rotate", ANY, "--test", test, "--exec-timeout", limit];
        let output = rotation.run(&arguments, "new").await;
        assert_eq!(output.stdout, "any: staged\nany: discarded the staged value\n");
        let stderr = format!("intcred: the test failed: {failure}");
        assert!(output.code == 1 && output.stderr.starts_with(&stderr), "{output:?}");
        assert_eq!(rotation.state().await, ("steady".to_owned(), 1));
        assert_eq!(rotation.current().await, "old");
    }
}

#[tokio::test]
async fn consumers_are_waited_for_and_the_old_value_revoked_only_then() {
    let rotation = Rotation::with_value("old").await;
    rotation.hold("web-1", 1, 300).await;
    let mut command = rotation.intcred(&["rotate", ANY, "--revoke", REVOKE, "--timeout", "5s"]);
    let output = run(&mut command, b"new").await;
    assert_eq!(output.code, 1);
    let progress = "intcred: any: 0/1 consumers, waiting for web-1\n";
    assert!(output.stderr.starts_with(progress), "{output:?}");
    assert!(
        output.stderr.contains("intcred: any: not every consumer has moved in time: 0/1 consumers"),
        "{output:?}"
    );
    assert!(output.stderr.contains("hint: `intcred rotate any --resume` goes on"), "{output:?}");
    assert_eq!(rotation.read("revoked"), "");
    assert_eq!(rotation.state().await, ("rotating".to_owned(), 2));
    let status = rotation.status().await;
    assert_eq!((&status["verdict"], &status["behind"][0]["name"]), (&json!("waiting"), &json!("web-1")));
    // The command for the single step is refused likewise.
    assert_fails(&rotation.run(&["retire", ANY], "").await, 1, "may still use the previous value");

    rotation.hold("web-1", 2, 300).await;
    let steps = rotation.steps(&["--resume", "--revoke", REVOKE], "").await;
    assert_eq!(steps, ["wait", "revoke", "retire", "done"]);
    assert_eq!(rotation.read("revoked"), "old");
    assert_eq!(rotation.steps(&["--resume"], "").await, ["none"]);
}

#[tokio::test]
async fn rotation_detached_is_resumed_or_aborted() {
    let rotation = Rotation::with_value("old").await;
    assert_eq!(rotation.steps(&["--detach", "--test", TEST], "new").await, ["stage", "test", "promote"]);
    assert_eq!(rotation.steps(&["--abort"], "").await, ["rollback"]);
    assert_eq!(rotation.current().await, "old");
    assert_eq!(rotation.state().await, ("rotating".to_owned(), 3));
    // What is revoked then is the value that was given up.
    let steps = rotation.steps(&["--resume", "--revoke", REVOKE], "").await;
    assert_eq!(steps, ["wait", "revoke", "retire", "done"]);
    assert_eq!(rotation.read("revoked"), "new");
    assert_eq!(rotation.current().await, "old");

    assert_eq!(rotation.run(&["set", ANY, "--stage"], "newer").await.code, 0);
    assert_eq!(rotation.steps(&["--abort"], "").await, ["discard"]);
    assert_eq!(rotation.run(&["set", ANY, "--stage"], "newest").await.code, 0);
    assert_eq!(rotation.steps(&["--resume"], "").await, ["promote", "wait", "retire", "done"]);
    assert_eq!(rotation.current().await, "newest");
}

#[tokio::test]
async fn revocation_that_fails_runs_again() {
    let rotation = Rotation::with_value("old").await;
    let revoke = r#"cat >> "$DIR/revoked"; [ -e "$DIR/up" ]"#;
    let output = rotation.run(&["rotate", ANY, "--revoke", revoke], "new").await;
    assert!(
        output.code == 1 && output.stderr.contains("the revocation failed: exit status: 1"),
        "{output:?}"
    );
    assert_eq!(rotation.state().await, ("rotating".to_owned(), 2));
    fs::write(rotation.path("up"), "").unwrap();
    let steps = rotation.steps(&["--resume", "--revoke", revoke], "").await;
    assert_eq!(steps, ["wait", "revoke", "retire", "done"]);
    assert_eq!(rotation.read("revoked"), "oldold");
}

#[tokio::test]
async fn change_by_another_caller_stops_the_rotation() {
    let rotation = Rotation::with_value("old").await;
    rotation.hold("web-1", 1, 300).await;
    let mut command = rotation.intcred(&["rotate", ANY, "--revoke", REVOKE]);
    let rotating = tokio::spawn(async move { run(&mut command, b"new").await });
    eventually("promoted", async || rotation.state().await.1 == 2).await;
    set(&rotation.admin, ANY, "of another").await.unwrap();
    let output = rotating.await.unwrap();
    let message = "another caller has changed any: it is at revision 3, not 2";
    assert!(output.code == 1 && output.stderr.contains(message), "{output:?}");
    assert_eq!(rotation.read("revoked"), "");
    assert_eq!(rotation.current().await, "of another");

    // And while the new value is tested.
    let rotation = Rotation::with_value("old").await;
    let test = r#"touch "$DIR/testing"; until [ -e "$DIR/go" ]; do sleep 0.02; done"#;
    let mut command = rotation.intcred(&["rotate", ANY, "--test", test]);
    let rotating = tokio::spawn(async move { run(&mut command, b"new").await });
    eventually("the test runs", async || rotation.path("testing").exists()).await;
    set(&rotation.admin, ANY, "of another").await.unwrap();
    fs::write(rotation.path("go"), "").unwrap();
    let output = rotating.await.unwrap();
    assert!(
        output.code == 1 && output.stderr.contains("has revision 2, and the call expects 1"),
        "{output:?}"
    );
    assert_eq!(rotation.current().await, "of another");
}

#[tokio::test]
async fn value_staged_by_another_caller_is_not_promoted_untested() {
    for end in ["exit 0", "exit 1"] {
        let rotation = Rotation::with_value("old").await;
        let test = format!(r#"touch "$DIR/testing"; until [ -e "$DIR/go" ]; do sleep 0.02; done; {end}"#);
        let mut command = rotation.intcred(&["rotate", ANY, "--test", &test]);
        let rotating = tokio::spawn(async move { run(&mut command, b"new").await });
        eventually("the test runs", async || rotation.path("testing").exists()).await;
        assert_eq!(rotation.run(&["set", ANY, "--stage"], "of another").await.code, 0);
        fs::write(rotation.path("go"), "").unwrap();
        let output = rotating.await.unwrap();
        let message = "another caller has staged another value of any";
        assert!(output.code == 1 && output.stderr.contains(message), "{output:?}");
        assert_eq!(rotation.current().await, "old");
        assert_eq!(rotation.run(&["get", ANY, "--which", "pending"], "").await.success(), "of another");
    }
}

#[tokio::test]
async fn time_of_the_old_value_that_ends_too_early_is_told() {
    let rotation = Rotation::with_value("old").await;
    let kept = rotation.run(&["catalog", "keep-previous", ANY, "10s"], "").await;
    assert_eq!(kept.success(), "any: a previous value is kept for 10s\n");
    rotation.hold("web-1", 1, 300).await;
    let output = rotation.run(&["rotate", ANY, "--revoke", REVOKE], "new").await;
    let message = "the time of the old value of any is over, and it may still be in use: 0/1 consumers, waiting for web-1";
    assert!(output.code == 1 && output.stderr.contains(message), "{output:?}");
    assert!(output.stderr.contains("revoke that one at the vendor by hand"), "{output:?}");
    assert_eq!((rotation.read("revoked").as_str(), rotation.current().await.as_str()), ("", "new"));

    // None is kept at all.
    let rotation = Rotation::with_value("old").await;
    assert_eq!(rotation.run(&["catalog", "keep-previous", ANY, "0"], "").await.code, 0);
    let output = rotation.run(&["rotate", ANY, "--revoke", REVOKE], "new").await;
    assert!(output.code == 1 && output.stderr.contains("keeps no previous value"), "{output:?}");
    assert_eq!(rotation.read("revoked"), "");
}

#[tokio::test]
async fn single_steps_answer_with_the_state() {
    let rotation = Rotation::with_value("one").await;
    let json = async |arguments: &[&str], stdin: &str| -> Value {
        let output = rotation.run(&[&["--json"], arguments].concat(), stdin).await;
        serde_json::from_str(&output.success()).unwrap()
    };
    let shown = |answer: &Value| {
        ["revision", "hasCredentials", "hasPrevious", "hasPending"].map(|name| answer[name].clone())
    };
    let expected = |revision: i64, has: bool, previous: bool, pending: bool| {
        [json!(revision), json!(has), json!(previous), json!(pending)]
    };
    assert_eq!(json(&["set", ANY, "--dry-run"], "one").await, json!({"key": ANY, "wouldBe": "unchanged"}));
    assert_eq!(json(&["set", ANY, "--dry-run"], "two").await, json!({"key": ANY, "wouldBe": "rotation"}));
    let staged = json(&["set", ANY, "--stage", "--expected-revision", "1"], "two").await;
    assert_eq!(shown(&staged), expected(1, true, false, true));
    assert_eq!(rotation.run(&["get", ANY, "--which", "pending"], "").await.success(), "two");
    assert_eq!(rotation.run(&["get", ANY], "").await.success(), "one");
    assert_eq!(shown(&json(&["discard", ANY], "").await), expected(1, true, false, false));
    json(&["set", ANY, "--stage"], "two").await;
    assert_eq!(shown(&json(&["promote", ANY], "").await), expected(2, true, true, false));
    assert_eq!(rotation.run(&["get", ANY, "--which", "previous"], "").await.success(), "one");
    let back = json(&["rollback", ANY, "--expected-revision", "2"], "").await;
    assert_eq!(shown(&back), expected(3, true, true, false));
    assert_eq!(rotation.run(&["get", ANY], "").await.success(), "one");
    assert_eq!(shown(&json(&["retire", ANY, "--force"], "").await), expected(3, true, false, false));
    let removed = json(&["remove", ANY], "").await;
    assert_eq!(removed["hasCredentials"], false);
    assert_eq!(rotation.state().await.0, "removed");
    assert_eq!(shown(&json(&["rollback", ANY], "").await)[1], true);
    assert_eq!(rotation.run(&["remove", ANY, "--purge"], "").await.code, 0);
    assert_fails(&rotation.run(&["rollback", ANY], "").await, 1, "no previous value is kept");
    let text = rotation.run(&["status"], "").await.success();
    assert!(text.starts_with("KEY  REVISION  STATE    VERDICT"), "{text}");
}

#[tokio::test]
async fn list_shows_what_expires() {
    let rotation = Rotation::new().await;
    let set = async |key: &str, expires: &str, value: &str| {
        let output = rotation.run(&["set", key, "--expires", expires], value).await;
        assert_eq!(output.code, 0, "{output:?}");
    };
    set(ANY, "20d", "value").await;
    set("trustradius", "90d", "value-that-is-long").await;
    let keys = async |within: &str| -> Vec<String> {
        let output = rotation.run(&["--json", "list", "--expiring", within], "").await.success();
        let rows: Value = serde_json::from_str(&output).unwrap();
        rows.as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(keys("30d").await, [ANY]);
    assert_eq!(keys("1d").await, [""; 0]);
    assert_eq!(keys("1year").await, [ANY, "trustradius"]);
    let table = rotation.run(&["list", "--expiring", "30d"], "").await.success();
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((rows.len(), rows[0].last(), rows[1].len()), (2, Some(&"EXPIRES"), 7), "{table}");
    // One that has expired since is still listed.
    let past =
        "UPDATE integration_credentials.configured_integrations SET expires_at = now() - interval '1 day'
                WHERE integration_key = 'any'";
    rotation.superuser.batch_execute(past).await.unwrap();
    assert_eq!(keys("1s").await, [ANY]);
}

#[tokio::test]
async fn check_names_what_cannot_be_decrypted() {
    let rotation = Rotation::with_value("one").await;
    assert_eq!(rotation.run(&["check"], "").await.success(), "every value can be decrypted\n");
    set(&rotation.admin, ANY, "two").await.unwrap();
    // A byte that is not what it was: one in 256 is any constant already.
    let alter = "UPDATE integration_credentials.configured_integrations
                 SET previous_ciphertext = set_byte(previous_ciphertext, 50, get_byte(previous_ciphertext, 50) # 1)";
    rotation.superuser.batch_execute(alter).await.unwrap();
    let output = rotation.run(&["--json", "check"], "").await;
    assert_eq!(output.code, 1, "{output:?}");
    let rows: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(
        (&rows[0]["key"], &rows[0]["which"], rows.as_array().unwrap().len()),
        (&json!(ANY), &json!("previous"), 1)
    );
    assert!(rows[0]["keyId"].is_string() && rows[0]["error"].is_string(), "{rows}");
    assert!(output.stderr.starts_with("intcred: 1 value(s) cannot be decrypted"), "{output:?}");
}
