//! The box of validators and sync handlers: nothing that a function has printed, opened or put off outlives it.

use crate::helpers::calls::{ANY, revision, set};
use crate::helpers::fixture::{Fixture, sqlstate};
use integration_credentials_core::error::ErrorCode;
use serde_json::Value;
use tests::installation::{Installation, PLPERL, PLPYTHON, PLTCL, Part};
use tests::{ADMIN, Canary, Cluster, SUPERUSER, Session, Shutdown, assert_error};
use tokio::time::{Duration, sleep};

/// A language of Debian's packages, with all the ways to print in it that there are.
struct Language {
    name: &'static str,
    part: Part,
    /// How often it prints.
    count: usize,
    prints: &'static str,
    /// Returns NULL.
    nothing: &'static str,
    /// Prints what is in the buffers.
    flushes: &'static str,
    raises: &'static str,
    sleeps: &'static str,
}

/// Without a newline at the end, and without asking for a flush, a text stays in the buffer.
const LANGUAGES: [Language; 3] = [
    Language {
        name: "plpython3u",
        part: PLPYTHON,
        count: 12,
        prints: "
import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None)
for descriptor, stream in ((1, 'stdout'), (2, 'stderr')):
    os.write(descriptor, value.encode())
    libc.fputs(value.encode(), ctypes.c_void_p.in_dll(libc, stream))
    print(value, end='', file=getattr(sys, stream))
    print(value, end='', file=getattr(sys, '__' + stream + '__'))
subprocess.run(['sh', '-c', 'echo $0; echo $0 >&2', value])
subprocess.Popen(['sh', '-c', 'sleep 1; echo $0; echo $0 >&2', value])
",
        nothing: "return",
        flushes: "
for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
    stream.flush()
libc.fflush(None)",
        raises: "plpy.error('no')",
        sleeps: "plpy.execute('SELECT pg_sleep(1000)')",
    },
    Language {
        name: "plperlu",
        part: PLPERL,
        count: 8,
        prints: "
my $value = $_[-1];
syswrite $_, $value for (*STDOUT, *STDERR);
system 'sh', '-c', 'echo $0; echo $0 >&2', $value;
system 'sh', '-c', '(sleep 1; echo $0; echo $0 >&2) &', $value;
print STDOUT $value; print STDERR $value;
",
        nothing: "return;",
        flushes: "my $was = select STDOUT; $| = 1; $| = 0; select $was;",
        raises: "elog(ERROR, 'no');",
        sleeps: "spi_exec_query('SELECT pg_sleep(1000)');",
    },
    Language {
        name: "pltclu",
        part: PLTCL,
        count: 6,
        prints: "
set value [lindex [info level 0] end]
exec sh -c {echo $0; echo $0 >&2} $value >@stdout 2>@stderr
exec sh -c {sleep 1; echo $0; echo $0 >&2} $value >@stdout 2>@stderr &
puts -nonewline stdout $value
puts -nonewline stderr $value
",
        nothing: "return_null",
        flushes: "flush stdout",
        raises: "elog ERROR no",
        sleeps: "spi_exec {SELECT pg_sleep(1000)}",
    },
];

impl Fixture {
    /// Makes a function of an untrusted language the owner's, and a validator or sync handler of [`ANY`].
    async fn untrusted(&self, kind: &str, language: &str, body: &str) {
        let (declaration, signature) = match kind {
            "validator" => ("app.check(value text) RETURNS text", "app.check(text)"),
            _ => ("app.sync(org_slug text, key text, value text) RETURNS void", "app.sync(text, text, text)"),
        };
        let create = format!(
            "CREATE OR REPLACE FUNCTION {declaration} LANGUAGE {language} AS $body${body}$body$;
             ALTER FUNCTION {signature} OWNER TO {}",
            self.owner
        );
        self.superuser.batch_execute(&create).await.unwrap();
        self.register(kind, &[&ANY, &signature]).await.unwrap();
    }
}

