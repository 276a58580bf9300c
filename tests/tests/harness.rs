//! The harness itself: a test that relies on it is worth no more than these.

use integration_credentials_core::error::{ErrorCode, Refusal};
use std::{
    os::unix::{fs::MetadataExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{self, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tests::{
    ADMIN, AUDITOR, Canary, Cluster, OUTSIDER, READER, SUPERUSER, Shutdown, Wire, assert_error,
    installation::Installation, intcred, run, wire::Statement, write_executable,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{sleep, timeout},
};
use tokio_postgres::error::DbError;

fn bare_cluster() -> Cluster {
    Cluster::builder().without_preload().start()
}

/// For the tests that just need a server.
fn shared_bare_cluster() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(bare_cluster)
}

fn is_running(pid: u32) -> bool {
    // A zombie has a directory, too, but no memory; in a container nobody may be there to wait for it.
    std::fs::read_to_string(format!("/proc/{pid}/statm")).is_ok_and(|memory| !memory.starts_with("0 "))
}

#[tokio::test]
async fn a_cluster_is_like_a_default_one_and_private() {
    let cluster = shared_bare_cluster();
    let superuser = cluster.empty_database().await.superuser().await;
    for (setting, value) in
        [("fsync", "on"), ("listen_addresses", ""), ("log_statement", "none"), ("server_encoding", "UTF8")]
    {
        let row = superuser.query_one(&format!("SHOW {setting}"), &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), value, "{setting}");
    }
    let dir = cluster.dir().metadata().unwrap();
    let keyring = cluster.keyring_file().metadata().unwrap();
    assert_eq!((dir.mode() & 0o777, keyring.mode() & 0o777), (0o700, 0o600));
    let server = Path::new("/proc").join(cluster.postmaster_pid().to_string()).metadata().unwrap();
    assert_ne!(server.uid(), 0, "the server runs as an ordinary user");
    assert_eq!([dir.uid(), keyring.uid()], [server.uid(); 2]);
}

#[tokio::test]
async fn builder_options_take_effect() {
    let quoted = r"it's 100% \ back";
    let cluster = Cluster::builder()
        .without_preload()
        .preload("auto_explain")
        .tcp()
        .keyring_command(quoted)
        .setting("fsync", "off")
        .start();
    let database = cluster.empty_database().await;
    let over_tcp = tests::Session::open(&database.tcp_dsn(tests::SUPERUSER)).await;
    for (setting, value) in [
        ("fsync", "off"),
        ("shared_preload_libraries", "auto_explain"),
        ("integration_credentials.keyring_command", quoted),
    ] {
        let row = over_tcp.query_one("SELECT current_setting($1)", &[&setting]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), value, "{setting}");
    }
    assert!(!cluster.keyring_file().exists());
}

