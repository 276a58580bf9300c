//! The rotation of a key of encryption: added, used, reencrypted with, retired; and what a server or a dump lacks.

use crate::command_line::{assert_fails, intcred_as};
use crate::helpers::calls::{ANY, count, get, register, remove, revision, set};
use crate::helpers::fixture::{WAITING, heard, sqlstate, until};
use integration_credentials_core::{archive::Archive, error::ErrorCode, keyring::Keyring};
use nix::{
    sys::signal::{Signal::SIGKILL, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};
use tests::{
    ADMIN, Canary, Cluster, Database, OUTSIDER, Output, READER, SUPERUSER, Session, Shutdown, assert_error,
    backend::peak_memory, installation::Installation, intcred, run,
};
use tokio::{task::JoinSet, time::sleep};

/// `intcred keyring`, as the superuser of the database.
async fn keyring(database: &Database, arguments: &[&str]) -> Output {
    keyring_by(&database.dsn(SUPERUSER), arguments).await
}

async fn keyring_by(dsn: &str, arguments: &[&str]) -> Output {
    run(&mut keyring_command(dsn, arguments), b"").await
}

fn keyring_command(dsn: &str, arguments: &[&str]) -> tokio::process::Command {
    let mut command = intcred();
    command.args(["--dsn", dsn, "--json", "keyring"]).args(arguments);
    command.env("PATH", format!("{}:/usr/bin:/bin", Installation::find().programs().display()));
    command
}

fn json_of(output: Output) -> Value {
    serde_json::from_str(&output.success()).unwrap()
}

/// The result that a command has printed before it failed.
fn printed(output: &Output, code: i32) -> Value {
    assert_eq!(output.code, code, "{output:?}");
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Adds a key to a file and returns its id.
async fn add(file: &str) -> String {
    let output = run(intcred().args(["--json", "keyring", "add", file]), b"").await;
    json_of(output)["keys"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned()
}

fn path(cluster: &Cluster) -> String {
    cluster.keyring_file().display().to_string()
}

/// Copies the keyring of one server to another, with the owner that the file had there.
fn ship(from: &Cluster, to: &Cluster) {
    let owner = to.keyring_file().metadata().unwrap();
    fs::write(to.keyring_file(), from.keyring()).unwrap();
    chown(to.keyring_file(), Some(owner.uid()), Some(owner.gid())).unwrap();
}

/// Adds a key, and has the server encrypt with it. Returns the old key's id and the new one's.
async fn rotate(cluster: &Cluster, database: &Database) -> (String, String) {
    let file = path(cluster);
    let old = Keyring::parse(&cluster.keyring()).unwrap().primary_id().to_owned();
    let new = add(&file).await;
    let used = json_of(keyring(database, &["use", &file, &new]).await);
    assert_eq!(used["primary"], new.as_str());
    cluster.reload();
    (old, new)
}

/// A cluster, and a database in it with rows of many orgs: current, previous and pending ones, and those of the aggregator.
async fn with_rows(rows: i32) -> (Cluster, Database) {
    let cluster = Cluster::builder().setting("fsync", "off").start();
    let database = cluster.database().await;
    fill(&database, rows).await;
    (cluster, database)
}

async fn fill(database: &Database, rows: i32) {
    let superuser = database.superuser().await;
    register(&superuser, ANY, json!({})).await.unwrap();
    let fill = format!(
        "DO $$ BEGIN FOR i IN 1..{rows} LOOP
            PERFORM set_config('integration_credentials.org_slug', 'org' || lpad(i::text, 7, '0'), true);
            PERFORM integration_credentials.admin_set_integration_credentials('any', 'value-' || i, 'x');
        END LOOP; END $$"
    );
    superuser.batch_execute(&fill).await.unwrap();
}

/// The rows by key id, as `key_usage()` has them.
async fn usage(superuser: &Session) -> Vec<(Option<String>, [i64; 4])> {
    let rows =
        "SELECT \"keyId\", current, previous, pending, aggregator FROM integration_credentials.key_usage()";
    let rows = superuser.query(rows, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), [1, 2, 3, 4].map(|column| row.get(column)))).collect()
}

/// All that a reencryption leaves as it is.
async fn unchanged(superuser: &Session) -> String {
    let rows = "SELECT string_agg(r, E'\\n' ORDER BY r) FROM (
        SELECT (to_jsonb(c) - '{ciphertext,previous_ciphertext,pending_ciphertext}'::text[])::text AS r
            FROM integration_credentials.configured_integrations c
        UNION ALL SELECT (to_jsonb(a) - 'ciphertext')::text FROM integration_credentials.aggregator_credentials a
        UNION ALL SELECT m::text FROM integration_credentials.tool_metering m) rows";
    superuser.query_one(rows, &[]).await.unwrap().get(0)
}

/// The credential of an org.
async fn value_of(superuser: &Session, org: &str) -> String {
    let choose = format!("SET integration_credentials.org_slug = '{org}'");
    superuser.batch_execute(&choose).await.unwrap();
    get(superuser, ANY).await.unwrap()
}