/// Where standard output and standard error of a backend lead.
fn outputs(pid: i32) -> [std::path::PathBuf; 2] {
    [1, 2].map(|number| std::fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap())
}

/// A server whose log has what goes to standard output, too, as most have.
fn collecting() -> Cluster {
    let builder = Cluster::builder().setting("logging_collector", "on").setting("fsync", "off");
    builder.start()
}

/// What the collector has written. It gets the last of it when the server stops.
fn collected(cluster: &mut Cluster) -> String {
    cluster.stop(Shutdown::Fast);
    let mut text = String::new();
    for file in std::fs::read_dir(cluster.data_dir().join("log")).unwrap() {
        text += &String::from_utf8_lossy(&std::fs::read(file.unwrap().path()).unwrap());
    }
    text
}

#[tokio::test]
async fn what_a_function_prints_is_in_no_log_however_it_ends_and_output_is_put_back() {
    let mut cluster = collecting();
    let installation = Installation::find();
    let (canary, mark) = (Canary::new(), Canary::new());
    let languages: Vec<_> = LANGUAGES.iter().filter(|language| installation.has(language.part)).collect();
    for language in &languages {
        let Language { name, prints, nothing, flushes, raises, sleeps, .. } = language;
        for kind in ["sync_handler", "validator"] {
            let fixture = Fixture::within(&cluster).await;
            fixture.superuser.batch_execute(&format!("CREATE EXTENSION {name}")).await.unwrap();
            let pid = fixture.admin.pid().await;
            let before = outputs(pid);
            fixture.untrusted(kind, name, &format!("{prints}\n{nothing}")).await;
            set(&fixture.admin, ANY, canary.as_str()).await.unwrap();
            fixture.untrusted(kind, name, &format!("{prints}\n{raises}")).await;
            let _ = set(&fixture.admin, ANY, canary.as_str()).await;
            fixture.untrusted(kind, name, &format!("{prints}\n{sleeps}")).await;
            // These languages make an error of their own out of it, and yet the call ends.
            let cancelled = fixture.set_and_cancel(canary.as_str()).await;
            assert_eq!(sqlstate(cancelled), "57014", "{name}, {kind}");
            assert_eq!(outputs(pid), before, "{name}, {kind}");
            // Others print as before, and so would what is left in a buffer.
            let loud = format!(
                "CREATE FUNCTION app.loud(value text) RETURNS void LANGUAGE {name}
                     AS $body${prints}{flushes}$body$;
                 GRANT USAGE ON SCHEMA app TO {ADMIN}"
            );
            fixture.superuser.batch_execute(&loud).await.unwrap();
            fixture.admin.execute("SELECT app.loud($1)", &[&mark.as_str()]).await.unwrap();
        }
    }
    let programs = Fixture::within(&cluster).await;
    let grant = format!("GRANT pg_execute_server_program TO {}", programs.owner);
    programs.superuser.batch_execute(&grant).await.unwrap();
    let copy = "EXECUTE format('COPY (SELECT %L) TO PROGRAM ''tee /dev/stderr''', value)";
    programs.handler("surface", copy).await;
    set(&programs.admin, ANY, canary.as_str()).await.unwrap();
    programs.handler("surface", &format!("{copy}; RAISE EXCEPTION 'no'")).await;
    set(&programs.admin, ANY, canary.as_str()).await.unwrap();
    let loud = copy.replace("EXECUTE format", "SELECT format").replace("value)", "$1)");
    let loud: String = programs
        .superuser
        .query_one(&loud.replace("$1", "$1::text"), &[&mark.as_str()])
        .await
        .unwrap()
        .get(0);
    programs.superuser.batch_execute(&loud).await.unwrap();
    drop(programs);

    // Longer than the programs that outlive their function.
    sleep(Duration::from_secs(2)).await;
    let log = collected(&mut cluster);
    assert!(canary.find(log.as_bytes()).is_empty(), "{log}");
    // What each language prints in two sessions, and what the program does.
    let printed: usize = languages.iter().map(|language| 2 * language.count).sum();
    assert_eq!(log.matches(mark.as_str()).count(), printed + 2, "{log}");
}