#[tokio::test]
async fn a_cluster_survives_restart_and_crash_and_leaves_nothing() {
    let mut cluster = bare_cluster();
    let database = cluster.empty_database().await;
    let superuser = database.superuser().await;
    superuser.batch_execute("CREATE TABLE t (i int); INSERT INTO t VALUES (42)").await.unwrap();

    let ends: [fn(&mut Cluster); 3] =
        [|it| it.stop(Shutdown::Fast), |it| it.stop(Shutdown::Immediate), Cluster::kill_postmaster];
    for end in ends {
        let pid = cluster.postmaster_pid();
        end(&mut cluster);
        assert!(!is_running(pid));
        cluster.start();
        assert_ne!(cluster.postmaster_pid(), pid);
        let row = database.superuser().await.query_one("SELECT i FROM t", &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 42);
    }
    assert!(cluster.log().contains("automatic recovery in progress"), "{}", cluster.log());

    let (pid, dir) = (cluster.postmaster_pid(), cluster.dir().to_owned());
    drop(cluster);
    assert!(!is_running(pid));
    assert!(!dir.exists());
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let broken = Cluster::builder().without_preload().setting("max_connections", "none");
    let panicked = std::panic::catch_unwind(|| drop(broken.start())).unwrap_err();
    let message = panicked.downcast_ref::<String>().unwrap();
    assert!(message.contains(r#"invalid value for parameter "max_connections""#), "{message}");
}

#[tokio::test]
async fn a_reload_is_noticed() {
    let cluster = shared_bare_cluster();
    let superuser = cluster.empty_database().await.superuser().await;
    superuser.batch_execute("ALTER SYSTEM SET work_mem = '7MB'").await.unwrap();
    cluster.reload();
    let reloaded = async {
        while superuser.query_one("SHOW work_mem", &[]).await.unwrap().get::<_, &str>(0) != "7MB" {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), reloaded).await.unwrap();
}

#[tokio::test]
async fn a_session_keeps_notices_and_notifications() {
    let cluster = shared_bare_cluster();
    let database = cluster.empty_database().await;
    let (mut listener, mut sender) = (database.superuser().await, database.superuser().await);
    listener.batch_execute("LISTEN news").await.unwrap();
    sender.batch_execute("NOTIFY news, 'one'; DO $$ BEGIN RAISE NOTICE 'told'; END $$").await.unwrap();
    let notices = sender.notices();
    assert_eq!(notices.iter().map(DbError::message).collect::<Vec<_>>(), ["told"]);
    assert!(sender.notices().is_empty());

    assert_eq!(listener.next_notification().await.payload(), "one");
    let transaction = sender.transaction().await.unwrap();
    transaction.batch_execute("NOTIFY news, 'never'").await.unwrap();
    transaction.rollback().await.unwrap();
    sender.batch_execute("NOTIFY news, 'two'").await.unwrap();
    listener.batch_execute("SELECT").await.unwrap();
    let payloads: Vec<_> = listener.notifications().iter().map(|it| it.payload().to_owned()).collect();
    assert_eq!(payloads, ["two"]);
}

#[tokio::test]
async fn postgres_tools_connect_and_read_the_data_directory() {
    let cluster = shared_bare_cluster();
    let database = cluster.empty_database().await;
    let mut psql = cluster.tool("psql");
    let answer =
        run(psql.args(["-XAt", "-d", database.name()]), b"SELECT current_database()").await.success();
    assert_eq!(answer.trim_end(), database.name());
    let refused = run(cluster.tool("psql").args(["-d", "no_such_database"]), b"").await;
    assert_eq!((refused.code, refused.stderr.is_empty()), (2, false));
    let dump = run(cluster.tool("pg_dump").arg(database.name()), b"").await.success();
    assert!(dump.contains("PostgreSQL database dump complete"));
    let control = run(cluster.tool("pg_controldata").arg(cluster.data_dir()), b"").await.success();
    assert!(control.contains("in production"));
}

#[tokio::test]
async fn the_command_line_is_found_and_run() {
    let version = run(intcred().arg("--version"), b"").await.success();
    assert!(version.starts_with("intcred "), "{version}");
}

#[tokio::test]
async fn a_canary_in_a_table_is_found_in_heap_wal_and_log() {
    let mut cluster = Cluster::builder().without_preload().setting("log_statement", "all").start();
    let superuser = cluster.empty_database().await.superuser().await;
    let (planted, elsewhere) = (Canary::new(), Canary::new());
    // Longer than 2 kB and compressible, so that Postgres compresses it.
    let statement = format!("CREATE TABLE t AS SELECT repeat('x', 9000) || '{planted}' AS value");
    superuser.batch_execute(&statement).await.unwrap();
    cluster.stop(Shutdown::Fast);

    let files: Vec<_> = planted.search(&cluster.data_dir()).into_iter().map(|hit| hit.file).collect();
    let relative = |file: &PathBuf| file.strip_prefix(cluster.data_dir()).unwrap().display().to_string();
    let files: Vec<_> = files.iter().map(relative).collect();
    for place in ["base/", "pg_wal/", "server.log"] {
        assert!(files.iter().any(|file| file.starts_with(place)), "{place}: {files:?}");
    }
    assert_eq!(elsewhere.search(&cluster.data_dir()), []);
}

#[tokio::test]
async fn a_database_has_the_extension_and_its_roles() {
    let cluster = Cluster::shared();
    // Side by side, for roles are made once and tests run in parallel.
    let (one, two) = tokio::join!(cluster.database(), cluster.database());
    assert_ne!(one.name(), two.name());
    for database in [&one, &two] {
        for role in [ADMIN, READER, AUDITOR] {
            let session = database.connect(role).await;
            session.query("SELECT * FROM integration_credentials.list_integrations()", &[]).await.unwrap();
        }
        let outsider = database.connect(OUTSIDER).await;
        let refused = outsider.query("SELECT * FROM integration_credentials.list_integrations()", &[]).await;
        assert_error(refused, ErrorCode::ForbiddenAdminScope);
    }
    one.set_org("o'hara").await;
    one.set_role_org(READER, "acme").await;
    for (role, org) in [(ADMIN, "o'hara"), (READER, "acme")] {
        let session = one.connect(role).await;
        let row = session.query_one("SELECT integration_credentials.current_org()", &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), org);
    }
}

#[tokio::test]
async fn an_error_is_checked_in_every_part() {
    let cluster = shared_bare_cluster();
    let session = cluster.empty_database().await.superuser().await;
    let raise = |code: &str, detail: &str, hint: &str| {
        format!(
            "DO $$ BEGIN RAISE 'no' USING ERRCODE = '{code}', DETAIL = '{detail}', HINT = '{hint}'; END $$"
        )
    };
    let code = ErrorCode::IntegrationNotFound;
    let good = raise(code.sqlstate(), &Refusal::new(code, "", "").detail(), "do this");
    let error = assert_error(session.batch_execute(&good).await, code);
    assert_eq!(error.message(), "no");
    for bad in [
        "SELECT 1".into(),
        raise("IC001", &Refusal::new(code, "", "").detail(), "do this"),
        raise(code.sqlstate(), &Refusal::new(ErrorCode::InvalidRequest, "", "").detail(), "do this"),
        raise(code.sqlstate(), "", "do this"),
        raise(code.sqlstate(), &Refusal::new(code, "", "").detail(), ""),
    ] {
        let result = session.batch_execute(&bad).await;
        let check = std::panic::AssertUnwindSafe(|| drop(assert_error(result, code)));
        assert!(std::panic::catch_unwind(check).is_err(), "{bad}");
    }
}

/// Started by the test below, to end in the way that it asks for.
#[test]
#[ignore = "a process of its own"]
fn hold_the_shared_cluster() {
    let cluster = shared_bare_cluster();
    println!("held {} {}", cluster.postmaster_pid(), cluster.dir().display());
    match std::env::var("END").as_deref() {
        Ok("panic") => panic!("as asked"),
        Ok("wait") => std::thread::sleep(Duration::from_mins(10)),
        _ => {}
    }
}

async fn holder(end: &str) -> (Child, u32, PathBuf) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "hold_the_shared_cluster"])
        .env("END", end)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    loop {
        let line = lines.next_line().await.unwrap().expect("the cluster starts");
        if let Some((_, held)) = line.split_once("held ") {
            let (pid, dir) = held.split_once(' ').unwrap();
            // Keeps the pipe open: who prints to a closed one panics.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return (child, pid.parse().unwrap(), dir.into());
        }
    }
}

