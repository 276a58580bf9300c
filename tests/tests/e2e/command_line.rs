//! The command line: each command as the role that would use it, what it prints where, and its exit status.

use crate::helpers::calls::{ANY, enable, get, register, revision, set};
use integration_credentials_core::tool::{REMOVE, SET, SET_SEALED, UNREGISTER};
use nix::{
    fcntl::OFlag,
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::{
        signal::{
            Signal::{SIGINT, SIGTERM},
            kill,
        },
        termios::{LocalFlags, tcgetattr},
    },
    unistd::{Pid, User, geteuid},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    },
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};
use tests::{ADMIN, AUDITOR, Canary, Cluster, Database, OUTSIDER, Output, READER, SUPERUSER, intcred, run};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
    task::JoinSet,
    time::{sleep, timeout},
};

/// Longer than anything that is waited for takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is so.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let poll = async {
        while !holds().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, poll).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A database with an integration that takes any value.
pub async fn database() -> Database {
    with_any(Cluster::shared()).await
}

async fn with_any(cluster: &Cluster) -> Database {
    let database = cluster.database().await;
    register(&database.connect(ADMIN).await, ANY, json!({})).await.unwrap();
    database
}

/// `intcred`, which connects as `role`.
pub fn intcred_as(database: &Database, role: &str, arguments: &[&str]) -> Command {
    let mut command = intcred();
    command.args(["--dsn", &database.dsn(role)]).args(arguments);
    command
}

async fn run_as(database: &Database, role: &str, arguments: &[&str], stdin: &[u8]) -> Output {
    run(&mut intcred_as(database, role, arguments), stdin).await
}