/// What is open in the transaction of a session: cursors by name, and large objects by whether descriptor 0 or 1 is one.
async fn open_in(session: &Session) -> (Vec<String>, [bool; 2]) {
    let rows =
        session.query("SELECT name FROM pg_cursors WHERE name <> '' ORDER BY name", &[]).await.unwrap();
    let mut descriptors = [false; 2];
    for (descriptor, is_open) in (0..).zip(&mut descriptors) {
        session.batch_execute("SAVEPOINT s").await.unwrap();
        let tell = format!("SELECT lo_tell({descriptor})");
        *is_open = session.query_one(&tell, &[]).await.is_ok();
        session.batch_execute("ROLLBACK TO s").await.unwrap();
    }
    (rows.iter().map(|row| row.get(0)).collect(), descriptors)
}

#[tokio::test]
async fn cursors_and_large_objects_that_a_handler_opened_are_closed_and_the_callers_are_not() {
    assert!(Installation::find().has(PLPYTHON));
    let fixture = Fixture::new().await;
    fixture.superuser.batch_execute("CREATE EXTENSION plpython3u").await.unwrap();
    let object = "SELECT lo_from_bytea(0, 'mine')";
    let object: u32 = fixture.superuser.query_one(object, &[]).await.unwrap().get(0);
    fixture
        .superuser
        .batch_execute(&format!("GRANT SELECT ON LARGE OBJECT {object} TO PUBLIC"))
        .await
        .unwrap();
    let own = format!(
        "BEGIN; DECLARE mine CURSOR FOR SELECT generate_series(1, 9); SELECT lo_open({object}, 262144)"
    );
    let opens = format!("DECLARE c refcursor; d refcursor := 'leftover'; BEGIN
        OPEN c FOR SELECT value; OPEN d FOR SELECT value; FETCH d INTO value;
        BEGIN EXECUTE format('DECLARE nested CURSOR FOR SELECT %L', value); EXCEPTION WHEN division_by_zero THEN END;
        PERFORM lo_open({object}, 262144)");
    let python = format!(
        "
GD['cursor'] = plpy.cursor('SELECT generate_series(1, 9)')
GD['cursor'].fetch(1)
plpy.execute('SELECT lo_open({object}, 262144)')"
    );
    for raises in ["", "; RAISE EXCEPTION 'no'"] {
        fixture.handler("surface", &format!("{opens}{raises}; END")).await;
        fixture.admin.batch_execute(&own).await.unwrap();
        set(&fixture.admin, ANY, "value").await.unwrap();
        assert_eq!(open_in(&fixture.admin).await, (vec!["mine".to_owned()], [true, false]));
        fixture.admin.batch_execute("FETCH mine; COMMIT").await.unwrap();
    }
    fixture.untrusted("sync_handler", "plpython3u", &python).await;
    fixture.admin.batch_execute(&own).await.unwrap();
    for _ in 0..2 {
        set(&fixture.admin, ANY, "value").await.unwrap();
        assert_eq!(open_in(&fixture.admin).await, (vec!["mine".to_owned()], [true, false]));
    }
    fixture.admin.batch_execute("FETCH mine; COMMIT").await.unwrap();
}

#[tokio::test]
async fn cursors_of_the_caller_are_hidden_from_a_function_and_afterwards_as_they_were() {
    let fixture = Fixture::new().await;
    let caller = &fixture.superuser;
    let script = "CREATE TABLE public.secret AS SELECT n FROM generate_series(1, 99) n;
        CREATE FUNCTION public.in_a_loop() RETURNS void LANGUAGE plpgsql AS $$ DECLARE r record; BEGIN
            FOR r IN SELECT n FROM public.secret WHERE n <= 3 ORDER BY n LOOP
                PERFORM integration_credentials.admin_set_integration_credentials('any', 'value', 'actor');
            END LOOP; END $$";
    caller.batch_execute(script).await.unwrap();
    let next = async |cursor: &str| -> i32 {
        caller.query_one(&format!("FETCH {cursor}"), &[]).await.unwrap().get(0)
    };
    // Used last in a subtransaction of the number that the box of the next transaction has.
    let held = "BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT n FROM public.secret ORDER BY n;
        SAVEPOINT s; MOVE held; COMMIT";
    caller.batch_execute(held).await.unwrap();
    let mut reads = 2;
    for (body, refusal) in [
        (
            "DECLARE c refcursor := 'mine'; n int; BEGIN FETCH c INTO n; RAISE EXCEPTION 'saw %', n; END",
            "cannot be run",
        ),
        (
            "DECLARE c refcursor := 'held'; n int; BEGIN FETCH c INTO n; RAISE EXCEPTION 'saw %', n; END",
            "cannot be run",
        ),
        (
            "DECLARE n int; BEGIN EXECUTE 'FETCH mine' INTO n; RAISE EXCEPTION 'saw %', n; END",
            "cannot be run",
        ),
        ("EXECUTE 'MOVE mine'", "cannot be run"),
        ("DECLARE c refcursor := 'mine'; BEGIN MOVE c; END", "cannot be run"),
        ("CLOSE mine", "security-restricted"),
        ("DECLARE c refcursor := 'held'; BEGIN CLOSE c; END", "cannot drop active portal"),
        ("CLOSE ALL", "security-restricted"),
        ("DECLARE own CURSOR FOR SELECT 1; n int; BEGIN OPEN own; FETCH own INTO n; CLOSE own; END", ""),
    ] {
        // A cursor of PL/pgSQL's own is declared, and one of SQL's executed.
        let body = if body.starts_with("CLOSE") { format!("EXECUTE '{body}'") } else { body.to_owned() };
        for kind in ["sync_handler", "validator"] {
            if kind == "validator" {
                fixture.register("sync_handler", &[&ANY, &None::<&str>]).await.unwrap();
                fixture.validator(&format!("{body}; RETURN NULL")).await;
            } else {
                fixture.register("validator", &[&ANY, &None::<&str>]).await.unwrap();
                fixture.handler("surface", &body).await;
            }
            caller.batch_execute("BEGIN; DECLARE mine CURSOR FOR SELECT n FROM public.secret ORDER BY n; MOVE mine; SAVEPOINT s").await.unwrap();
            let message = match set(caller, ANY, "value").await {
                Ok(result) => result["error"]["message"].as_str().unwrap_or_default().to_owned(),
                Err(error) => error.as_db_error().unwrap().message().to_owned(),
            };
            let is_as_expected =
                if refusal.is_empty() { message.is_empty() } else { message.contains(refusal) };
            assert!(is_as_expected, "{kind}, {body}: {message:?}");
            // An error of the call has the caller's transaction fail, as any does.
            if kind == "validator" && !refusal.is_empty() {
                caller.batch_execute("ROLLBACK TO s").await.unwrap();
            }
            assert_eq!(next("mine").await, 2, "{kind}, {body}");
            assert_eq!(next("held").await, reads, "{kind}, {body}");
            reads += 1;
            caller.batch_execute("COMMIT").await.unwrap();
        }
    }
    // In a transaction of its own, with a box that is rolled back.
    set(caller, ANY, "value").await.unwrap();
    assert_eq!(next("held").await, reads);
    let before = revision(caller, ANY).await;
    caller.batch_execute("SELECT public.in_a_loop()").await.unwrap();
    assert_eq!(revision(caller, ANY).await, before + 3);
}

#[tokio::test]
async fn what_cannot_be_taken_back_makes_the_handler_fail() {
    let fixture = Fixture::new().await;
    let later = "CREATE TABLE app.later (key text);
        CREATE FUNCTION app.later() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER later AFTER INSERT ON app.later DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION app.later()";
    fixture.as_owner(later).await;
    for body in [
        "SET CONSTRAINTS ALL DEFERRED",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "EXECUTE 'SET CONSTRAINTS app.later DEFERRED'",
        "INSERT INTO app.later VALUES (key)",
        "LISTEN app",
        "UNLISTEN *",
        "PREPARE p AS SELECT 1",
        "DEALLOCATE ALL",
        "DISCARD TEMP",
        "EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'",
        "CREATE TEMP TABLE t (c int) ON COMMIT DROP",
        "PERFORM pg_export_snapshot()",
        "SET ROLE NONE",
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "BEGIN CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; EXCEPTION WHEN division_by_zero THEN END",
        "SET search_path = pg_temp; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE COLLATION pg_temp.c FROM pg_catalog.\"C\"",
        "CREATE TEXT SEARCH CONFIGURATION pg_temp.english (COPY = pg_catalog.english)",
    ] {
        fixture.handler("surface", body).await;
        let result: Value = set(&fixture.admin, ANY, "value").await.unwrap();
        assert_eq!(result["error"]["code"], "tool_setup_failed", "{body}: {result}");
    }
    // The session is sound, and the caller may do what its function may not.
    fixture.admin.batch_execute("BEGIN; SET CONSTRAINTS ALL DEFERRED; COMMIT").await.unwrap();
    fixture.as_owner("CREATE TABLE app.written (key text)").await;
    fixture.handler("surface", "INSERT INTO app.written VALUES (key)").await;
    let temporary = "BEGIN; CREATE TEMP TABLE mine (); CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'";
    fixture.admin.batch_execute(temporary).await.unwrap();
    let result = set(&fixture.admin, ANY, "value").await.unwrap();
    assert!(result["error"].is_null(), "{result}");
    fixture.admin.batch_execute("COMMIT").await.unwrap();
    fixture.validator("SET CONSTRAINTS ALL DEFERRED; RETURN NULL").await;
    assert_error(set(&fixture.admin, ANY, "value").await, ErrorCode::InvalidCredentials);
    let owner = fixture.database.connect(SUPERUSER).await;
    owner.batch_execute("BEGIN; SET CONSTRAINTS ALL IMMEDIATE; COMMIT").await.unwrap();
}

#[tokio::test]
async fn a_lock_that_a_handler_does_not_wait_for_is_its_failure_and_no_cancel() {
    let fixture = Fixture::new().await;
    fixture.as_owner("CREATE TABLE app.busy ()").await;
    let impatient = "SET LOCAL lock_timeout = '50ms';
        BEGIN LOCK TABLE app.busy; EXCEPTION WHEN lock_not_available THEN RAISE EXCEPTION 'busy'; END";
    fixture.handler("surface", impatient).await;
    fixture.superuser.batch_execute("BEGIN; LOCK TABLE app.busy").await.unwrap();
    let result = set(&fixture.admin, ANY, "value").await.unwrap();
    assert_eq!(result["error"]["message"], "busy");
    // One that is caught and made another error is still a cancel.
    let stubborn = "BEGIN LOCK TABLE app.busy; EXCEPTION WHEN query_canceled THEN RAISE EXCEPTION 'no'; END";
    fixture.superuser.batch_execute("COMMIT").await.unwrap();
    fixture.handler("surface", stubborn).await;
    fixture.superuser.batch_execute("BEGIN; LOCK TABLE app.busy").await.unwrap();
    fixture.admin.batch_execute("SET statement_timeout = '200ms'").await.unwrap();
    assert_eq!(sqlstate(set(&fixture.admin, ANY, "value").await), "57014");
    fixture.superuser.batch_execute("COMMIT").await.unwrap();
    fixture.admin.batch_execute("RESET statement_timeout").await.unwrap();
    set(&fixture.admin, ANY, "value").await.unwrap();
}
