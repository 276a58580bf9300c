//! The keyring: where it comes from, when it is read, and what happens without it.

use crate::helpers::calls::{get, set};
use integration_credentials_core::{error::ErrorCode, keyring::Keyring};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    time::Duration,
};
use tests::{ADMIN, Canary, Cluster, Database, READER, Session, Shutdown, assert_error};
use tokio::time::{sleep, timeout};

async fn fails(session: &Session, expected: &str) {
    let error =
        assert_error(set(session, "trustradius", "some-value").await, ErrorCode::EncryptionUnavailable);
    assert!(error.message().contains(expected), "{expected}: {error:?}");
    assert!(error.hint().unwrap().contains("integration_credentials.keyring_"), "{error:?}");
}

#[tokio::test]
async fn a_file_that_others_can_read_or_that_is_no_keyring_is_refused() {
    let cluster = Cluster::private();
    let database = cluster.database().await;
    let file = cluster.keyring_file();
    let good = fs::read(&file).unwrap();
    for mode in [0o640, 0o440, 0o604, 0o660] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        fails(&database.connect(ADMIN).await, "a file of the server's user must have 0600 or less").await;
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let material = Canary::new();
    let broken = format!(r#"{{"version":1,"primary":"k","keys":[{{"id":"k","key":"{material}"}}]}}"#);
    for (document, expected) in
        [("", "line 1"), ("{}", "line 1"), (broken.as_str(), "key k"), (&"x".repeat((1 << 20) + 1), "longer")]
    {
        fs::write(&file, document).unwrap();
        let session = database.connect(ADMIN).await;
        fails(&session, expected).await;
        let error = set(&session, "trustradius", "some-value").await.unwrap_err();
        material.assert_absent(error.as_db_error().unwrap());
    }
    fs::remove_file(&file).unwrap();
    fails(&database.connect(ADMIN).await, "cannot open the file").await;
    fs::create_dir(&file).unwrap();
    fails(&database.connect(ADMIN).await, "not a regular file").await;
    fs::remove_dir(&file).unwrap();

    // A new file belongs to who runs the tests: to root, it may be, and not to the server's user.
    fs::write(&file, &good).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let owner = |path: &Path| path.metadata().unwrap().uid();
    let own = owner(&file) == owner(&cluster.data_dir());
    fails(
        &database.connect(ADMIN).await,
        if own { "a file of the server's user must" } else { "a file of root must" },
    )
    .await;
}

#[tokio::test]
async fn a_file_of_root_is_read_as_platforms_mount_it_and_refused_where_others_can_read_it() {
    let cluster = Cluster::private();
    let database = cluster.database().await;
    let superuser = database.superuser().await;
    let file = cluster.keyring_file();
    let set_file = async |path: &Path| {
        let set = format!("ALTER SYSTEM SET integration_credentials.keyring_file = '{}'", path.display());
        superuser.batch_execute(&set).await.unwrap();
        superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        let is_set = format!(
            "SELECT WHERE current_setting('integration_credentials.keyring_file') = '{}'",
            path.display()
        );
        while database.superuser().await.query(&is_set, &[]).await.unwrap().is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    // As everybody has it; others than root can make no other.
    set_file(Path::new("/etc/passwd")).await;
    fails(&database.connect(ADMIN).await, "a file of root must have 0640 or less").await;
    if !nix::unistd::geteuid().is_root() {
        return;
    }

    // As Kubernetes does: root's, with the group of the server, behind two links.
    let volume = cluster.dir().join("volume");
    fs::create_dir_all(volume.join("..2026")).unwrap();
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(volume.join("..2026"), fs::Permissions::from_mode(0o755)).unwrap();
    let mounted = volume.join("..2026/keyring.json");
    fs::copy(&file, &mounted).unwrap();
    std::os::unix::fs::symlink("..2026", volume.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/keyring.json", volume.join("keyring.json")).unwrap();
    let group = cluster.data_dir().metadata().unwrap().gid();
    let own = |user| std::os::unix::fs::chown(&mounted, Some(user), Some(group)).unwrap();
    let allow = |mode| fs::set_permissions(&mounted, fs::Permissions::from_mode(mode)).unwrap();
    own(0);
    allow(0o640);
    set_file(&volume.join("keyring.json")).await;
    for mode in [0o640, 0o440, 0o040] {
        allow(mode);
        round_trip(&database).await;
    }
    for mode in [0o644, 0o660, 0o650, 0o641] {
        allow(mode);
        fails(&database.connect(ADMIN).await, "a file of root must have 0640 or less").await;
    }
    allow(0o600);
    fails(&database.connect(ADMIN).await, "cannot open the file").await;
    // Another user's, whatever its mode.
    own(65533);
    allow(0o440);
    fails(&database.connect(ADMIN).await, "neither the server's user nor root").await;
}

#[tokio::test]
async fn with_no_keyring_or_two_nothing_is_stored() {
    let cluster = Cluster::builder().without_keyring().start();
    let database = cluster.database().await;
    fails(&database.connect(ADMIN).await, "no keyring is configured").await;
    let two = Cluster::builder().setting("integration_credentials.keyring_command", "cat /dev/null").start();
    fails(&two.database().await.connect(ADMIN).await, "two keyrings").await;
    let superuser = database.superuser().await;
    assert_eq!(crate::helpers::calls::count(&superuser, "configured_integrations").await, 0);
    // What needs no key goes on: a leaked credential can be removed.
    assert_eq!(crate::helpers::calls::revision(&database.connect(ADMIN).await, "slack").await, 0);
}

async fn round_trip(database: &Database) {
    set(&database.connect(ADMIN).await, "trustradius", "some-value").await.unwrap();
    assert_eq!(get(&database.connect(READER).await, "trustradius").await.unwrap(), "some-value");
}

#[tokio::test]
async fn a_commands_output_is_a_keyring_too() {
    let keyring = Keyring::generate().unwrap().to_document().unwrap();
    let line = keyring.replace('\n', "");
    let cluster = Cluster::builder().keyring_command(&format!("printf '%s' '{line}'")).start();
    round_trip(&cluster.database().await).await;
}

#[tokio::test]
async fn a_command_that_fails_or_hangs_is_an_error_and_can_be_cancelled() {
    let canary = Canary::new();
    let command = format!("echo {canary}; echo {canary} >&2; exit 3");
    let cluster = Cluster::builder().keyring_command(&command).start();
    let session = cluster.database().await.connect(ADMIN).await;
    fails(&session, "exit status: 3").await;
    assert_eq!(canary.find(cluster.log().as_bytes()).len(), 0, "its standard error is not the log's");

    let cluster = Cluster::builder().keyring_command("sleep 1000 & sleep 1000").start();
    let session = cluster.database().await.connect(ADMIN).await;
    session.batch_execute("SET statement_timeout = '300ms'").await.unwrap();
    let error = timeout(Duration::from_secs(10), set(&session, "trustradius", "some-value")).await.unwrap();
    assert_eq!(error.unwrap_err().code().unwrap().code(), "57014");
}

/// A KMS that is slow, one that prints too much, and one that fails at times.
#[tokio::test]
async fn command_that_is_slow_is_awaited_and_one_that_prints_too_much_is_cut_off() {
    let keyring = Keyring::generate().unwrap().to_document().unwrap();
    let line = keyring.replace('\n', "");
    let slow = Cluster::builder().keyring_command(&format!("sleep 1; printf '%s' '{line}'")).start();
    round_trip(&slow.database().await).await;

    let canary = Canary::new();
    let endless = format!("while :; do echo {canary}; done");
    let cluster = Cluster::builder().keyring_command(&endless).start();
    let session = cluster.database().await.connect(ADMIN).await;
    timeout(Duration::from_secs(20), fails(&session, "longer than 1048576 bytes")).await.unwrap();
    assert!(canary.find(cluster.log().as_bytes()).is_empty());

    // It works for the first session, fails for the second, and works again.
    let broken = std::env::temp_dir().join(format!("intcred-{canary}"));
    let flaky = format!("[ ! -e {} ] || exit 7; printf '%s' '{line}'", broken.display());
    let cluster = Cluster::builder().keyring_command(&flaky).start();
    let database = cluster.database().await;
    let first = database.connect(ADMIN).await;
    set(&first, "trustradius", "first-value").await.unwrap();
    let second = database.connect(ADMIN).await;
    fs::write(&broken, "").unwrap();
    fails(&second, "exit status: 7").await;
    fs::remove_file(&broken).unwrap();
    set(&first, "trustradius", "second-value").await.unwrap();
    set(&second, "trustradius", "third-value").await.unwrap();
    assert_eq!(get(&database.connect(READER).await, "trustradius").await.unwrap(), "third-value");
}

#[tokio::test]
async fn a_new_primary_writes_and_old_keys_read_on() {
    let mut cluster = Cluster::private();
    let database = cluster.database().await;
    let (admin, reader) = (database.connect(ADMIN).await, database.connect(READER).await);
    set(&admin, "trustradius", "under-key-one").await.unwrap();

    let mut keyring = Keyring::parse(&cluster.keyring()).unwrap();
    let old = keyring.primary_id().to_owned();
    let new = keyring.add_key().unwrap().to_owned();
    keyring.use_key(&new).unwrap();
    fs::write(cluster.keyring_file(), keyring.to_document().unwrap().as_bytes()).unwrap();
    let superuser = database.superuser().await;
    let key_id = || async {
        let head = "SELECT convert_from(substr(ciphertext, 3, get_byte(ciphertext, 1)), 'UTF8')
                    FROM integration_credentials.configured_integrations";
        superuser.query_one(head, &[]).await.unwrap().get::<_, String>(0)
    };
    set(&admin, "trustradius", "still-key-one").await.unwrap();
    assert_eq!(key_id().await, old, "a session keeps its keyring until a reload");

    cluster.reload();
    timeout(Duration::from_secs(10), async {
        while key_id().await != new {
            set(&admin, "trustradius", "under-key-two").await.unwrap();
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(get(&reader, "trustradius").await.unwrap(), "under-key-two");

    // Without the key that wrote it, a row cannot be read, and says which key is missing.
    cluster.stop(Shutdown::Fast);
    let other = Keyring::generate().unwrap();
    fs::write(cluster.keyring_file(), other.to_document().unwrap().as_bytes()).unwrap();
    cluster.start();
    let error = get(&database.connect(READER).await, "trustradius").await;
    let error = assert_error(error, ErrorCode::EncryptionUnavailable);
    assert!(error.message().contains(&new), "{error:?}");
}

#[tokio::test]
async fn a_session_reads_what_another_wrote_under_a_key_that_it_has_not_seen() {
    let cluster = Cluster::private();
    let database = cluster.database().await;
    let reader = database.connect(READER).await;
    set(&database.connect(ADMIN).await, "trustradius", "first-value").await.unwrap();
    assert_eq!(get(&reader, "trustradius").await.unwrap(), "first-value");
    let mut keyring = Keyring::parse(&cluster.keyring()).unwrap();
    let new = keyring.add_key().unwrap().to_owned();
    keyring.use_key(&new).unwrap();
    fs::write(cluster.keyring_file(), keyring.to_document().unwrap().as_bytes()).unwrap();
    set(&database.connect(ADMIN).await, "trustradius", "second-value").await.unwrap();
    assert_eq!(get(&reader, "trustradius").await.unwrap(), "second-value");
}

#[tokio::test]
async fn a_command_ends_with_the_session_that_started_it_and_gets_none_of_its_files() {
    let marker = Canary::new();
    let files = std::env::temp_dir().join(format!("intcred-{marker}"));
    let command =
        format!("ls -l /proc/self/fd > {}; exec sleep 1000.{}", files.display(), std::process::id());
    let cluster = Cluster::builder().keyring_command(&command).start();
    let database = cluster.database().await;
    let (victim, superuser) = (database.connect(ADMIN).await, database.superuser().await);
    let pid = victim.pid().await;
    let sleeper = format!("sleep\0{}\0", &command[command.rfind(' ').unwrap() + 1..]);
    let is_running = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let command = |process: fs::DirEntry| fs::read(process.path().join("cmdline")).unwrap_or_default();
        processes.map(command).any(|command| command == sleeper.as_bytes())
    };
    let wait_until = async |running: bool| {
        while is_running() != running {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let end = async {
        timeout(Duration::from_secs(10), wait_until(true)).await.unwrap();
        superuser.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    };
    let (ended, ()) = tokio::join!(set(&victim, "trustradius", "some-value"), end);
    assert!(ended.is_err());
    timeout(Duration::from_secs(10), wait_until(false)).await.unwrap();

    let inherited = fs::read_to_string(&files).unwrap();
    fs::remove_file(&files).unwrap();
    assert!(!inherited.contains("socket:") && !inherited.contains("/base/"), "{inherited}");
}
