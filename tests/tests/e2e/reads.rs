//! The read ledger: who has read what, in memory and in its table, through everything that can come between.

use crate::command_line::eventually;
use crate::helpers::calls::{ANY, GET_ALL, GET_WITH_REVISION, count, get, register, remove, set};
use crate::helpers::fixture::{Fixture, until};
use serde_json::{Value, json};
use tests::{ADMIN, AUDITOR, Canary, Cluster, Database, OUTSIDER, READER, Session, Shutdown, intcred, run};
use tokio::time::{Duration, sleep, timeout};
use tokio_postgres::error::SqlState;

/// Key, role, revision of the last read, and number of reads.
type Row = (String, String, i64, i64);

fn row(key: &str, role: &str, revision: i64, reads: i64) -> Row {
    (key.to_owned(), role.to_owned(), revision, reads)
}

/// What the session's org is told.
async fn reads(session: &Session) -> Vec<Row> {
    let statement = "SELECT key, role, revision, reads FROM integration_credentials.credential_reads()";
    let rows = session.query(statement, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
}

/// What is in the table, of all orgs.
async fn written(superuser: &Session) -> Vec<Row> {
    let statement = "SELECT integration_key, role_name, revision, reads
                     FROM integration_credentials.credential_reads ORDER BY 1, 2, org_slug";
    let rows = superuser.query(statement, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
}

/// Waits until the table has these rows.
async fn until_written(superuser: &Session, expected: &[Row]) {
    let wait = async {
        while written(superuser).await != expected {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let outcome = timeout(Duration::from_mins(1), wait).await;
    assert!(outcome.is_ok(), "expected {expected:?}, written {:?}", written(superuser).await);
}

/// A worker of maintenance is in the database.
fn has_worker(database: &Database) -> String {
    format!(
        "SELECT pid FROM pg_stat_activity
         WHERE backend_type = 'integration_credentials maintenance' AND datname = '{}'",
        database.name()
    )
}

/// Waits until the log has a text, and returns how often.
async fn logged(cluster: &Cluster, text: &str) -> usize {
    let count = || cluster.log().matches(text).count();
    let wait = async {
        while count() == 0 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_mins(1), wait).await.unwrap_or_else(|_| panic!("not logged: {text}"));
    count()
}

fn private() -> Cluster {
    Cluster::builder().setting("fsync", "off").start()
}

#[tokio::test]
async fn every_call_that_reads_counts_for_the_role_that_calls() {
    let fixture = Fixture::new().await;
    let (database, superuser) = (&fixture.database, &fixture.superuser);
    set(&fixture.admin, ANY, "value").await.unwrap();
    let reader = database.connect(READER).await;
    assert_eq!(reads(&reader).await, []);
    get(&reader, ANY).await.unwrap();
    reader.query_one(GET_WITH_REVISION, &[&ANY]).await.unwrap();
    reader.query(GET_ALL, &[]).await.unwrap();
    assert_eq!(reads(&reader).await, [row(ANY, READER, 1, 3)]);
    // A call that finds no value is no read.
    get(&reader, "slack").await.unwrap_err();
    get(&reader, "nowhere").await.unwrap_err();

    // The role of SET ROLE, and the owner of a definer function, in a transaction that is rolled back.
    let (name, owner) = (database.name(), &fixture.owner);
    let script = format!(
        "CREATE ROLE {name}_role IN ROLE integration_credentials_reader; GRANT {name}_role TO {READER};
         GRANT integration_credentials_reader TO {owner}; GRANT USAGE ON SCHEMA app TO PUBLIC;"
    );
    superuser.batch_execute(&script).await.unwrap();
    let definer = "CREATE FUNCTION app.read() RETURNS text LANGUAGE sql SECURITY DEFINER
                   BEGIN ATOMIC SELECT integration_credentials.get_integration_credentials('any'); END";
    fixture.as_owner(definer).await;
    let script = format!(
        "BEGIN; SET LOCAL ROLE {name}_role; SELECT integration_credentials.get_integration_credentials('any');
         ROLLBACK; BEGIN; SELECT app.read(); ROLLBACK"
    );
    reader.batch_execute(&script).await.unwrap();
    let mut expected = vec![
        row(ANY, READER, 1, 3),
        row(ANY, &format!("{name}_role"), 1, 1),
        row(ANY, &format!("{name}_owner"), 1, 1),
    ];
    expected.sort();
    assert_eq!(reads(&reader).await, expected);
    until_written(superuser, &expected).await;
    assert_eq!(reads(&reader).await, expected);

    // The last read counts, and the reads of the memory are added to those of the table.
    set(&fixture.admin, ANY, "value-2").await.unwrap();
    get(&reader, ANY).await.unwrap();
    let mine = expected.iter_mut().find(|(_, role, ..)| role == READER).unwrap();
    (mine.2, mine.3) = (2, 4);
    assert_eq!(reads(&reader).await, expected);
    until_written(superuser, &expected).await;
    assert_eq!(reads(&reader).await, expected);
    // A removal takes nothing back.
    remove(&fixture.admin, ANY).await.unwrap();
    assert_eq!(reads(&fixture.admin).await, expected);
}

#[tokio::test]
async fn an_org_is_told_of_its_own_reads_only_and_each_role_may_ask_by_key() {
    let fixture = Fixture::new().await;
    for (org, value) in [("acme", "of acme"), ("globex", "of globex")] {
        let admin = fixture.connect_as(ADMIN, org).await;
        set(&admin, ANY, value).await.unwrap();
        set(&admin, "trustradius", "of-an-org").await.unwrap();
    }
    let acme = fixture.connect_as(READER, "acme").await;
    get(&acme, ANY).await.unwrap();
    get(&acme, "trustradius").await.unwrap();
    get(&acme, ANY).await.unwrap();
    let expected = [row(ANY, READER, 1, 2), row("trustradius", READER, 1, 1)];
    for is_written in [false, true] {
        for role in [ADMIN, READER, AUDITOR] {
            assert_eq!(reads(&fixture.connect_as(role, "acme").await).await, expected);
            assert_eq!(reads(&fixture.connect_as(role, "globex").await).await, []);
        }
        if !is_written {
            until_written(&fixture.superuser, &expected).await;
        }
    }
    let one = "SELECT role FROM integration_credentials.credential_reads($1)";
    assert_eq!(acme.query(one, &[&"trustradius"]).await.unwrap().len(), 1);
    assert_eq!(acme.query(one, &[&"slack"]).await.unwrap().len(), 0);
    let error = acme.query(one, &[&""]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "IC001");
}

#[tokio::test]
async fn the_table_is_written_by_hot_updates_and_survives_a_restart_and_a_crash_loses_the_rest() {
    let mut cluster = private();
    let database = cluster.database().await;
    {
        let (superuser, admin) = (database.superuser().await, database.connect(ADMIN).await);
        register(&admin, ANY, json!({})).await.unwrap();
        set(&admin, ANY, "value").await.unwrap();
        let reader = database.connect(READER).await;
        for round in 1..=4 {
            get(&reader, ANY).await.unwrap();
            until_written(&superuser, &[row(ANY, READER, 1, round)]).await;
        }
        let updates = "SELECT FROM pg_stat_user_tables WHERE relname = 'credential_reads'
                       AND n_tup_ins = 1 AND n_tup_upd = 3 AND n_tup_hot_upd = 3";
        until(&superuser, updates).await;
    }
    cluster.restart();
    let reader = database.connect(READER).await;
    assert_eq!(reads(&reader).await, [row(ANY, READER, 1, 4)]);
    get(&reader, ANY).await.unwrap();
    assert_eq!(reads(&reader).await, [row(ANY, READER, 1, 5)]);
    until_written(&database.superuser().await, &[row(ANY, READER, 1, 5)]).await;
    // Nobody can write these, so they are in memory alone.
    let holder = database.superuser().await;
    holder.batch_execute("BEGIN; LOCK integration_credentials.credential_reads IN SHARE MODE").await.unwrap();
    get(&reader, ANY).await.unwrap();
    assert_eq!(reads(&reader).await, [row(ANY, READER, 1, 6)]);
    cluster.stop(Shutdown::Immediate);
    cluster.start();
    assert_eq!(reads(&database.connect(READER).await).await, [row(ANY, READER, 1, 5)]);
}

#[tokio::test]
async fn a_full_ledger_says_what_it_lost_and_loses_nothing_that_it_had() {
    let cluster = private();
    let database = cluster.database().await;
    let superuser = database.superuser().await;
    // More than the 16,384 entries, by two roles.
    let fill = "SELECT integration_credentials.admin_register_integration('key-' || n, 'x', 'x'),
                       integration_credentials.admin_set_integration_credentials('key-' || n, repeat('v', n / n), 'x')
                FROM generate_series(1, 8500) n";
    superuser.query(fill, &[]).await.unwrap();
    let holder = database.superuser().await;
    holder.batch_execute("BEGIN; LOCK integration_credentials.credential_reads IN SHARE MODE").await.unwrap();
    let reader = database.connect(READER).await;
    for session in [&reader, &superuser] {
        assert_eq!(session.query(GET_ALL, &[]).await.unwrap().len(), 8500);
    }
    let kept = reads(&superuser).await.len();
    assert!((12_000..=16_384).contains(&kept), "{kept}");
    // The worker may come while reads are being lost, and tell of them in two lines.
    let lost = || {
        let log = cluster.log();
        let told = log.split("no room for ").skip(1);
        told.map(|line| {
            let (reads, rest) = line.split_once(" reads of credentials in database ").unwrap();
            assert!(rest.starts_with(&format!("\"{}\"", database.name())), "{rest}");
            reads.parse::<usize>().unwrap()
        })
        .sum::<usize>()
    };
    eventually("all losses are told", async || lost() == 17_000 - kept).await;
    holder.batch_execute("COMMIT").await.unwrap();
    let all = format!(
        "SELECT FROM integration_credentials.credential_reads HAVING count(*) = {kept} AND sum(reads) = {kept}"
    );
    until(&superuser, &all).await;
    // What is written makes room.
    assert_eq!(reader.query(GET_ALL, &[]).await.unwrap().len(), 8500);
    let all = "SELECT FROM integration_credentials.credential_reads WHERE role_name = 'rita_reader' HAVING count(*) = 8500";
    until(&superuser, all).await;
    assert_eq!(lost(), 17_000 - kept);
}

#[tokio::test]
async fn names_too_long_for_the_ledger_are_counted_as_lost() {
    let cluster = private();
    let database = cluster.database().await;
    let admin = database.connect(ADMIN).await;
    let long = "é".repeat(255);
    let reader = database.connect(READER).await;
    for key in [long.as_str(), ANY] {
        register(&admin, key, json!({})).await.unwrap();
        set(&admin, key, "value").await.unwrap();
        get(&reader, key).await.unwrap();
    }
    assert_eq!(reads(&reader).await, [row(ANY, READER, 1, 1)]);
    logged(&cluster, "no room for 1 reads of credentials").await;
}

#[tokio::test]
async fn tracking_is_for_a_superuser_to_turn_off() {
    let fixture = Fixture::new().await;
    set(&fixture.admin, ANY, "value").await.unwrap();
    let reader = fixture.database.connect(READER).await;
    for setting in ["track_reads = off", "log_reads = log"] {
        let error =
            reader.batch_execute(&format!("SET integration_credentials.{setting}")).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501");
    }
    let name = fixture.database.name();
    let off = format!("ALTER ROLE {READER} IN DATABASE {name} SET integration_credentials.track_reads = off");
    fixture.superuser.batch_execute(&off).await.unwrap();
    let untracked = fixture.database.connect(READER).await;
    get(&untracked, ANY).await.unwrap();
    assert_eq!(reads(&untracked).await, []);
    get(&reader, ANY).await.unwrap();
    assert_eq!(reads(&untracked).await, [row(ANY, READER, 1, 1)]);
}

#[tokio::test]
async fn a_logged_read_names_all_but_the_value() {
    let cluster = private();
    let database = cluster.database().await;
    let (superuser, admin, canary) =
        (database.superuser().await, database.connect(ADMIN).await, Canary::new());
    register(&admin, ANY, json!({})).await.unwrap();
    set(&admin, ANY, canary.as_str()).await.unwrap();
    get(&database.connect(READER).await, ANY).await.unwrap();
    assert!(!cluster.log().contains("read of credential"));
    let name = database.name();
    let on = format!("ALTER DATABASE {name} SET integration_credentials.log_reads = 'log'");
    superuser.batch_execute(&on).await.unwrap();
    let reader = database.connect(READER).await;
    get(&reader, ANY).await.unwrap();
    reader.query(GET_ALL, &[]).await.unwrap();
    reader.query_one(GET_WITH_REVISION, &[&ANY]).await.unwrap();
    let line =
        format!("LOG:  read of credential \"any\" of org \"{name}\", revision 1, by role \"{READER}\"\n");
    assert_eq!(logged(&cluster, &line).await, 3);
    assert!(canary.find(cluster.log().as_bytes()).is_empty());
}

#[tokio::test]
async fn a_standby_knows_its_own_reads_and_writes_none() {
    let cluster = private();
    let database = cluster.database().await;
    let (superuser, admin) = (database.superuser().await, database.connect(ADMIN).await);
    register(&admin, ANY, json!({})).await.unwrap();
    set(&admin, ANY, "value").await.unwrap();
    get(&database.connect(READER).await, ANY).await.unwrap();
    let expected = [row(ANY, READER, 1, 1)];
    until_written(&superuser, &expected).await;

    let standby = cluster.standby();
    let there = standby.named_database(database.name());
    let reader = there.connect(READER).await;
    assert_eq!(reads(&reader).await, expected);
    get(&reader, ANY).await.unwrap();
    get(&reader, ANY).await.unwrap();
    assert_eq!(reads(&reader).await, [row(ANY, READER, 1, 3)]);
    assert_eq!(reads(&admin).await, expected);
    assert!(there.superuser().await.query(&has_worker(&there), &[]).await.unwrap().is_empty());
    // Once promoted, it writes them.
    let promoted = there.superuser().await;
    promoted.batch_execute("SELECT pg_promote()").await.unwrap();
    until_written(&promoted, &[row(ANY, READER, 1, 3)]).await;
    assert_eq!(reads(&reader).await, [row(ANY, READER, 1, 3)]);
}

/// Postgres waits five seconds until nobody is in the database. On a busy machine a worker may take longer, and the second
/// attempt succeeds. Returns whether the first one does.
async fn at_once(session: &Session, statement: &str) -> bool {
    match session.batch_execute(statement).await {
        Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) => {
            session.batch_execute(statement).await.unwrap();
            false
        }
        done => done.is_ok(),
    }
}

#[tokio::test]
async fn a_database_with_a_worker_is_copied_and_dropped() {
    // A worker of autovacuum that is ended says FATAL.
    let cluster = Cluster::builder().setting("autovacuum", "off").start();
    let postgres = cluster.named_database("postgres").superuser().await;
    let (mut copied, mut dropped) = (0, 0);
    for number in 0..3 {
        let database = cluster.database().await;
        {
            let admin = database.connect(ADMIN).await;
            register(&admin, ANY, json!({})).await.unwrap();
            set(&admin, ANY, "value").await.unwrap();
            get(&database.connect(READER).await, ANY).await.unwrap();
        }
        until(&postgres, &has_worker(&database)).await;
        let name = database.name();
        copied +=
            u32::from(at_once(&postgres, &format!("CREATE DATABASE copy_{number} TEMPLATE {name}")).await);
        get(&database.connect(READER).await, ANY).await.unwrap();
        until(&postgres, &has_worker(&database)).await;
        dropped += u32::from(at_once(&postgres, &format!("DROP DATABASE {name}")).await);
        let copy = cluster.named_database(&format!("copy_{number}"));
        assert_eq!(count(&copy.superuser().await, "credential_reads").await, 1);
    }
    assert!(copied > 0 && dropped > 0, "{copied} {dropped}");
    // An idle database has none, and a database that allows no connections gets none.
    until(
        &postgres,
        "SELECT WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type LIKE '%maintenance')",
    )
    .await;
    let closed = cluster.named_database("copy_0");
    let reader = closed.connect(READER).await;
    postgres.batch_execute("ALTER DATABASE copy_0 ALLOW_CONNECTIONS off").await.unwrap();
    get(&reader, ANY).await.unwrap_err();
    assert!(!cluster.log().contains("FATAL"), "{}", cluster.log());
}

#[tokio::test]
async fn a_worker_that_is_killed_comes_back_and_counts_nothing_twice() {
    let cluster = private();
    let fixture = Fixture::within(&cluster).await;
    let (database, superuser) = (&fixture.database, &fixture.superuser);
    set(&fixture.admin, ANY, "value").await.unwrap();
    let holder = database.superuser().await;
    holder.batch_execute("BEGIN; LOCK integration_credentials.credential_reads IN SHARE MODE").await.unwrap();
    let reader = database.connect(READER).await;
    get(&reader, ANY).await.unwrap();
    let kill = format!("SELECT pg_terminate_backend(pid) FROM ({}) w", has_worker(database));
    until(superuser, &kill).await;
    get(&reader, ANY).await.unwrap();
    holder.batch_execute("COMMIT").await.unwrap();
    until_written(superuser, &[row(ANY, READER, 1, 2)]).await;
    assert_eq!(reads(&reader).await, [row(ANY, READER, 1, 2)]);
}

#[tokio::test]
async fn many_databases_take_turns() {
    let cluster = private();
    let mut databases = Vec::new();
    // More than there are workers at once.
    for _ in 0..5 {
        let database = cluster.database().await;
        let admin = database.connect(ADMIN).await;
        register(&admin, ANY, json!({})).await.unwrap();
        set(&admin, ANY, "value").await.unwrap();
        databases.push((database.superuser().await, database.connect(READER).await));
    }
    for round in 1..=3 {
        for (_, reader) in &databases {
            get(reader, ANY).await.unwrap();
        }
        for (superuser, reader) in &databases {
            until_written(superuser, &[row(ANY, READER, 1, round)]).await;
            assert_eq!(reads(reader).await, [row(ANY, READER, 1, round)]);
        }
    }
}

#[tokio::test]
async fn without_a_free_worker_the_ledger_stays_in_memory_and_the_log_says_so_once() {
    // The notifier, and Postgres' own launcher of logical replication.
    let cluster = Cluster::builder().setting("max_worker_processes", "2").setting("fsync", "off").start();
    let fixture = Fixture::within(&cluster).await;
    set(&fixture.admin, ANY, "value").await.unwrap();
    let reader = fixture.database.connect(READER).await;
    get(&reader, ANY).await.unwrap();
    logged(&cluster, "raise max_worker_processes").await;
    assert_eq!(reads(&reader).await, [row(ANY, READER, 1, 1)]);
    assert_eq!(count(&fixture.superuser, "credential_reads").await, 0);
}

#[tokio::test]
async fn settings_of_the_database_do_not_stop_the_worker() {
    let fixture = Fixture::new().await;
    set(&fixture.admin, ANY, "value").await.unwrap();
    let (name, owner) = (fixture.database.name(), &fixture.owner);
    for setting in [
        "statement_timeout = '1ms'".to_owned(),
        "lock_timeout = '1ms'".to_owned(),
        "idle_in_transaction_session_timeout = '1ms'".to_owned(),
        "default_transaction_read_only = on".to_owned(),
        "default_transaction_isolation = 'serializable'".to_owned(),
        "session_replication_role = replica".to_owned(),
        "session_preload_libraries = 'no_such_library'".to_owned(),
        "search_path = app, pg_catalog".to_owned(),
        format!("role = {owner}"),
    ] {
        let reader = fixture.database.connect(READER).await;
        let set = format!("ALTER DATABASE {name} SET {setting}");
        fixture.superuser.batch_execute(&set).await.unwrap();
        let before = reads(&reader).await.first().map_or(0, |(.., reads)| *reads);
        get(&reader, ANY).await.unwrap();
        until_written(&fixture.superuser, &[row(ANY, READER, 1, before + 1)]).await;
        let reset = format!("ALTER DATABASE {name} RESET ALL");
        fixture.superuser.batch_execute(&reset).await.unwrap();
    }
}

#[tokio::test]
async fn the_sql_of_an_earlier_release_works_without_a_ledger_and_with_one_after_its_update() {
    let cluster = private();
    let database = cluster.empty_database().await;
    let superuser = database.superuser().await;
    let old = "CREATE EXTENSION integration_credentials VERSION '0.1.0';
               CREATE ROLE app LOGIN;
               GRANT USAGE ON SCHEMA integration_credentials TO app;
               GRANT EXECUTE ON FUNCTION integration_credentials.get_integration_credentials(text),
                   integration_credentials.list_integrations(), integration_credentials.describe_integrations() TO app";
    superuser.batch_execute(old).await.unwrap();
    register(&superuser, ANY, json!({})).await.unwrap();
    set(&superuser, ANY, "value").await.unwrap();
    let app = database.connect("app").await;
    get(&app, ANY).await.unwrap();
    let shown = intcred_as(&database, "app", &["show", ANY]).await;
    assert!(shown.get("reads").is_none(), "{shown}");
    superuser.batch_execute("ALTER EXTENSION integration_credentials UPDATE").await.unwrap();
    get(&app, ANY).await.unwrap();
    let expected = reads(&superuser).await;
    assert!(matches!(&expected[..], [(key, role, 1, 1..=2)] if key == ANY && role == "app"), "{expected:?}");
    until_written(&superuser, &expected).await;
    // The grants of the earlier release do.
    let shown = intcred_as(&database, "app", &["show", ANY]).await;
    assert!(shown.get("reads").is_none(), "{shown}");
    assert!(!cluster.log().contains("maintenance of database"), "{}", cluster.log());
}

#[tokio::test]
async fn a_role_that_has_read_an_older_value_last_is_behind() {
    let fixture = Fixture::new().await;
    set(&fixture.admin, ANY, "value").await.unwrap();
    set(&fixture.admin, ANY, "value-2").await.unwrap();
    let reader = fixture.database.connect(READER).await;
    let behind = async || {
        let statement = "SELECT behind FROM integration_credentials.rotation_status($1)";
        fixture.admin.query_one(statement, &[&ANY]).await.unwrap().get::<_, Option<Value>>(0)
    };
    let which = "SELECT integration_credentials.get_integration_credentials($1, $2)";
    get(&reader, ANY).await.unwrap();
    assert_eq!(behind().await, None);
    reader.query_one(which, &[&ANY, &"previous"]).await.unwrap();
    let told = behind().await.unwrap();
    assert_eq!((&told[0]["role"], &told[0]["readRevision"]), (&json!(READER), &json!(1)));
    assert!(told[0]["readAt"].is_string() && told.as_array().unwrap().len() == 1, "{told}");
    assert_eq!(reads(&reader).await, [row(ANY, READER, 1, 2)]);
    // It says so from the table, too.
    until_written(&fixture.superuser, &[row(ANY, READER, 1, 2)]).await;
    assert_eq!(behind().await.unwrap(), told);
    // Both values are one read, of the current one.
    let valid = "SELECT value FROM integration_credentials.get_valid_integration_credentials($1)";
    assert_eq!(reader.query(valid, &[&ANY]).await.unwrap().len(), 2);
    assert_eq!((behind().await, reads(&reader).await), (None, vec![row(ANY, READER, 2, 3)]));
    reader.query_one(which, &[&ANY, &"current"]).await.unwrap();
    assert_eq!(reads(&reader).await, [row(ANY, READER, 2, 4)]);
    // A pending value has no revision to read.
    let stage = "SELECT integration_credentials.admin_set_integration_credentials($1, 'value-3', 'x', '{\"stage\": true}')";
    fixture.admin.query_one(stage, &[&ANY]).await.unwrap();
    reader.query_one(which, &[&ANY, &"pending"]).await.unwrap();
    assert_eq!(reads(&reader).await, [row(ANY, READER, 2, 4)]);
}

/// Makes the caller a superuser, if a superuser runs it, and notes who does.
const TRAP: &str = "
    CREATE TABLE app.seen (role text);
    CREATE FUNCTION app.note() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO app.seen VALUES (current_user);
        IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
            EXECUTE format('ALTER ROLE %I SUPERUSER', (SELECT tableowner FROM pg_tables WHERE tablename = 'seen'));
        END IF;
        RETURN true; END $$;
    CREATE FUNCTION app.fire() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM app.note(); RETURN NEW; END $$;";

#[tokio::test]
async fn code_of_another_role_on_the_table_never_runs_as_a_superuser() {
    let cluster = private();
    let fixture = Fixture::within(&cluster).await;
    let (superuser, owner) = (&fixture.superuser, &fixture.owner);
    set(&fixture.admin, ANY, "value").await.unwrap();
    fixture.as_owner(TRAP).await;
    let reader = fixture.database.connect(READER).await;
    let table = "integration_credentials.credential_reads";
    let power = format!("SELECT rolsuper FROM pg_roles WHERE rolname = '{owner}'");
    let grants = format!(
        "GRANT USAGE ON SCHEMA integration_credentials, app TO {owner}; GRANT TRIGGER ON {table} TO {owner}"
    );
    superuser.batch_execute(&grants).await.unwrap();

    // A trigger stops the writing, for whoever owns the table.
    let triggers = [
        ("BEFORE INSERT OR UPDATE", "ROW", ""),
        ("AFTER INSERT", "STATEMENT", ""),
        ("AFTER INSERT OR UPDATE", "ROW", "ALWAYS"),
    ];
    for (number, (event, level, always)) in triggers.into_iter().enumerate() {
        let make =
            format!("CREATE TRIGGER trap {event} ON {table} FOR EACH {level} EXECUTE FUNCTION app.fire()");
        fixture.as_owner(&make).await;
        if !always.is_empty() {
            superuser
                .batch_execute(&format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER trap"))
                .await
                .unwrap();
        }
        get(&reader, ANY).await.unwrap();
        logged(&cluster, "the table credential_reads has a trigger").await;
        cluster.clear_log();
        superuser.batch_execute(&format!("DROP TRIGGER trap ON {table}")).await.unwrap();
        let reads = i64::try_from(number).unwrap() + 1;
        until_written(superuser, &[row(ANY, READER, 1, reads)]).await;
    }
    let seen = "SELECT count(*) FROM app.seen WHERE role <> tableowner";
    let seen = seen.replace("tableowner", &format!("'{owner}'"));
    assert_eq!(superuser.query_one("SELECT count(*) FROM app.seen", &[]).await.unwrap().get::<_, i64>(0), 0);

    // Code that no such check finds runs as the owner of the table.
    superuser.batch_execute(&format!("ALTER TABLE {table} OWNER TO {owner}")).await.unwrap();
    let domain = format!(
        "CREATE DOMAIN app.number AS bigint CHECK (app.note()); ALTER TABLE {table} ALTER reads TYPE app.number"
    );
    fixture.as_owner(&domain).await;
    superuser.batch_execute("TRUNCATE app.seen").await.unwrap();
    get(&reader, ANY).await.unwrap();
    until(superuser, "SELECT FROM app.seen HAVING count(*) > 0").await;
    until_written(superuser, &[row(ANY, READER, 1, 4)]).await;
    assert_eq!(superuser.query_one(&seen, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert!(!superuser.query_one(&power, &[]).await.unwrap().get::<_, bool>(0));
}

#[tokio::test]
async fn reads_by_concurrent_sessions_are_each_counted_once() {
    let fixture = Fixture::new().await;
    set(&fixture.admin, ANY, "value").await.unwrap();
    let readers: Vec<_> = {
        let connect = (0..8).map(|_| fixture.database.connect(READER));
        futures_util::future::join_all(connect).await
    };
    let auditor = fixture.database.connect(AUDITOR).await;
    let work = readers.iter().map(async |reader| {
        for _ in 0..300 {
            get(reader, ANY).await.unwrap();
        }
    });
    // What is told grows, never by what is not read, while the worker writes.
    let watch = async {
        let mut last = 0;
        while last < 2400 {
            let now = reads(&auditor).await.first().map_or(0, |(.., reads)| *reads);
            assert!((last..=2400).contains(&now), "{last} {now}");
            last = now;
        }
    };
    tokio::join!(futures_util::future::join_all(work), watch);
    until_written(&fixture.superuser, &[row(ANY, READER, 1, 2400)]).await;
    assert_eq!(reads(&auditor).await, [row(ANY, READER, 1, 2400)]);
}

async fn intcred_as(database: &Database, role: &str, arguments: &[&str]) -> Value {
    let output = run(intcred().args(["--json", "--dsn", &database.dsn(role)]).args(arguments), b"").await;
    serde_json::from_str(&output.success()).unwrap()
}

#[tokio::test]
async fn the_command_line_shows_who_has_read_and_what_nobody_has() {
    let fixture = Fixture::new().await;
    let database = &fixture.database;
    set(&fixture.admin, ANY, "value").await.unwrap();
    set(&fixture.admin, "trustradius", "a-value-of-it").await.unwrap();
    let table = async |arguments: &[&str]| {
        run(intcred().args(["--dsn", &database.dsn(AUDITOR)]).args(arguments), b"").await.success()
    };
    assert_eq!(intcred_as(database, AUDITOR, &["audit", "reads"]).await, json!([]));
    assert!(!table(&["show", ANY]).await.contains("last read by"));
    get(&database.connect(READER).await, ANY).await.unwrap();

    let all = intcred_as(database, AUDITOR, &["audit", "reads"]).await;
    let read = &all[0];
    assert_eq!((&read["key"], &read["role"]), (&json!(ANY), &json!(READER)));
    assert_eq!((&read["revision"], &read["reads"]), (&json!(1), &json!(1)));
    assert!(read["lastReadAt"].as_str().unwrap().ends_with('Z'), "{read}");
    assert_eq!(all.as_array().unwrap().len(), 1);
    assert_eq!(intcred_as(database, READER, &["audit", "reads", ANY]).await, all);
    assert_eq!(intcred_as(database, ADMIN, &["audit", "reads", "trustradius"]).await, json!([]));
    assert_eq!(intcred_as(database, ADMIN, &["show", ANY]).await["reads"], all);
    let never = intcred_as(database, ADMIN, &["audit", "reads", "--never"]).await;
    assert_eq!(never.as_array().unwrap().iter().map(|it| &it["key"]).collect::<Vec<_>>(), ["trustradius"]);
    assert_eq!(intcred_as(database, ADMIN, &["audit", "reads", "--never", ANY]).await, json!([]));

    let shown = table(&["audit", "reads"]).await;
    let mut lines = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap(), ["KEY", "ROLE", "REVISION", "LAST", "READ", "READS"]);
    let line = lines.next().unwrap();
    assert_eq!((&line[..3], line[4]), (&[ANY, READER, "1"][..], "1"));
    assert!(table(&["show", ANY]).await.contains(&format!("last read by  {READER}, revision 1, ")));
    assert!(table(&["audit", "reads", "--never"]).await.contains("trustradius"));
    // The audit log is where it was.
    assert_eq!(intcred_as(database, AUDITOR, &["audit", "--limit", "1"]).await.as_array().unwrap().len(), 1);
    let output = run(intcred().args(["--dsn", &database.dsn(OUTSIDER), "audit", "reads"]), b"").await;
    assert_eq!(output.code, 3);
}