async fn reencrypt(superuser: &Session) -> Value {
    superuser.query_one("CALL integration_credentials.reencrypt()", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn rotation_from_add_to_retire() {
    let cluster = Cluster::private();
    let database = cluster.database().await;
    let superuser = database.superuser().await;
    fill(&database, 50).await;
    let admin = database.connect(ADMIN).await;
    // A second value keeps the first one; a pending one waits; a removed one can come back.
    for value in ["first", "second"] {
        set(&admin, "trustradius", value.repeat(4).as_str()).await.unwrap();
        set(&admin, ANY, value).await.unwrap();
    }
    let stage = "SELECT integration_credentials.admin_set_integration_credentials('any', 'third', 'x', '{\"stage\": true}')";
    admin.batch_execute(stage).await.unwrap();
    register(&admin, "removed", json!({})).await.unwrap();
    set(&admin, "removed", "gone").await.unwrap();
    remove(&admin, "removed").await.unwrap();
    let mut listener = database.superuser().await;
    listener.batch_execute("LISTEN integration_credentials").await.unwrap();
    heard(&mut listener, 0).await;

    let file = path(&cluster);
    let old = Keyring::parse(&cluster.keyring()).unwrap().primary_id().to_owned();
    assert_eq!(usage(&superuser).await, [(Some(old.clone()), [52, 3, 1, 1])]);
    let states = async |expected: &[(&str, &str, i64)]| {
        let status = json_of(keyring(&database, &["status", &file]).await);
        let keys: Vec<_> = status["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| {
                assert_eq!(key["lacking"], json!([]), "{status}");
                (key["id"].as_str().unwrap(), key["state"].as_str().unwrap(), key["rows"].as_i64().unwrap())
            })
            .collect();
        assert_eq!(keys, expected);
    };
    states(&[(&old, "writing", 57)]).await;

    let new = add(&file).await;
    states(&[(&old, "writing", 57), (&new, "added", 0)]).await;
    set(&database.connect(ADMIN).await, "trustradius", &"third".repeat(4)).await.unwrap();
    assert_eq!(
        usage(&superuser).await,
        [(Some(old.clone()), [52, 3, 1, 1])],
        "an added key does not encrypt"
    );
    let before = unchanged(&superuser).await;
    json_of(keyring(&database, &["use", &file, &new]).await);
    cluster.reload();
    states(&[(&old, "needed", 57), (&new, "writing", 0)]).await;

    let refused = keyring(&database, &["retire", &file, &old]).await;
    assert_fails(&refused, 1, &format!("credential(s) of database {} on", database.name()));
    heard(&mut listener, 0).await;
    let done = json_of(keyring(&database, &["reencrypt"]).await);
    assert_eq!(done, json!({"keyId": new, "rows": 54, "unreadable": 0, "named": []}));
    assert_eq!(usage(&superuser).await, [(Some(new.clone()), [52, 3, 1, 1])]);
    assert_eq!(unchanged(&superuser).await, before, "neither revision nor time has changed");
    assert_eq!(heard(&mut listener, 0).await, Vec::<String>::new());
    let audited =
        "SELECT actor, action, target_type, target_id, metadata FROM integration_credentials.audit_log
                   ORDER BY id DESC LIMIT 1";
    let row = superuser.query_one(audited, &[]).await.unwrap();
    let texts = [0, 1, 2, 3].map(|column| row.get::<_, String>(column));
    assert_eq!(texts, [SUPERUSER, "reencrypt_credentials", "keyring", &new].map(str::to_owned));
    assert_eq!(row.get::<_, Value>(4), json!({"rows": 54, "unreadable": 0}));
    assert_eq!(count(&superuser, "reencrypt_progress").await, 0);

    states(&[(&old, "unneeded", 0), (&new, "writing", 57)]).await;
    let retired = json_of(keyring(&database, &["retire", &file, &old]).await);
    assert_eq!(retired["keys"], json!([new]));
    let archive = PathBuf::from(format!("{file}.retired"));
    let document: Value = serde_json::from_slice(&fs::read(&archive).unwrap()).unwrap();
    assert_eq!(document["retired"][0]["id"], old.as_str());
    assert!(
        document["retired"][0]["retiredAt"].as_str().unwrap().starts_with("20"),
        "{}",
        document["retired"][0]["retiredAt"]
    );
    let (one, two) = (archive.metadata().unwrap(), cluster.keyring_file().metadata().unwrap());
    assert_eq!((one.mode(), one.uid(), one.gid()), (two.mode(), two.uid(), two.gid()));
    cluster.reload();
    states(&[(&new, "writing", 57)]).await;
    let reader = database.connect(READER).await;
    assert_eq!(get(&reader, ANY).await.unwrap(), "second");
    assert_eq!(value_of(&superuser, "org0000007").await, "value-7");
    let promote = "SELECT integration_credentials.admin_promote_integration_credentials('any', 'x')";
    admin.batch_execute(promote).await.unwrap();
    assert_eq!(get(&reader, ANY).await.unwrap(), "third");
    let aggregator = "SELECT integration_credentials.get_aggregator_credentials('trustradius')";
    let stored: String = reader.query_one(aggregator, &[]).await.unwrap().get(0);
    assert_eq!(stored, "third".repeat(4));
    let back = "SELECT integration_credentials.admin_rollback_integration_credentials('removed', 'x')";
    admin.batch_execute(back).await.unwrap();
    assert_eq!(get(&reader, "removed").await.unwrap(), "gone");

    // A backup needs the old key again.
    assert_fails(&keyring(&database, &["retire", &file, &old]).await, 2, "is retired already");
    let restored = json_of(keyring(&database, &["restore", &file, &old]).await);
    assert_eq!(restored["keys"], json!([old, new]));
    assert_eq!(restored["primary"], new.as_str());
    assert!(Archive::parse(&fs::read(&archive).unwrap()).unwrap().keys().next().is_none());
}

#[tokio::test]
async fn use_refused_while_a_server_of_the_dsn_lacks_the_key() {
    let primary = Cluster::private();
    let database = primary.database().await;
    let standby = primary.standby();
    let (file, stale) = (path(&primary), path(&standby));
    let hosts = format!("{},{}", primary.dir().display(), standby.dir().display());
    let dsn =
        format!("host='{hosts}' port={0},{0} dbname={1} user={SUPERUSER}", primary.port(), database.name());
    let dsn = dsn.as_str();
    let old = primary.keyring();
    let new = add(&file).await;
    let of_standby = standby.dir().display().to_string();

    let lacking = keyring_by(dsn, &["use", &file, &new]).await;
    assert_fails(&lacking, 1, &format!("{of_standby}/.s.PGSQL.{} does not have key {new}", standby.port()));
    let status = json_of(keyring_by(dsn, &["status", &file]).await);
    assert!(status["keys"][1]["lacking"][0].as_str().unwrap().starts_with(&of_standby), "{status}");
    // A DSN that leaves the standby out is warned about.
    let streams = "SELECT FROM pg_stat_replication WHERE state = 'streaming'";
    until(&database.superuser().await, streams).await;
    let alone = keyring(&database, &["status", &file]).await;
    assert!(alone.stderr.contains("1 standby(s) follow these servers, and the DSN names 0"), "{alone:?}");

    // A file of another keyring, whose key has the same id.
    let mut document: Value = serde_json::from_slice(&primary.keyring()).unwrap();
    document["keys"][1]["key"] = document["keys"][0]["key"].clone();
    fs::write(&stale, document.to_string()).unwrap();
    let other = keyring_by(dsn, &["use", &file, &new]).await;
    assert_fails(&other, 1, &format!("has another key with the id of key {new}"));
    // No file at all.
    fs::remove_file(&stale).unwrap();
    assert_fails(&keyring_by(dsn, &["use", &file, &new]).await, 1, "cannot open the file");
    assert_eq!(
        Keyring::parse(&primary.keyring()).unwrap().primary_id(),
        Keyring::parse(&old).unwrap().primary_id()
    );
    assert_fails(&keyring_by(dsn, &["use", &file, "k0000000"]).await, 2, "the keyring has no key k0000000");

    fs::write(&stale, primary.keyring()).unwrap();
    let owner = standby.data_dir().metadata().unwrap();
    fs::set_permissions(&stale, fs::Permissions::from_mode(0o600)).unwrap();
    chown(&stale, Some(owner.uid()), Some(owner.gid())).unwrap();
    json_of(keyring_by(dsn, &["use", &file, &new]).await);
    primary.reload();

    // The standby still encrypts with the old key, as it would after a promotion; so the old key is not retired.
    let first = Keyring::parse(&old).unwrap().primary_id().to_owned();
    let behind = keyring_by(dsn, &["retire", &file, &first]).await;
    assert_fails(&behind, 1, &format!("still encrypts with key {first}"));
    ship(&primary, &standby);
    json_of(keyring_by(dsn, &["retire", &file, &first]).await);

    // A server that does not answer may lack any key.
    let third = add(&file).await;
    let gone = dsn.replace(&of_standby, "/nowhere");
    assert_fails(&keyring_by(&gone, &["use", &file, &third]).await, 4, "cannot connect to /nowhere");
    // On a standby, nothing is reencrypted.
    let session = standby.named_database(database.name()).superuser().await;
    assert_eq!(sqlstate(session.batch_execute("CALL integration_credentials.reencrypt()").await), "0A000");
}

#[tokio::test]
async fn retire_refused_while_another_database_or_an_open_transaction_needs_the_key() {
    let cluster = Cluster::private();
    let (database, other) = (cluster.database().await, cluster.database().await);
    let writer = other.connect(ADMIN).await;
    // A database without the extension, and one whose extension cannot be asked.
    cluster.empty_database().await;
    let file = path(&cluster);
    writer.batch_execute("BEGIN").await.unwrap();
    set(&writer, "trustradius", "under-the-old-key").await.unwrap();
    let (old, _) = rotate(&cluster, &database).await;
    let superuser = database.superuser().await;
    assert_eq!(usage(&superuser).await, []);

    // The row is not committed, and so in no count; it is waited for.
    let command = &mut keyring_command(&database.dsn(SUPERUSER), &["retire", &file, &old]);
    let commit = async {
        until(&other.superuser().await, WAITING).await;
        writer.batch_execute("COMMIT").await.unwrap();
    };
    let (refused, ()) = tokio::join!(run(command, b""), commit);
    assert_fails(&refused, 1, &format!("2 credential(s) of database {} on", other.name()));

    json_of(keyring(&other, &["reencrypt"]).await);
    let early = cluster.empty_database().await;
    let create = "CREATE EXTENSION integration_credentials VERSION '0.1.0'";
    early.superuser().await.batch_execute(create).await.unwrap();
    let refused = keyring(&database, &["retire", &file, &old]).await;
    let told = format!("intcred: the keys that database {} needs cannot be counted", early.name());
    assert!(refused.code == 4 && refused.stderr.contains(&told), "{refused:?}");
    early.superuser().await.batch_execute("ALTER EXTENSION integration_credentials UPDATE").await.unwrap();
    json_of(keyring(&database, &["retire", &file, &old]).await);
    assert!(!cluster.dir().join(".keyring.json.new").exists());
}

#[tokio::test]
async fn session_with_an_older_keyring_does_not_encrypt_with_a_retired_key() {
    let (cluster, database) = with_rows(3).await;
    let stale = database.superuser().await;
    set(&stale, ANY, "under-the-old-key").await.unwrap();
    let file = path(&cluster);
    let old = Keyring::parse(&cluster.keyring()).unwrap().primary_id().to_owned();
    let new = add(&file).await;
    json_of(keyring(&database, &["use", &file, &new]).await);
    // The operator has forgotten the reload.
    json_of(keyring(&database, &["reencrypt"]).await);
    set(&stale, ANY, "still-under-the-old-key").await.unwrap();
    assert!(
        usage(&stale).await.iter().any(|(id, _)| id.as_ref() == Some(&old)),
        "the session has its keyring"
    );
    json_of(keyring(&database, &["reencrypt"]).await);
    json_of(keyring(&database, &["retire", &file, &old]).await);
    set(&stale, ANY, "under-the-new-key").await.unwrap();
    let left = usage(&stale).await;
    assert!(left.iter().all(|(id, _)| id.as_ref() == Some(&new)), "{left:?}");
    assert_eq!(get(&database.superuser().await, ANY).await.unwrap(), "under-the-new-key");
}

#[tokio::test]
async fn retirement_that_is_killed_loses_no_key_and_leaves_nothing() {
    let cluster = Cluster::private();
    let database = cluster.database().await;
    let file = path(&cluster);
    let archive = PathBuf::from(format!("{file}.retired"));
    let mut ended = 0;
    for round in 0..20_u32 {
        let (old, _) = rotate(&cluster, &database).await;
        let mut command = keyring_command(&database.dsn(SUPERUSER), &["retire", &file, &old]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(Duration::from_millis(u64::from(round * 4))).await;
        if let Some(pid) = child.id() {
            // Either it runs, or nobody has waited for it.
            kill(Pid::from_raw(pid.try_into().unwrap()), SIGKILL).unwrap();
        }
        ended += u32::from(child.wait().await.unwrap().success());
        let has = || {
            let keyring = Keyring::parse(&cluster.keyring()).unwrap();
            let archive =
                fs::read(&archive).map(|document| Archive::parse(&document).unwrap()).unwrap_or_default();
            [keyring.find(&old).is_some(), archive.find(&old).is_some()]
        };
        assert_ne!(has(), [false, false]);
        if has()[0] {
            json_of(keyring(&database, &["retire", &file, &old]).await);
        }
        assert_eq!(has(), [false, true]);
        let left = fs::read_dir(cluster.dir()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("new")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    assert!(ended < 20, "no retirement was killed");
}

#[tokio::test]
async fn run_takes_a_locked_row_when_it_is_free_and_shows_its_progress() {
    let (cluster, database) = with_rows(200).await;
    let (_, new) = rotate(&cluster, &database).await;
    let (superuser, locker) = (database.superuser().await, database.superuser().await);
    let lock = "BEGIN; SELECT FROM integration_credentials.configured_integrations WHERE org_slug = 'org0000100' FOR UPDATE";
    locker.batch_execute(lock).await.unwrap();
    let watcher = database.connect(OUTSIDER).await;
    let progress = "SELECT datname::text, key_id, total, done, unreadable FROM integration_credentials.reencrypt_progress";
    assert_eq!(sqlstate(watcher.query(progress, &[]).await), "42501");
    superuser.batch_execute(&format!("GRANT pg_monitor TO {OUTSIDER}")).await.unwrap();
    let release = async {
        until(&superuser, WAITING).await;
        let run = watcher.query_one(progress, &[]).await.unwrap();
        assert_eq!([run.get::<_, &str>(0), run.get(1)], [database.name(), &new]);
        assert_eq!([2, 3, 4].map(|column| run.get::<_, i64>(column)), [200, 199, 0]);
        superuser.batch_execute(&format!("REVOKE pg_monitor FROM {OUTSIDER}")).await.unwrap();
        locker.batch_execute("COMMIT").await.unwrap();
    };
    let other = database.superuser().await;
    let (result, ()) = tokio::join!(reencrypt(&other), release);
    assert_eq!(result["rows"], 200);
    assert_eq!(usage(&superuser).await, [(Some(new), [200, 0, 0, 0])]);
    assert_eq!(count(&superuser, "reencrypt_progress").await, 0);
}

#[tokio::test]
async fn concurrent_sets_and_removals_are_never_overwritten_and_two_runs_do_no_harm() {
    let (cluster, database) = with_rows(2000).await;
    rotate(&cluster, &database).await;
    let superuser = database.superuser().await;
    let mut setters = JoinSet::new();
    for number in 0..32_i32 {
        let session = database.superuser().await;
        setters.spawn(async move {
            let mut expected = Vec::new();
            for round in 0..40_i32 {
                let org = format!("org{:07}", (number * 61 + round * 7) % 2000 / 32 * 32 + number + 1);
                session
                    .batch_execute(&format!("SET integration_credentials.org_slug = '{org}'"))
                    .await
                    .unwrap();
                let is_removed = round % 8 == 7;
                let value = (!is_removed).then(|| format!("set-{number}-{round}"));
                match &value {
                    Some(value) => drop(set(&session, ANY, value).await.unwrap()),
                    // There is nothing to remove twice.
                    None => drop(remove(&session, ANY).await),
                }
                expected.push((org, value, revision(&session, ANY).await));
            }
            expected
        });
    }
    let rotating = async {
        let session = database.superuser().await;
        for _ in 0..4 {
            reencrypt(&session).await;
            rotate(&cluster, &database).await;
        }
    };
    let beside = async {
        let session = database.superuser().await;
        let mut runs = 0;
        for _ in 0..12 {
            // A run ends early when the other one has gone on to the next key.
            match session.query_one("CALL integration_credentials.reencrypt(50)", &[]).await {
                Ok(_) => runs += 1,
                failed => drop(assert_error(failed, ErrorCode::EncryptionUnavailable)),
            }
        }
        runs
    };
    let ((), runs) = tokio::join!(rotating, beside);
    assert!(runs > 0);
    let expected: Vec<_> = setters.join_all().await.into_iter().flatten().collect();
    reencrypt(&superuser).await;
    let new = Keyring::parse(&cluster.keyring()).unwrap().primary_id().to_owned();
    let left = usage(&superuser).await;
    assert!(left.len() == 1 && left[0].0.as_deref() == Some(&new), "{left:?}");
    for (index, (org, value, last)) in expected.iter().enumerate() {
        if expected[index + 1..].iter().any(|(later, ..)| later == org) {
            continue;
        }
        superuser.batch_execute(&format!("SET integration_credentials.org_slug = '{org}'")).await.unwrap();
        assert_eq!(revision(&superuser, ANY).await, *last, "{org}");
        assert_eq!(get(&superuser, ANY).await.ok(), *value, "{org}");
    }
    let check = "SELECT FROM integration_credentials.check_all_credentials()";
    assert!(superuser.query(check, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn run_that_is_interrupted_anywhere_is_resumed() {
    let (mut cluster, database) = with_rows(4000).await;
    let before = unchanged(&database.superuser().await).await;
    let mut interrupted = 0;
    for round in 0..9_u64 {
        rotate(&cluster, &database).await;
        let mut command = keyring_command(&database.dsn(SUPERUSER), &["reencrypt", "--batch", "10"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let superuser = database.superuser().await;
        let began = "SELECT FROM integration_credentials.reencrypt_progress WHERE done > 0";
        while superuser.query(began, &[]).await.unwrap().is_empty() && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(2)).await;
        }
        sleep(Duration::from_millis(round * 3)).await;
        let pid = "SELECT pid FROM integration_credentials.reencrypt_progress";
        let pid = superuser.query_opt(pid, &[]).await.unwrap().map(|row| row.get::<_, i32>(0));
        match round % 3 {
            // The client, whose session goes on to the end of its statement.
            0 => child.start_kill().unwrap(),
            1 => drop(superuser.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap()),
            _ => {
                cluster.stop(Shutdown::Immediate);
                cluster.start();
            }
        }
        interrupted += u32::from(!child.wait().await.unwrap().success());
        let superuser = database.superuser().await;
        until(&superuser, "SELECT WHERE NOT EXISTS (SELECT FROM integration_credentials.reencrypt_progress)")
            .await;
        reencrypt(&superuser).await;
        let new = Keyring::parse(&cluster.keyring()).unwrap().primary_id().to_owned();
        assert_eq!(usage(&superuser).await, [(Some(new), [4000, 0, 0, 0])]);
    }
    assert!(interrupted > 3, "{interrupted}");
    let superuser = database.superuser().await;
    assert_eq!(unchanged(&superuser).await, before);
    assert!(
        superuser
            .query("SELECT FROM integration_credentials.check_all_credentials()", &[])
            .await
            .unwrap()
            .is_empty()
    );
    for number in [1, 1500, 4000] {
        assert_eq!(value_of(&superuser, &format!("org{number:07}")).await, format!("value-{number}"));
    }
}

#[tokio::test]
async fn undecryptable_row_is_named_and_does_not_stop_the_rest() {
    let (cluster, database) = with_rows(300).await;
    let superuser = database.superuser().await;
    // One row is moved to another org, one is altered, one is no ciphertext at all, and one needs a key of another keyring.
    let damage = "
        UPDATE integration_credentials.configured_integrations SET org_slug = 'moved' WHERE org_slug = 'org0000010';
        UPDATE integration_credentials.configured_integrations
            SET ciphertext = set_byte(ciphertext, 50, get_byte(ciphertext, 50) # 1) WHERE org_slug = 'org0000020';
        UPDATE integration_credentials.configured_integrations SET ciphertext = 'noise' WHERE org_slug = 'org0000030';
        UPDATE integration_credentials.configured_integrations
            SET ciphertext = set_byte(ciphertext, 5, ascii('x')) WHERE org_slug = 'org0000040'";
    superuser.batch_execute(damage).await.unwrap();
    let (old, new) = rotate(&cluster, &database).await;
    let mut foreign = old.clone().into_bytes();
    foreign[3] = b'x';
    let foreign = String::from_utf8(foreign).unwrap();

    let mut session = database.superuser().await;
    let result = reencrypt(&session).await;
    let named = |org: &str, key_id: Option<&str>| json!({"org": org, "key": ANY, "which": "current", "keyId": key_id});
    let mut found = result["named"].as_array().unwrap().clone();
    found.sort_by_key(|row| row["org"].as_str().unwrap().to_owned());
    assert_eq!(
        found,
        [
            named("moved", Some(&old)),
            named("org0000020", Some(&old)),
            named("org0000030", None),
            named("org0000040", Some(&foreign))
        ]
    );
    assert_eq!((&result["rows"], &result["unreadable"]), (&json!(296), &json!(4)));
    let notices = session.notices();
    assert!(
        notices.iter().any(|notice| notice.message().starts_with("4 ciphertext(s) cannot be decrypted")),
        "{notices:?}"
    );

    let usage: Vec<_> = usage(&superuser).await.into_iter().map(|(id, rows)| (id, rows[0])).collect();
    for expected in [(Some(new), 296), (Some(old), 2), (Some(foreign.clone()), 1), (None, 1)] {
        assert!(usage.contains(&expected), "{expected:?} in {usage:?}");
    }
    let again = keyring(&database, &["reencrypt"]).await;
    assert_eq!(printed(&again, 1)["rows"], 0);
    assert!(again.stderr.contains("4 credential(s) cannot be decrypted"), "{again:?}");

    let check = keyring(&database, &["check"]).await;
    let rows = printed(&check, 1);
    let errors: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["org"].as_str().unwrap(), row["error"].as_str().unwrap()))
        .collect();
    assert_eq!(errors.len(), 4, "{errors:?}");
    for (org, error) in [
        ("moved", "does not authenticate"),
        ("org0000020", "does not authenticate"),
        ("org0000030", "has a form that this release does not know"),
        ("org0000040", "which the keyring does not have"),
    ] {
        assert!(errors.iter().any(|(of, text)| *of == org && text.contains(error)), "{org}: {errors:?}");
    }
    let status = printed(&keyring(&database, &["status"]).await, 1);
    let missing: Vec<_> =
        status["keys"].as_array().unwrap().iter().filter(|key| key["state"] == "missing").collect();
    assert_eq!(missing.len(), 2, "{status}");
    assert!(missing.iter().any(|key| key["id"] == foreign.as_str() && key["rows"] == 1), "{status}");
}

#[tokio::test]
async fn dump_in_any_format_tells_which_keys_it_needs() {
    let (cluster, database) = with_rows(60).await;
    let admin = database.connect(ADMIN).await;
    set(&admin, "trustradius", "aggregated").await.unwrap();
    let (old, new) = rotate(&cluster, &database).await;
    // A new session reads the keyring anew.
    set(&database.connect(ADMIN).await, ANY, "under-the-new-key").await.unwrap();
    let file = path(&cluster);
    let dumps = cluster.dir().join("dumps");
    fs::create_dir(&dumps).unwrap();
    let owner = cluster.data_dir().metadata().unwrap();
    chown(&dumps, Some(owner.uid()), Some(owner.gid())).unwrap();
    let dump = async |name: &str, arguments: &[&str]| {
        let out = dumps.join(name).display().to_string();
        let output =
            run(cluster.tool("pg_dump").args(arguments).args(["--file", &out, database.name()]), b"").await;
        assert_eq!(output.code, 0, "{output:?}");
        out
    };
    let other = dumps.join("other.json").display().to_string();
    json_of(run(intcred().args(["--json", "keyring", "generate", "--out", &other]), b"").await);
    let check =
        async |arguments: &[&str]| keyring_by("host=/nowhere", &[&["check"], arguments].concat()).await;

    let mut formats = Vec::new();
    for (name, arguments) in [
        ("plain.sql", &["--format=plain"][..]),
        ("custom", &["--format=custom"]),
        ("directory", &["--format=directory", "--jobs=2"]),
        ("tar", &["--format=tar"]),
        ("only.sql", &["--extension=integration_credentials"]),
        ("columns", &["--format=custom", "--no-owner", "--compress=0"]),
    ] {
        formats.push(dump(name, arguments).await);
    }
    for dump in &formats {
        let counts = |state: Option<[&str; 2]>| {
            let key = |id: &str, rows: u64, index: usize| match state {
                Some(states) => json!({"id": id, "rows": rows, "state": states[index]}),
                None => json!({"id": id, "rows": rows}),
            };
            let mut keys = [key(&old, 62, 0), key(&new, 1, 1)];
            keys.sort_by_key(|key| key["id"].as_str().unwrap().to_owned());
            json!({"dump": dump, "keys": keys, "unreadable": []})
        };
        assert_eq!(json_of(check(&[dump]).await), counts(None), "{dump}");
        assert_eq!(
            json_of(check(&[dump, "--keyring", &file]).await),
            counts(Some(["held", "held"])),
            "{dump}"
        );
        let lacking = check(&[dump, "--keyring", &other]).await;
        assert_eq!(printed(&lacking, 1), counts(Some(["missing", "missing"])), "{dump}");
        assert!(lacking.stderr.contains("does not decrypt 63 credential(s)"), "{lacking:?}");
    }

    // A retired key is one that can be put back.
    json_of(keyring(&database, &["reencrypt"]).await);
    json_of(keyring(&database, &["retire", &file, &old]).await);
    let retired = printed(&check(&[&formats[1], "--keyring", &file]).await, 1);
    let state = |id: &str| {
        retired["keys"].as_array().unwrap().iter().find(|key| key["id"] == id).unwrap()["state"].clone()
    };
    assert_eq!([state(&old), state(&new)], ["retired", "held"]);
    // Another key of the same id does not decrypt.
    let mut forged: Value = serde_json::from_slice(&fs::read(&other).unwrap()).unwrap();
    forged["keys"][0]["id"] = old.clone().into();
    forged["primary"] = old.clone().into();
    fs::write(&other, forged.to_string()).unwrap();
    let forged = printed(&check(&[&formats[0], "--keyring", &other]).await, 1);
    assert_eq!(forged["unreadable"].as_array().unwrap().len(), 62, "{forged}");
    assert_eq!(forged["unreadable"][0]["error"], "the stored ciphertext does not authenticate");

    // What is no dump of ours.
    let truncated = dumps.join("truncated");
    let mut bad = vec![("truncated.sql", formats[0].clone()), ("truncated.custom", formats[1].clone())];
    for (name, whole) in bad.drain(..) {
        let bytes = fs::read(&whole).unwrap();
        fs::write(&truncated, &bytes[..bytes.len() / 2]).unwrap();
        let output = check(&[truncated.to_str().unwrap()]).await;
        assert_fails(
            &output,
            2,
            if name.ends_with("sql") { "truncated" } else { "pg_restore cannot read the dump" },
        );
    }
    let empty = cluster.empty_database().await;
    let without = dumps.join("without").display().to_string();
    let output =
        run(cluster.tool("pg_dump").args(["--format=custom", "--file", &without, empty.name()]), b"").await;
    assert_eq!(output.code, 0, "{output:?}");
    let inserts = dump("inserts.sql", &["--inserts"]).await;
    let schema = dump("schema.sql", &["--schema-only"]).await;
    let compressed = dump("compressed.sql", &["--compress=1"]).await;
    for (dump, problem) in [
        (without.as_str(), "has no rows of integration_credentials"),
        (&inserts, "the dump has INSERT statements"),
        (&schema, "has no rows of integration_credentials"),
        (&compressed, "the dump is compressed"),
        (&file, "truncated, or is no dump"),
        (dumps.to_str().unwrap(), "pg_restore cannot read the dump"),
        ("/nowhere/at/all", "No such file"),
    ] {
        assert_fails(&check(&[dump]).await, 2, problem);
    }
    assert_fails(&check(&[&formats[0], "--keyring", dumps.to_str().unwrap()]).await, 2, "Is a directory");
}

#[tokio::test]
async fn restored_dump_names_its_keys_before_anything_is_set() {
    let (cluster, database) = with_rows(40).await;
    let (old, new) = rotate(&cluster, &database).await;
    // A new session reads the keyring anew.
    set(&database.connect(ADMIN).await, ANY, "under-the-new-key").await.unwrap();
    let dump = run(cluster.tool("pg_dump").args(["--no-owner", database.name()]), b"").await.success();
    let other = Cluster::builder().setting("fsync", "off").start();
    other.database().await;
    let restored = other.empty_database().await;
    let mut psql = other.tool("psql");
    let output =
        run(psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", restored.name()]), dump.as_bytes()).await;
    assert_eq!(output.code, 0, "{output:?}");

    let status = printed(&keyring(&restored, &["status"]).await, 1);
    let mut missing: Vec<_> = status["keys"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|key| key["state"] == "missing")
        .map(|key| (key["id"].as_str().unwrap(), key["rows"].as_i64().unwrap()))
        .collect();
    missing.sort_unstable();
    let mut expected = [(old.as_str(), 40), (new.as_str(), 1)];
    expected.sort_unstable();
    assert_eq!(missing, expected);
    assert_eq!(printed(&keyring(&restored, &["check"]).await, 1).as_array().unwrap().len(), 41);
    let doctor = run(&mut intcred_as(&restored, SUPERUSER, &["doctor"]), b"").await.stdout;
    for id in [&old, &new] {
        assert!(
            doctor.lines().any(|line| line.starts_with("problem") && line.contains(&format!("key {id}"))),
            "{doctor}"
        );
    }

    // With the keys put into the keyring, all is well, and a reencryption needs them no longer.
    let mut keyring_of_other = Keyring::parse(&other.keyring()).unwrap();
    let mut original = Keyring::parse(&cluster.keyring()).unwrap();
    let spare = original.add_key().unwrap().to_owned();
    original.use_key(&spare).unwrap();
    for id in [&old, &new] {
        keyring_of_other.insert(original.remove(id).unwrap()).unwrap();
    }
    fs::write(other.keyring_file(), keyring_of_other.to_document().unwrap().as_bytes()).unwrap();
    other.reload();
    assert_eq!(json_of(keyring(&restored, &["check"]).await), json!([]));
    assert_eq!(json_of(keyring(&restored, &["reencrypt"]).await)["rows"], 41);
    let doctor = run(&mut intcred_as(&restored, SUPERUSER, &["doctor"]), b"").await.stdout;
    assert!(doctor.lines().any(|line| line.starts_with("advice") && line.contains("needs key")), "{doctor}");
}

#[tokio::test]
async fn run_is_for_superusers_and_outside_of_transactions() {
    let (_cluster, database) = with_rows(3).await;
    let superuser = database.superuser().await;
    let in_block = superuser.batch_execute("BEGIN; CALL integration_credentials.reencrypt()").await;
    assert_eq!(sqlstate(in_block), "2D000");
    superuser.batch_execute("ROLLBACK").await.unwrap();
    for batch in ["0", "-1", "100001", "NULL"] {
        let call = format!("CALL integration_credentials.reencrypt({batch})");
        let error = assert_error(superuser.batch_execute(&call).await, ErrorCode::InvalidRequest);
        assert!(error.message().contains("batch is not 1 to 100000"), "{error:?}");
    }
    let alone = "SELECT integration_credentials.reencrypt_batch(10, false)";
    assert_error(superuser.query(alone, &[]).await, ErrorCode::InvalidRequest);
    let functions = [
        "keyring_status()",
        "key_usage()",
        "check_all_credentials()",
        "reencrypt_batch(1, true)",
        "reencrypt_runs()",
    ];
    for role in [ADMIN, READER, OUTSIDER] {
        let session = database.connect(role).await;
        for function in functions {
            let result = session.query(&format!("SELECT integration_credentials.{function}"), &[]).await;
            assert_error(result, ErrorCode::ForbiddenAdminScope);
        }
        let result = session.batch_execute("CALL integration_credentials.reencrypt()").await;
        assert_error(result, ErrorCode::ForbiddenAdminScope);
        let status = run(&mut intcred_as(&database, role, &["keyring", "status"]), b"").await;
        assert_fails(&status, 3, "permission denied");
    }
    // Whatever the defaults of the session. A hostile owner of the database, whose functions and operators come first on the
    // search_path, runs none of them as the superuser.
    let evil = ["text, text", "jsonb, jsonb", "bool, bool", "int4, int4"].map(|types| {
        let (left, right) = types.split_once(", ").unwrap();
        format!(
            "CREATE FUNCTION evil.steal({types}) RETURNS bool LANGUAGE plpgsql
                 AS $$ BEGIN RAISE EXCEPTION 'stolen'; END $$;
             CREATE OPERATOR evil.= (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = evil.steal);
             CREATE OPERATOR evil.<> (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = evil.steal);"
        )
    });
    let hostile = format!(
        "CREATE SCHEMA evil; {} SET default_transaction_isolation = 'serializable'; SET default_transaction_read_only = on;
         SET search_path = evil, pg_catalog",
        evil.concat()
    );
    superuser.batch_execute(&hostile).await.unwrap();
    assert_eq!(reencrypt(&superuser).await["unreadable"], 0);
}

#[tokio::test]
async fn values_of_any_size_are_reencrypted_in_bounded_memory() {
    let cluster = Cluster::builder()
        .setting("fsync", "off")
        .setting("integration_credentials.max_value_length", "1048576")
        .start();
    let database = cluster.database().await;
    fill(&database, 300).await;
    let superuser = database.superuser().await;
    let long = "é".repeat(1 << 20);
    for org in ["long1", "long2", "long3", "long4", "long5", "long6", "long7", "long8"] {
        superuser.batch_execute(&format!("SET integration_credentials.org_slug = '{org}'")).await.unwrap();
        set(&superuser, ANY, &long).await.unwrap();
    }
    rotate(&cluster, &database).await;
    assert_eq!(reencrypt(&superuser).await["rows"], 308);
    assert_eq!(value_of(&superuser, "long5").await, long);
    let peak = peak_memory(superuser.pid().await) / 1024;
    assert!(peak < 300_000, "{peak} kB for eight values of two megabytes");
}

#[tokio::test]
async fn file_that_is_no_keyring_is_refused_by_every_command_and_left_alone() {
    let cluster = Cluster::shared();
    let database = cluster.database().await;
    let dir = tempfile::tempdir().unwrap();
    let canary = Canary::new();
    let file = dir.path().join("keyring.json");
    let name = file.display().to_string();
    let commands: [&[&str]; 5] = [
        &["use", &name, "k1"],
        &["retire", &name, "k1"],
        &["restore", &name, "k1"],
        &["status", &name],
        &["add", &name],
    ];
    for arguments in commands {
        assert_fails(&keyring(&database, arguments).await, 2, "No such file");
    }
    let own = cluster.keyring();
    for document in [&b""[..], b"{}", canary.as_str().as_bytes(), &own[..own.len() / 2]] {
        fs::write(&file, document).unwrap();
        for arguments in commands {
            let output = keyring(&database, arguments).await;
            assert_fails(&output, 2, "not a JSON document");
            canary.assert_absent(&output);
        }
        assert_eq!(fs::read(&file).unwrap(), document);
    }
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    for arguments in commands {
        assert_fails(&keyring(&database, arguments).await, 2, "Is a directory");
    }
    fs::remove_dir(&file).unwrap();

    // A keyring of another cluster: its keys are not those of the server.
    json_of(run(intcred().args(["--json", "keyring", "generate", "--out", &name]), b"").await);
    let id = add(&name).await;
    assert_fails(&keyring(&database, &["use", &name, &id]).await, 1, &format!("does not have key {id}"));
    let first = Keyring::parse(&fs::read(&file).unwrap()).unwrap().primary_id().to_owned();
    assert_fails(
        &keyring(&database, &["retire", &name, &first]).await,
        2,
        &format!("key {first} encrypts new values"),
    );
    assert_fails(&keyring(&database, &["restore", &name, &first]).await, 2, "no retired key has this id");
    assert_fails(&keyring(&database, &["use", &name, canary.as_str()]).await, 2, "the keyring has no key");
    fs::write(dir.path().join("keyring.json.retired"), "{}").unwrap();
    for arguments in [["retire", &name, &id], ["restore", &name, &id]] {
        assert_fails(&keyring(&database, &arguments).await, 2, "keyring.json.retired");
    }
}