#[tokio::test]
async fn nothing_remains_however_the_test_process_ends() {
    for (end, code, signal) in
        [("return", Some(0), None), ("panic", Some(101), None), ("wait", None, Some(9))]
    {
        let (mut child, postmaster, dir) = holder(end).await;
        if end == "wait" {
            assert!(is_running(postmaster) && dir.exists());
            child.start_kill().unwrap();
        }
        let status = child.wait().await.unwrap();
        assert_eq!((status.code(), status.signal()), (code, signal), "{end}");
        let gone = async {
            while is_running(postmaster) || dir.exists() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(20), gone).await.unwrap_or_else(|_| panic!("{end}: {}", dir.display()));
    }
}

#[tokio::test]
async fn a_server_has_no_more_memory_than_it_is_given() {
    let cluster = Cluster::builder().without_preload().memory_kb(1_000_000).start();
    let session = cluster.named_database("postgres").superuser().await;
    let error = session.batch_execute("SELECT repeat('x', 1000000000)").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "53200");
    session.batch_execute("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn a_server_speaks_the_languages_that_it_is_given_and_no_other() {
    let languages = Installation::find().languages();
    if languages.is_empty() {
        return;
    }
    let cluster = Cluster::builder().without_preload().languages(&languages[..1]).start();
    let session = cluster.named_database("postgres").superuser().await;
    let english = session.batch_execute("SELECT 1/0").await.unwrap_err();
    session.batch_execute(&format!("SET lc_messages = '{}'", languages[0])).await.unwrap();
    let translated = session.batch_execute("SELECT 1/0").await.unwrap_err();
    let message = |error: &tokio_postgres::Error| error.as_db_error().unwrap().message().to_owned();
    assert_ne!(message(&english), message(&translated));
    session.batch_execute(&format!("SET lc_messages = '{}'", languages[1])).await.unwrap_err();
}

#[tokio::test]
async fn a_wire_hears_rows_errors_and_the_end_of_its_session() {
    let database = shared_bare_cluster().named_database("postgres");
    let mut wire = Wire::open(&database, SUPERUSER, &[("replication", "database")]).await;
    // Nobody else may ask this.
    assert_eq!(wire.query("IDENTIFY_SYSTEM").await.sqlstate, None);
    let answer = wire.query("SELECT 'a row'; SELECT 1/0").await;
    assert!(answer.rows.windows(5).any(|bytes| bytes == b"a row"), "{answer:?}");
    assert_eq!(answer.sqlstate.as_deref(), Some("22012"));
    assert!(answer.messages.contains("division by zero"), "{answer:?}");

    let mut wire = Wire::open(&database, SUPERUSER, &[("application_name", "wire")]).await;
    let statement = Statement { name: "s", sql: Some("SELECT 'a ' || $1"), parameters: &["parameter"] };
    assert!(String::from_utf8_lossy(&wire.run(statement).await.rows).contains("a parameter"));
    let again = wire.run(Statement { sql: None, ..statement }).await;
    assert!(again.sqlstate.is_none() && !again.is_lost, "{again:?}");
    let pid = wire.pid();
    database.superuser().await.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    let ended = wire.run(Statement { sql: None, ..statement }).await;
    assert!(ended.is_lost && ended.sqlstate.as_deref() == Some("57P01"), "{ended:?}");
}

#[test]
fn program_that_a_test_writes_runs_at_once_beside_others_that_start() {
    let dir = tempfile::tempdir().unwrap();
    let (is_over, began) = (AtomicBool::new(false), Instant::now());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) && began.elapsed() < Duration::from_mins(1) {
                    assert!(process::Command::new("true").status().unwrap().success());
                }
            });
        }
        let runs = (0..300).map(|run| {
            let program = dir.path().join(run.to_string());
            write_executable(&program, b"#!/bin/sh\n");
            process::Command::new(&program).status()
        });
        let failures: Vec<_> = runs.filter_map(Result::err).collect();
        is_over.store(true, Ordering::Relaxed);
        assert!(failures.is_empty(), "{failures:?}");
    });
}