/// The result with `--json`: one line, and nothing beside it.
async fn json_as(database: &Database, role: &str, arguments: &[&str], stdin: &[u8]) -> Value {
    let output = run_as(database, role, &[&["--json"], arguments].concat(), stdin).await;
    assert_eq!(output.stderr, "", "{arguments:?}");
    let line = output.success();
    assert_eq!(line.find('\n'), Some(line.len() - 1), "{line:?}");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

async fn stored(database: &Database, key: &str) -> String {
    get(&database.connect(READER).await, key).await.unwrap()
}

/// Panics unless the command failed with this code and said so in one line, and in another what to do, if anything.
#[track_caller]
pub fn assert_fails(output: &Output, code: i32, message: &str) {
    assert_eq!((output.code, output.stdout.as_str()), (code, ""), "{output:?}");
    let mut lines = output.stderr.lines();
    let told = lines.next().is_some_and(|line| line.starts_with("intcred: "));
    assert!(told && output.stderr.contains(message), "{message:?}: {output:?}");
    assert!(lines.next().is_none_or(|line| line.starts_with("hint: ")), "{output:?}");
    assert_eq!(lines.next(), None, "{output:?}");
}

#[tokio::test]
async fn what_the_server_refuses_is_told_by_exit_status() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, "strict", json!({"prefix": "good"})).await.unwrap();
    register(&admin, "off", json!({})).await.unwrap();
    enable(&admin, "off", false).await.unwrap();
    for (role, arguments, code, message) in [
        (ADMIN, &["set", "nowhere"][..], 1, "the catalog has no integration with this key\nhint: "),
        (ADMIN, &["set", "strict"], 1, "the value does not begin with \"good\""),
        (ADMIN, &["set", "off"], 1, "integration \"off\" is disabled"),
        (ADMIN, &["set", ""], 1, "key is empty"),
        (ADMIN, &["set", ANY, "--actor", ""], 1, "actor is empty"),
        (ADMIN, &["remove", ANY], 1, ""),
        (ADMIN, &["remove", "nowhere"], 1, ""),
        (READER, &["get", ANY], 1, ""),
        (READER, &["get", "nowhere"], 1, ""),
        (ADMIN, &["show", "nowhere"], 1, "the catalog has no integration with this key\nhint: "),
        (ADMIN, &["catalog", "add", "k", "--display-name", "K", "--rules", r#"{"no":1}"#], 1, ""),
        (ADMIN, &["catalog", "remove", "nowhere"], 1, ""),
        (ADMIN, &["catalog", "enable", "nowhere"], 1, ""),
        (ADMIN, &["get", ANY], 3, "permission denied for function get_integration_credentials\nhint: "),
        (ADMIN, &["audit"], 3, "permission denied"),
        (READER, &["set", ANY], 3, "permission denied"),
        (READER, &["remove", ANY], 3, "permission denied"),
        (READER, &["catalog", "disable", ANY], 3, "permission denied"),
        (AUDITOR, &["get", ANY], 3, "permission denied"),
        (OUTSIDER, &["list"], 3, "permission denied"),
        (OUTSIDER, &["show", ANY], 3, "permission denied"),
        (OUTSIDER, &["listen"], 3, "permission denied"),
        ("nobody_at_all", &["list"], 3, "refuses the login: role \"nobody_at_all\" does not exist"),
    ] {
        let output = run_as(&database, role, arguments, b"a-value").await;
        assert_fails(&output, code, message);
        let machine = run(intcred_as(&database, role, arguments).arg("--json"), b"a-value").await;
        assert_fails(&machine, code, message);
    }
    assert_eq!(revision(&admin, ANY).await, 0);
}

#[tokio::test]
async fn wrong_usage_is_status_2() {
    let database = database().await;
    for arguments in [
        &[][..],
        &["set"],
        &["nonsense"],
        &["set", ANY, "--nonsense"],
        &["audit", "--limit", "-1"],
        &["grant", "somebody"],
        &["grant", "--to", "admin"],
        &["man", "nonsense"],
        &["completions", "nonsense"],
        &["catalog", "add", "k", "--display-name", "K", "--rules", "{"],
    ] {
        let output = run_as(&database, ADMIN, arguments, b"").await;
        assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{output:?}");
        assert_ne!(output.stderr, "", "{arguments:?}");
    }
}

#[tokio::test]
async fn without_preload_or_keyring_encryption_is_unavailable_and_the_hint_names_the_setting() {
    for (builder, setting, metered) in [
        (Cluster::builder().without_preload(), "shared_preload_libraries", 0),
        (Cluster::builder().without_keyring(), "integration_credentials.keyring_", 1),
    ] {
        let cluster = builder.start();
        let database = cluster.database().await;
        let output = run_as(&database, ADMIN, &["set", "trustradius"], b"some-value").await;
        assert_fails(&output, 1, setting);
        assert!(output.stderr.contains("\nhint: "), "{output:?}");
        let outcomes = failures(&database).await.into_iter().map(|mut row| row[2].take());
        assert_eq!(outcomes.collect::<Vec<_>>(), vec!["encryption_unavailable"; metered]);
    }
}

#[tokio::test]
async fn saved_but_not_synced_is_status_5_with_the_result_on_standard_output() {
    let database = database().await;
    let functions = format!(
        "CREATE ROLE forwarder;
         CREATE SCHEMA app AUTHORIZATION forwarder;
         SET ROLE forwarder;
         CREATE FUNCTION app.fails(org_slug text, key text, value text) RETURNS void LANGUAGE plpgsql
             AS $$ BEGIN RAISE 'the vendor is asleep'; END $$;
         RESET ROLE;
         SELECT integration_credentials.register_sync_handler('{ANY}', 'app.fails(text, text, text)')"
    );
    database.superuser().await.batch_execute(&functions).await.unwrap();

    let human = run_as(&database, ADMIN, &["set", ANY], b"one").await;
    assert_eq!(human.code, 5);
    assert!(human.stdout.starts_with("any: saved at 2"), "{human:?}");
    let (what, hint) = human.stderr.split_once('\n').unwrap();
    assert!(what.starts_with("intcred: saved, but the sync failed: "), "{what}");
    assert_eq!(
        (what.contains("the vendor is asleep"), hint),
        (true, "hint: Calling again is safe.\n"),
        "{what}"
    );

    let machine = run_as(&database, ADMIN, &["set", ANY, "--json"], b"two").await;
    assert_eq!((machine.code, machine.stderr), (5, human.stderr));
    let result: Value = serde_json::from_str(&machine.stdout).unwrap();
    assert_eq!(
        (&result["error"]["status"], &result["error"]["code"]),
        (&json!(500), &json!("tool_setup_failed"))
    );
    assert_eq!(stored(&database, ANY).await, "two");
}

#[tokio::test]
async fn a_value_is_what_was_given_but_for_the_newline_of_a_single_line_on_standard_input() {
    let database = database().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("value");
    let file = path.to_str().unwrap();
    for (given, line) in [
        ("plain", "plain"),
        ("a\n", "a"),
        ("a\r\n", "a\r\n"),
        ("a\n\n", "a\n\n"),
        ("a\r\nb\r\n", "a\r\nb\r\n"),
        ("a\r", "a\r"),
        ("\na ", "\na "),
        ("日本 👩\u{200d}👧 '\\\n", "日本 👩\u{200d}👧 '\\"),
    ] {
        fs::write(&path, given).unwrap();
        for (arguments, stdin, expected) in [
            (&["set", ANY][..], given, line),
            (&["set", ANY, "--plain"], given, line),
            (&["set", ANY, "--value-file", "-"], given, line),
            (&["set", ANY, "--value-file", file], "not this", given),
            (&["set", ANY, "--exact"], given, given),
            (&["set", ANY, "--exact", "--value-file", file], "", given),
        ] {
            let output = run_as(&database, ADMIN, arguments, stdin.as_bytes()).await;
            assert_eq!(output.stderr, "");
            assert!(output.success().starts_with("any: saved at 2"));
            assert_eq!(stored(&database, ANY).await, expected, "{arguments:?}");
        }
        let got = run_as(&database, READER, &["get", ANY], b"").await;
        assert_eq!((got.stderr.as_str(), got.stdout.as_str()), ("", given));
        assert_eq!(json_as(&database, READER, &["get", ANY], b"").await, json!({"key": ANY, "value": given}));
    }
}

#[tokio::test]
async fn a_byte_order_mark_is_refused_unless_it_is_meant() {
    let database = database().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("value");
    let canary = Canary::new();
    let marked = format!("\u{feff}{canary}");
    fs::write(&path, &marked).unwrap();
    let file = path.to_str().unwrap();
    for arguments in [&["set", ANY][..], &["set", ANY, "--value-file", file]] {
        let output = run_as(&database, ADMIN, arguments, marked.as_bytes()).await;
        assert_fails(&output, 2, "the value begins with a byte order mark");
        assert!(output.stderr.contains("--exact"), "{output:?}");
        canary.assert_absent(&output);
        let exact = run_as(&database, ADMIN, &[arguments, &["--exact"]].concat(), marked.as_bytes()).await;
        assert_eq!(exact.code, 0, "{exact:?}");
        assert_eq!(run_as(&database, READER, &["get", ANY], b"").await.success(), marked);
    }
}

/// Runs a program that must succeed, and returns what it printed.
async fn program(line: &str, dir: &Path, stdin: &str) -> String {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    run(command.args(words).current_dir(dir), stdin.as_bytes()).await.success()
}

#[tokio::test]
async fn a_key_or_a_document_of_several_lines_is_still_one_after_it_was_kept() {
    let database = database().await;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    program("ssh-keygen -q -t ed25519 -N  -C me -f openssh", dir, "").await;
    program("openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out pkcs8", dir, "")
        .await;
    program("openssl genrsa -traditional -out pkcs1 2048", dir, "").await;
    let account = json!({
        "type": "service_account",
        "project_id": "acme",
        "private_key": program("openssl pkey -in pkcs1", dir, "").await,
        "client_email": "intcred@acme.iam.gserviceaccount.com",
    });
    fs::write(dir.join("gcp.json"), serde_json::to_string_pretty(&account).unwrap() + "\n").unwrap();
    fs::write(dir.join("gcp-in-a-line.json"), account.to_string()).unwrap();

    for name in ["openssh", "pkcs8", "pkcs1", "gcp.json", "gcp-in-a-line.json"] {
        let given = read(name);
        let file = dir.join(name).display().to_string();
        for (arguments, stdin) in
            [(&["set", ANY][..], given.as_str()), (&["set", ANY, "--value-file", file.as_str()], "")]
        {
            assert_eq!(run_as(&database, ADMIN, arguments, stdin.as_bytes()).await.code, 0);
            let got = run_as(&database, READER, &["get", ANY], b"").await.success();
            assert_eq!(got, given, "{arguments:?}");
            // ssh-keygen reads a private key only from a file that is nobody else's.
            let path = dir.join("got");
            fs::write(&path, &got).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            match name {
                "openssh" => {
                    assert_eq!(program("ssh-keygen -y -f got", dir, "").await, read("openssh.pub"));
                }
                "pkcs8" | "pkcs1" => {
                    let public = format!("openssl pkey -pubout -in {name}");
                    let expected = program(&public, dir, "").await;
                    assert_eq!(program("openssl pkey -pubout", dir, &got).await, expected);
                }
                _ => {
                    let got: Value = serde_json::from_str(&got).unwrap();
                    let key = got["private_key"].as_str().unwrap();
                    assert_eq!(program("openssl pkey", dir, key).await, account["private_key"]);
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_value_is_refused_and_not_shown() {
    let database = database().await;
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let canary = Canary::new();
    let text = canary.as_str();
    for (arguments, stdin, code, message) in [
        (&["set", ANY][..], b"".to_vec(), 2, "the value is empty"),
        (&["set", ANY], b"\n".to_vec(), 2, "the value is empty"),
        (&["set", ANY, "--exact"], b"".to_vec(), 2, "the value is empty"),
        (&["set", ANY], [text.as_bytes(), b"\xff"].concat(), 2, "the value is not UTF-8"),
        (&["set", ANY], [text.as_bytes(), b"\0"].concat(), 2, "the value has a NUL character"),
        (
            &["set", ANY],
            text.repeat(171).into_bytes(),
            1,
            "value has 8208 characters; at most 8192 are allowed",
        ),
        (&["set", ANY], "é".repeat(8193).into_bytes(), 1, "value has 8193 characters"),
        (&["set", ANY], "\u{10ffff}".repeat(8193).into_bytes(), 1, "value has 8193 characters"),
        (&["set", ANY], text.repeat(100_000).into_bytes(), 1, "value has more than 1048576 characters"),
        (&["set", ANY, "--value-file", missing.to_str().unwrap()], b"".to_vec(), 2, "No such file"),
        (&["set", ANY, "--value-file", dir.path().to_str().unwrap()], b"".to_vec(), 2, "Is a directory"),
    ] {
        let output = run_as(&database, ADMIN, arguments, &stdin).await;
        assert_fails(&output, code, message);
        canary.assert_absent(&output);
    }
    let longest = "\u{10ffff}".repeat(8192);
    assert_eq!(run_as(&database, ADMIN, &["set", ANY], longest.as_bytes()).await.code, 0);
    assert_eq!(stored(&database, ANY).await, longest);
}

#[tokio::test]
async fn a_value_as_an_argument_is_refused_and_not_echoed() {
    let database = database().await;
    let canary = Canary::new();
    let with = |prefix: &str| format!("{prefix}{canary}");
    for arguments in [
        &["set", ANY, &with("")][..],
        &["set", ANY, "--", &with("")],
        &["set", ANY, "--value", &with("")],
        &["set", ANY, &with("--value=")],
        &["set", ANY, &with("-v")],
        &["set", ANY, &with("--exact=")],
        &["set", ANY, &with("--json=")],
        &["set", ANY, "--actor", "me", &with("")],
        &["remove", ANY, &with("")],
    ] {
        let output = run_as(&database, ADMIN, arguments, b"a-value").await;
        assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{output:?}");
        canary.assert_absent(&output);
    }
    assert_eq!(revision(&database.connect(ADMIN).await, ANY).await, 0);
}

#[tokio::test]
async fn list_and_show_tell_all_but_the_value() {
    let database = database().await;
    let set = json_as(&database, ADMIN, &["set", ANY], b"a-secret-value").await;
    let updated_at = &set["updatedAt"];
    let answer = json!({"key": ANY, "isConfigured": true, "hasCredentials": true, "updatedAt": updated_at});
    assert_eq!(set, answer);
    let listed = json!({
        "key": ANY, "displayName": ANY, "isEnabled": true, "isConfigured": true, "hasCredentials": true,
        "revision": 1, "updatedAt": updated_at, "expiresAt": null, "hasPrevious": false, "hasPending": false
    });
    let mut shown = listed.clone();
    let empty =
        ["docsUrl", "example", "validator", "syncHandler", "syncMode"].map(|name| (name.into(), Value::Null));
    shown.as_object_mut().unwrap().extend(empty);
    shown["rules"] = json!({});
    shown["reads"] = json!([]);
    for role in [ADMIN, READER, AUDITOR] {
        let list = json_as(&database, role, &["list"], b"").await;
        let keys: Vec<_> = list.as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap()).collect();
        let vendors = ["github", "hginsights_v2", "hubspot", "salesforce", "slack", "stripe", "trustradius"];
        assert_eq!(keys, [&[ANY], &vendors[..]].concat());
        assert_eq!(list[0], listed);
        assert_eq!(json_as(&database, role, &["show", ANY], b"").await, shown);
    }

    let table = run_as(&database, READER, &["list"], b"").await.success();
    let coloured = run_as(&database, READER, &["list", "--color", "always"], b"").await.success();
    assert_eq!((table.contains('\u{1b}'), coloured.contains('\u{1b}')), (false, true));
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["KEY", "NAME", "ENABLED", "CREDENTIAL", "REVISION", "UPDATED", "EXPIRES"]);
    assert_eq!(rows[1], [ANY, ANY, "yes", "yes", "1", updated_at.as_str().unwrap()]);
    assert_eq!(rows.len(), 9);
    let shown = run_as(&database, READER, &["show", "trustradius"], b"").await.success();
    assert!(shown.contains("\nsync        integration_credentials.sync_aggregator_credentials"), "{shown}");
}

#[tokio::test]
async fn removing_keeps_the_revision_and_says_so_in_the_audit_log() {
    let database = database().await;
    for value in ["one", "two"] {
        assert_eq!(run_as(&database, ADMIN, &["set", ANY, "--actor", "ann"], value.as_bytes()).await.code, 0);
    }
    let removed = json_as(&database, ADMIN, &["remove", ANY, "--actor", "ben"], b"").await;
    assert_eq!((&removed["key"], &removed["hasCredentials"]), (&json!(ANY), &json!(false)));
    assert_fails(&run_as(&database, READER, &["get", ANY], b"").await, 1, "");
    let shown = json_as(&database, ADMIN, &["show", ANY], b"").await;
    assert_eq!((&shown["isConfigured"], &shown["hasCredentials"]), (&json!(true), &json!(false)));
    assert_eq!(shown["revision"], 3);

    // Newest first; what the harness registered is the oldest.
    let audit = json_as(&database, AUDITOR, &["audit"], b"").await;
    let column = |name: &str| -> Vec<Value> {
        audit.as_array().unwrap().iter().map(|row| row[name].clone()).collect()
    };
    let set = "set_integration_credentials";
    assert_eq!(column("action"), ["remove_integration_credentials", set, set, "register_integration"]);
    assert_eq!(column("actor"), ["ben", "ann", "ann", "actor"]);
    assert_eq!(column("sessionRole"), [ADMIN; 4]);
    assert_eq!(column("actingRole"), [ADMIN; 4]);
    assert_eq!(column("targetId"), [ANY; 4]);
    assert_eq!(column("metadata")[1..3], [json!({"wasUpdate": true}), json!({"wasUpdate": false})]);

    let two = json_as(&database, AUDITOR, &["audit", "--limit", "2"], b"").await;
    assert_eq!(two.as_array().unwrap()[..], audit.as_array().unwrap()[..2]);
    assert_eq!(json_as(&database, AUDITOR, &["audit", "--limit", "0"], b"").await, json!([]));
    let table = run_as(&database, AUDITOR, &["audit", "--limit", "1"], b"").await.success();
    let cells: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(cells[1..5], ["ben", ADMIN, "remove_integration_credentials", ANY]);
    assert_eq!(table.lines().count(), 2);
}

/// The names of all members, also of those within others.
fn names(json: &Value, found: &mut BTreeSet<String>) {
    match json {
        Value::Object(members) => {
            for (name, value) in members {
                found.insert(name.clone());
                // Whoever registered the integration wrote these.
                if name != "rules" {
                    names(value, found);
                }
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| names(element, found)),
        _ => {}
    }
}

#[tokio::test]
async fn names_in_json_are_of_one_style_and_those_of_the_document() {
    let database = database().await;
    let dir = tempfile::tempdir().unwrap();
    let keyring = dir.path().join("keyring.json").display().to_string();
    let grant = ["grant", READER, "--to", "reader"];
    let import = dir.path().join("import.json").display().to_string();
    fs::write(&import, r#"{"acme": "value", "slack": "value"}"#).unwrap();
    let document = include_str!("../../../docs/operations.md");
    for (role, arguments) in [
        (ADMIN, &["catalog", "add", "acme"][..]),
        (ADMIN, &["set", "acme"]),
        (READER, &["get", "acme"]),
        (ADMIN, &["list"]),
        (ADMIN, &["show", "acme"]),
        (ADMIN, &["set", "acme", "--stage"]),
        (ADMIN, &["set", "acme", "--dry-run"]),
        (ADMIN, &["status"]),
        (ADMIN, &["find"]),
        (ADMIN, &["rotate", "acme", "--abort"]),
        (ADMIN, &["import", "--dry-run", &import]),
        (ADMIN, &["catalog", "keep-previous", "acme", "2days"]),
        (ADMIN, &["remove", "acme"]),
        (ADMIN, &["catalog", "list"]),
        (ADMIN, &["catalog", "disable", "acme"]),
        (ADMIN, &["catalog", "enable", "acme"]),
        (ADMIN, &["catalog", "remove", "acme"]),
        (AUDITOR, &["audit"]),
        (SUPERUSER, &grant),
        (SUPERUSER, &["keyring", "generate", "--out", &keyring]),
        (SUPERUSER, &["keyring", "add", &keyring]),
        (SUPERUSER, &["keyring", "reencrypt"]),
        (SUPERUSER, &["doctor"]),
    ] {
        let output = run_as(&database, role, &[&["--json"], arguments].concat(), b"value").await;
        let mut found = BTreeSet::new();
        names(&serde_json::from_str(&output.stdout).unwrap(), &mut found);
        assert!(!found.is_empty(), "{arguments:?}: {output:?}");
        for name in found {
            let is_camel = name.starts_with(|first: char| first.is_ascii_lowercase())
                && name.chars().all(|next| next.is_ascii_alphanumeric());
            assert!(is_camel, "{arguments:?}: {name}");
            assert!(
                document.contains(&format!("\"{name}\"")),
                "{arguments:?}: {name} is not in docs/operations.md"
            );
        }
    }
}

#[tokio::test]
async fn the_actor_is_the_user_of_the_process_unless_given() {
    let database = database().await;
    let command = &mut intcred_as(&database, ADMIN, &["set", ANY]);
    assert_eq!(run(command.env("USER", "mallory").env("LOGNAME", "mallory"), b"value").await.code, 0);
    let user = User::from_uid(geteuid()).unwrap().unwrap().name;
    let audit = json_as(&database, AUDITOR, &["audit", "--limit", "1"], b"").await;
    assert_eq!(audit[0]["actor"], user);
}

#[tokio::test]
async fn a_catalog_entry_is_added_changed_disabled_enabled_and_removed() {
    let database = database().await;
    let go = async |arguments: &[&str]| run_as(&database, ADMIN, arguments, b"good-1").await;
    let add = ["catalog", "add", "acme", "--display-name", "Acme & Söhne", "--rules", r#"{"prefix":"good"}"#];
    let more = ["--docs-url", "https://acme.test/keys", "--example", "good-0"];
    assert_eq!(go(&[&add[..], &more].concat()).await.success(), "acme: registered\n");
    let entry = async || {
        let list = json_as(&database, ADMIN, &["catalog", "list"], b"").await;
        list.as_array().unwrap().iter().find(|entry| entry["key"] == "acme").cloned()
    };
    let mut expected = json!({
        "key": "acme", "displayName": "Acme & Söhne", "isEnabled": true, "docsUrl": "https://acme.test/keys",
        "example": "good-0", "rules": {"prefix": "good"}, "validator": null, "syncHandler": null, "syncMode": null
    });
    assert_eq!(entry().await.as_ref(), Some(&expected));
    let table = go(&["catalog", "list"]).await.success();
    assert!(table.contains("Acme & Söhne      yes      {\"prefix\":\"good\"}\n"), "{table}");

    assert_eq!(go(&["catalog", "disable", "acme"]).await.success(), "acme: disabled\n");
    assert_fails(&go(&["set", "acme"]).await, 1, "disabled");
    expected["isEnabled"] = json!(false);
    assert_eq!(entry().await.as_ref(), Some(&expected));
    assert_eq!(go(&["catalog", "enable", "acme"]).await.success(), "acme: enabled\n");
    assert_eq!(go(&["set", "acme"]).await.code, 0);

    assert_fails(&go(&["catalog", "remove", "acme"]).await, 1, "");
    assert_eq!(go(&["remove", "acme"]).await.code, 0);
    assert_eq!(go(&["catalog", "remove", "acme"]).await.success(), "acme: removed from the catalog\n");
    assert_eq!(entry().await, None);
}

/// The metering rows of calls that failed, oldest first: tool, actor, outcome, parameters, and whether it took time.
async fn failures(database: &Database) -> Vec<Value> {
    let sql = "SELECT jsonb_build_array(tool_key, actor, outcome, metadata -> 'parameters', duration_ms > 0)
               FROM integration_credentials.tool_metering WHERE outcome <> 'ok' ORDER BY id";
    let rows = database.superuser().await.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_call_that_is_refused_is_metered_without_the_value() {
    let database = database().await;
    // What is no key of the catalog may be a value, given in the wrong place.
    let hidden = "<redacted>";
    let mut expected = Vec::new();
    for (arguments, tool, outcome, mut parameters) in [
        (
            &["set", "nowhere"][..],
            SET_SEALED.key,
            "integration_not_found",
            json!({"key": hidden, "sealed": hidden}),
        ),
        (&["set", "slack"], SET_SEALED.key, "invalid_credentials", json!({"key": "slack", "sealed": hidden})),
        (
            &["set", "slack", "--plain"],
            SET.key,
            "invalid_credentials",
            json!({"key": "slack", "value": hidden}),
        ),
        (&["remove", ANY], REMOVE.key, "credentials_not_set", json!({"key": ANY})),
        (&["catalog", "remove", "no"], UNREGISTER.key, "integration_not_found", json!({"key": hidden})),
    ] {
        let output = run_as(&database, ADMIN, &[arguments, &["--actor", "ann"]].concat(), b"a-value").await;
        assert_fails(&output, 1, "");
        parameters["actor"] = json!("ann");
        expected.push(json!([tool, "ann", outcome, parameters, true]));
    }
    assert_fails(&run_as(&database, READER, &["set", ANY], b"a-value").await, 3, "");
    assert_eq!(failures(&database).await, expected);
}

#[tokio::test]
async fn grant_makes_the_group_roles_and_members_of_any_name_and_again_changes_nothing() {
    const MEMBER: &str = r#"Ann "the admin" O'Neil \ é; DROP"#;
    // A cluster without these roles, unlike the shared one.
    let cluster = Cluster::private();
    let database = cluster.empty_database().await;
    let superuser = database.superuser().await;
    let quoted = format!("\"{}\"", MEMBER.replace('"', "\"\""));
    superuser.batch_execute("CREATE EXTENSION integration_credentials; CREATE ROLE \"-x\"").await.unwrap();
    superuser.batch_execute(&format!("CREATE ROLE {quoted} LOGIN")).await.unwrap();
    let member = async |arguments: &[&str]| {
        let dsn = database.dsn(SUPERUSER).replace(&format!(" user={SUPERUSER}"), "");
        run(intcred().env("PGUSER", MEMBER).args(["--dsn", &dsn]).args(arguments), b"").await
    };
    assert_fails(&member(&["grant"]).await, 3, "only a superuser may grant");

    let ready = run_as(&database, SUPERUSER, &["grant"], b"").await.success();
    assert!(ready.starts_with("group roles: integration_credentials_admin, "), "{ready}");
    assert_fails(&member(&["list"]).await, 3, "permission denied");
    let acl = "SELECT string_agg(proacl::text, ';' ORDER BY oid) FROM pg_proc
               WHERE pronamespace = 'integration_credentials'::regnamespace";
    let granted: String = superuser.query_one(acl, &[]).await.unwrap().get(0);
    for _ in 0..2 {
        let output = run_as(&database, SUPERUSER, &["grant", MEMBER, "--to", "reader"], b"").await.success();
        assert_eq!(output, format!("{MEMBER}: member of integration_credentials_reader\n"));
    }
    assert_eq!(member(&["list"]).await.code, 0);
    assert_eq!(superuser.query_one(acl, &[]).await.unwrap().get::<_, String>(0), granted);
    let result = json_as(&database, SUPERUSER, &["grant", "--to", "auditor", "--", "-x"], b"").await;
    let groups =
        ["admin", "reader", "auditor", "lister"].map(|group| format!("integration_credentials_{group}"));
    assert_eq!(result, json!({"groups": groups, "role": "-x", "memberOf": groups[2]}));
    let unknown = run_as(&database, SUPERUSER, &["grant", "nobody", "--to", "admin"], b"").await;
    assert_fails(&unknown, 1, "role \"nobody\" does not exist");
}

#[tokio::test]
async fn a_keyring_is_generated_for_its_owner_alone_and_never_over_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keyring.json");
    let generate =
        async || run(intcred().args(["keyring", "generate", "--json", "--out"]).arg(&path), b"").await;
    let result: Value = serde_json::from_str(&generate().await.success()).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    let document = fs::read(&path).unwrap();
    let keyring: Value = serde_json::from_slice(&document).unwrap();
    assert_eq!(result["file"], path.to_str().unwrap());
    assert_eq!((&result["primary"], &result["keys"]), (&keyring["primary"], &json!([keyring["primary"]])));
    // The file is where the key is; what is printed may end up in a log.
    assert!(!result.to_string().contains(keyring["keys"][0]["key"].as_str().unwrap()));

    assert_fails(&generate().await, 2, "already exists");
    assert_eq!(fs::read(&path).unwrap(), document);
    let link = dir.path().join("link");
    symlink(dir.path().join("nowhere"), &link).unwrap();
    let through = run(intcred().args(["keyring", "generate", "--out"]).arg(&link), b"").await;
    assert_fails(&through, 2, "already exists");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn keyrings_that_are_broken_are_left_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keyring.json");
    let canary = Canary::new();
    let add = async || run(intcred().args(["keyring", "add"]).arg(&path), b"").await;
    assert_fails(&add().await, 2, "No such file");
    let broken = format!(r#"{{"version":1,"primary":"k","keys":[{{"id":"k","key":"{canary}"}}]}}"#);
    for document in ["", "{}", "\u{0}", &broken, &"x".repeat(2 << 20)] {
        fs::write(&path, document).unwrap();
        let output = add().await;
        assert_fails(&output, 2, "keyring.json");
        canary.assert_absent(&output);
        assert_eq!(fs::read(&path).unwrap(), document.as_bytes());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn added_keys_are_all_kept_and_none_of_them_encrypts() {
    let cluster = Cluster::private();
    let path = cluster.keyring_file();
    let files =
        || fs::read_dir(cluster.dir()).unwrap().map(|it| it.unwrap().file_name()).collect::<BTreeSet<_>>();
    let (before, beside, opened) = (path.metadata().unwrap(), files(), File::open(&path).unwrap());
    let old: Value = serde_json::from_slice(&cluster.keyring()).unwrap();

    // A server that reads meanwhile sees a whole keyring, and of several calls each finds the keys of the others.
    let mut adding = JoinSet::new();
    for _ in 0..8 {
        let mut command = intcred();
        command.args(["keyring", "add", "--json"]).arg(&path);
        adding.spawn(async move { run(&mut command, b"").await.success() });
    }
    let mut added_ids = BTreeSet::new();
    while !adding.is_empty() {
        let keyring: Value = serde_json::from_slice(&cluster.keyring()).expect("a whole keyring");
        assert_eq!((&keyring["keys"][0], &keyring["primary"]), (&old["keys"][0], &old["primary"]));
        if let Ok(Some(added)) = timeout(Duration::from_millis(1), adding.join_next()).await {
            let result: Value = serde_json::from_str(&added.unwrap()).unwrap();
            assert_eq!(result["primary"], old["primary"]);
            added_ids.insert(result["keys"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned());
        }
    }
    let new: Value = serde_json::from_slice(&cluster.keyring()).unwrap();
    let ids = new["keys"].as_array().unwrap()[1..].iter().map(|key| key["id"].as_str().unwrap().to_owned());
    assert_eq!(ids.collect::<BTreeSet<_>>(), added_ids);
    assert_eq!(added_ids.len(), 8);
    let after = path.metadata().unwrap();
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    // The file was replaced: a process that has opened the old one reads it to its end.
    assert_eq!(serde_json::from_reader::<_, Value>(opened).unwrap(), old);
    assert_eq!(files(), beside);
}

#[tokio::test]
async fn help_man_pages_and_completions_are_printed_without_a_database() {
    let print = async |arguments: &[&str]| {
        let output = run(intcred().args(arguments), b"").await;
        assert_eq!(output.stderr, "", "{arguments:?}");
        output.success()
    };
    for (arguments, expected) in [
        (&["--help"][..], "Exit status:\n"),
        (&["-h"], "Usage: intcred"),
        (&["--version"], concat!("intcred ", env!("CARGO_PKG_VERSION"), "\n")),
        (&["set", "--help"], "--value-file <PATH>"),
        (&["catalog", "add", "--help"], "--display-name <NAME>"),
        (&["man"], ".TH intcred 1"),
        (&["man", "set"], ".TH intcred-set 1"),
        (&["man", "catalog", "add"], "\\-\\-display\\-name"),
        (&["completions", "bash"], "complete -F _intcred"),
        (&["completions", "zsh"], "#compdef intcred"),
        (&["completions", "fish"], "complete -c intcred"),
    ] {
        let text = print(arguments).await;
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
    let script = print(&["completions", "bash"]).await;
    let complete = "\nCOMP_WORDS=(intcred s); COMP_CWORD=1; _intcred intcred s; echo \"${COMPREPLY[@]}\"";
    let offered = run(Command::new("bash").args(["-c", &(script + complete)]), b"").await.success();
    assert_eq!(offered, "set status show seal\n");
}

#[tokio::test]
async fn a_reader_that_leaves_is_no_error_and_a_full_disk_is_one() {
    let database = database().await;
    set(&database.connect(ADMIN).await, ANY, "value").await.unwrap();
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["get", ANY],
        &["get", ANY, "--json"],
        &["man"],
        &["completions", "zsh"],
    ] {
        let command = || intcred_as(&database, READER, arguments);
        let (reader, closed) = io::pipe().unwrap();
        drop(reader);
        let left = finish(command().stdout(closed).stderr(Stdio::piped()).spawn().unwrap()).await;
        assert_eq!((left.0, left.1.as_str()), (0, ""), "{arguments:?}");
        let full = File::options().write(true).open("/dev/full").unwrap();
        let full = finish(command().stdout(full).stderr(Stdio::piped()).spawn().unwrap()).await;
        assert!(full.0 == 1 && full.1.starts_with("intcred: cannot write the output: No space"), "{full:?}");
    }
}

/// Its exit code, and what it wrote to standard error.
pub async fn finish(child: Child) -> (i32, String) {
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("the program ends").unwrap();
    (output.status.code().expect("it was not killed"), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn a_value_on_its_way_is_neither_in_the_arguments_nor_in_the_environment() {
    let database = database().await;
    let canary = Canary::new();
    let mut command = intcred_as(&database, ADMIN, &["set", ANY]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(canary.as_str().as_bytes()).await.unwrap();
    for (file, expected) in [("cmdline", "set\0any\0"), ("environ", "HOME=/nonexistent\0")] {
        let path = format!("/proc/{}/{file}", child.id().unwrap());
        // Empty for a moment, while the kernel makes the new process of the old one. Only root may read the environment.
        let read = || match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !geteuid().is_root() => None,
            content => Some(String::from_utf8(content.unwrap()).unwrap()),
        };
        eventually(expected, async || read().is_none_or(|content| content.contains(expected))).await;
        assert!(canary.find(read().unwrap_or_default().as_bytes()).is_empty(), "{file}");
    }
    drop(stdin);
    assert_eq!(finish(child).await.0, 0);
    assert_eq!(stored(&database, ANY).await, canary.as_str());
}

/// A terminal with a program at it.
pub struct Terminal {
    master: File,
    shown: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl Terminal {
    pub fn start(program: &Command) -> Self {
        // Neither is inherited by a program that another test is just starting, which would keep the terminal open.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = || {
            let mut options = File::options();
            options.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits());
            Stdio::from(options.open(ptsname_r(&master).unwrap()).unwrap())
        };
        // It makes its standard input the controlling terminal, which is what a prompt is shown on.
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(program.as_std().get_program())
            .args(program.as_std().get_args())
            .env("HOME", "/nonexistent")
            .stdin(slave())
            .stdout(slave())
            .stderr(slave())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let master = File::from(OwnedFd::from(master));
        std::thread::spawn({
            let (mut master, shown) = (master.try_clone().unwrap(), shown.clone());
            move || {
                let mut buffer = [0; 4096];
                // An error when the last program has closed the terminal.
                while let Ok(count @ 1..) = master.read(&mut buffer) {
                    shown.lock().unwrap().extend_from_slice(&buffer[..count]);
                }
            }
        });
        Self { master, shown, child }
    }

    pub fn shown(&self) -> String {
        String::from_utf8(self.shown.lock().unwrap().clone()).unwrap()
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.master).unwrap().local_flags.contains(LocalFlags::ECHO)
    }

    /// Waits for the prompt, and for the echo to be off, which is a moment later; then types.
    pub async fn answer(&mut self, prompt: &str, text: &str) {
        eventually("no echo", async || self.shown().ends_with(prompt) && !self.echoes()).await;
        self.reply(prompt, text).await;
    }

    /// Waits for the prompt, then types.
    pub async fn reply(&mut self, prompt: &str, text: &str) {
        eventually(prompt, async || self.shown().ends_with(prompt)).await;
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// The exit code, and all that was shown.
    pub async fn end(mut self) -> (i32, String) {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("the program ends").unwrap();
        eventually("the terminal is closed", async || Arc::strong_count(&self.shown) == 1).await;
        assert!(self.echoes(), "the terminal is left as it was");
        (status.code().unwrap(), self.shown())
    }
}

#[tokio::test]
async fn on_a_terminal_the_value_is_asked_for_twice_and_not_shown() {
    let database = database().await;
    let (canary, typo) = (Canary::new(), Canary::new());
    let line = |text: &str| format!("{text}\n");
    for (first, second, code, expected) in [
        (line(canary.as_str()), line(canary.as_str()), 0, "any: saved at 2"),
        (line(canary.as_str()), line(typo.as_str()), 2, "intcred: the two values differ"),
        (line(""), line(""), 2, "intcred: the value is empty"),
    ] {
        let mut terminal = Terminal::start(&intcred_as(&database, ADMIN, &["set", ANY]));
        terminal.answer("Value: ", &first).await;
        terminal.answer("Again: ", &second).await;
        let (ended, shown) = terminal.end().await;
        assert!(ended == code && shown.contains(expected), "{shown}");
        canary.assert_absent(&shown);
        typo.assert_absent(&shown);
    }
    assert_eq!(revision(&database.connect(ADMIN).await, ANY).await, 1);
    assert_eq!(stored(&database, ANY).await, canary.as_str());

    // Where a person looks, the value has a line of its own.
    let get = Terminal::start(&intcred_as(&database, READER, &["get", ANY]));
    assert_eq!(get.end().await, (0, format!("{canary}\r\n")));
}

#[tokio::test]
async fn a_prompt_that_is_interrupted_leaves_the_terminal_as_it_was() {
    let database = database().await;
    for (typed, signal) in [("half a val\u{3}", None), ("", Some(SIGINT)), ("", Some(SIGTERM))] {
        let mut terminal = Terminal::start(&intcred_as(&database, ADMIN, &["set", ANY]));
        terminal.answer("Value: ", typed).await;
        if let Some(signal) = signal {
            let pid = terminal.child.id().unwrap().try_into().unwrap();
            kill(Pid::from_raw(pid), signal).unwrap();
        }
        let (code, shown) = terminal.end().await;
        assert!(code != 0 && !shown.contains("half"), "{code} {shown}");
    }
    assert_eq!(revision(&database.connect(ADMIN).await, ANY).await, 0);
}

#[tokio::test]
async fn database_of_the_last_release_has_its_commands_and_is_told_to_update_for_others() {
    let database = Cluster::shared().database_at(Some("0.1.0")).await;
    register(&database.connect(ADMIN).await, ANY, json!({})).await.unwrap();
    for (role, arguments) in [
        (ADMIN, &["set", ANY][..]),
        (ADMIN, &["set", ANY, "--plain"]),
        (READER, &["get", ANY]),
        (READER, &["list"]),
        (READER, &["show", ANY]),
        (READER, &["list", "--expiring", "30d"]),
        (ADMIN, &["remove", ANY]),
    ] {
        assert_eq!(run_as(&database, role, arguments, b"value").await.code, 0, "{arguments:?}");
    }
    for (role, arguments) in [
        (ADMIN, &["set", ANY, "--stage"][..]),
        (ADMIN, &["set", ANY, "--dry-run", "--plain"]),
        (ADMIN, &["promote", ANY]),
        (ADMIN, &["remove", ANY, "--purge"]),
        (ADMIN, &["catalog", "keep-previous", ANY, "1d"]),
        (ADMIN, &["rotate", ANY]),
        (ADMIN, &["rotate", ANY, "--resume"]),
        (ADMIN, &["find"]),
        (ADMIN, &["check"]),
        (READER, &["status"]),
        (READER, &["get", ANY, "--which", "previous"]),
    ] {
        let output = run_as(&database, role, arguments, b"value").await;
        assert_fails(&output, 4, "does not exist");
        assert!(output.stderr.contains("ALTER EXTENSION integration_credentials UPDATE"), "{output:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_on_the_way_is_status_4() {
    let database = database().await;
    let (holder, superuser) = (database.superuser().await, database.superuser().await);
    holder.batch_execute("BEGIN; LOCK TABLE integration_credentials.configured_integrations").await.unwrap();
    let set = tokio::spawn({
        let mut command = intcred_as(&database, ADMIN, &["set", ANY]);
        async move { run(&mut command, b"a-value").await }
    });
    let waiting = "SELECT pid FROM pg_stat_activity
                   WHERE datname = current_database() AND application_name = 'intcred' AND wait_event_type = 'Lock'";
    let waits = async || superuser.query_opt(waiting, &[]).await.unwrap();
    eventually("set waits", async || waits().await.is_some()).await;
    let pid: i32 = waits().await.unwrap().get(0);
    superuser.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    assert_fails(&set.await.unwrap(), 4, "hint: A change may or may not have been committed.");
}
