//! Values in what the server logs, answers, shows and counts. Each case is run again with a function that nobody guards,
//! where the value must show, or the case shows nothing.

use crate::{
    helpers::calls::{ANY, register},
    helpers::fixture::{WAITING, until},
};
use serde_json::json;
use tests::{ADMIN, Canary, Cluster, Database, SUPERUSER, Session, Shutdown, Wire, wire::Statement};
use tokio_postgres::SimpleQueryMessage;

/// What one session does with a value, `{V}`, and one of the functions, `{F}`; a text with `$1` is given the value.
struct Case {
    name: &'static str,
    protocol: Protocol,
    texts: &'static [&'static str],
    /// The SQLSTATE of the last error.
    error: Option<&'static str>,
}

#[derive(Clone, Copy)]
enum Protocol {
    Simple,
    Extended,
}
use Protocol::{Extended, Simple};

const fn case(
    name: &'static str,
    protocol: Protocol,
    texts: &'static [&'static str],
    error: Option<&'static str>,
) -> Case {
    Case { name, protocol, texts, error }
}

const CASES: &[Case] = &[
    case(
        "FETCH",
        Simple,
        &["BEGIN", "DECLARE c CURSOR FOR {CASTS}('{V}'), ('w')) AS t(v)", "FETCH c"],
        Some("22P02"),
    ),
    case(
        "MOVE",
        Simple,
        &["BEGIN", "DECLARE c CURSOR FOR {CASTS}('{V}'), ('w')) AS t(v)", "MOVE c"],
        Some("22P02"),
    ),
    case(
        "FETCH, later",
        Simple,
        &["BEGIN", "DECLARE c CURSOR FOR {CASTS}('1'), ('{V}')) AS t(v)", "FETCH c", "SELECT 1", "FETCH c"],
        Some("22P02"),
    ),
    case(
        "FETCH of a document",
        Simple,
        &[
            "BEGIN",
            r#"DECLARE c CURSOR FOR SELECT {F}('any', v::json::text, 'me') FROM (VALUES ('{"a": {V}'), ('w')) AS t(v)"#,
            "FETCH c",
        ],
        Some("22P02"),
    ),
    case(
        "COMMIT of a cursor with hold",
        Simple,
        &["BEGIN", "DECLARE c CURSOR WITH HOLD FOR {CASTS}('{V}'), ('w')) AS t(v)", "COMMIT"],
        Some("22P02"),
    ),
    case(
        "cursor with hold of the extended protocol",
        Extended,
        &["DECLARE c CURSOR WITH HOLD FOR {CASTS}('{V}'), ('w')) AS t(v)"],
        Some("22P02"),
    ),
    case(
        "cursor with a parameter",
        Extended,
        &["BEGIN", "DECLARE c CURSOR FOR {CASTS}($1), ('w')) AS t(v)", "FETCH FORWARD ALL FROM c"],
        Some("22P02"),
    ),
    case("comment", Simple, &["-- SELECT {F}('any', '{V}', 'me')"], None),
    case("comment of the other kind", Simple, &["/* SELECT {F}('any', '{V}', 'me') */"], None),
    case("comment behind a semicolon", Simple, &["; -- SELECT {F}('any', '{V}', 'me')"], None),
    case("comment of the extended protocol", Extended, &["-- SELECT {F}('any', '{V}', 'me')"], None),
    case(
        "statement in a transaction that has failed",
        Simple,
        &["BEGIN", "SELECT 1/0", "SELECT {F}('any', '{V}', 'me')"],
        Some("25P02"),
    ),
    case("long name", Simple, &["SELECT {F}('any', \"{V}{V}\", 'me')"], Some("42703")),
    case(
        "backslash before any letter",
        Simple,
        &[r"DO E'BEGIN PERFORM {S}.adm\in_{set}_inte\gration_credentials(''any'', ''{V}'', ''me''); END'"],
        None,
    ),
    case(
        "comment in a literal, and between its lines",
        Simple,
        &[
            "DO E'--x\\nBEGIN PERFORM {S}.admin_'  -- comment\n '{set}_integration_credentials(''any'', ''{V}'', ''me''); END'",
        ],
        None,
    ),
    case(
        "comment in a literal, and between its lines, with escapes",
        Simple,
        &[
            "DO E'--x\\nBEGIN PERFORM {S}.admin_'  -- comment\n '{set}_integration_credentials(\\'any\\', \\'{V}\\', \\'me\\'); END'",
        ],
        None,
    ),
    case(
        "savepoint",
        Simple,
        &["BEGIN; SELECT 1; ROLLBACK TO SAVEPOINT \"{V}\"; SELECT {F}('any', '{V}', 'me')"],
        Some("3B001"),
    ),
    case("name in a notice", Simple, &["DROP TABLE IF EXISTS \"{V}\"; SELECT {F}('any', '{V}', 'me')"], None),
    case("name of a file", Simple, &["SELECT {F}('any', pg_read_file('{V}'), 'me')"], Some("58P01")),
    case(
        "planning what was not analyzed with constants",
        Simple,
        &["DO $do$ BEGIN
            EXECUTE 'SELECT {F}($1, $2, $3) /* {V} */' USING 'any'::text, 'another'::text, 'me'::text;
         END $do$"],
        None,
    ),
    case(
        "planning what the statistics have forgotten",
        Simple,
        &["DO $do$ BEGIN
            EXECUTE format('SELECT {F}(%L, %L, %L) WHERE app.forget_statistics()', 'any', '{V}', 'me');
         END $do$"],
        None,
    ),
];

/// A function that nobody guards, and one that empties the statistics while a statement is planned.
const SCRIPT: &str = "
    CREATE EXTENSION pg_stat_statements;
    CREATE SCHEMA app;
    GRANT USAGE ON SCHEMA app TO PUBLIC;
    CREATE FUNCTION app.admin_got_integration_credentials(text, text, text) RETURNS jsonb
        LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE FUNCTION app.forget_statistics() RETURNS bool IMMUTABLE SECURITY DEFINER LANGUAGE plpgsql
        AS 'BEGIN PERFORM pg_stat_statements_reset(); RETURN true; END';
    GRANT pg_read_server_files TO alice_admin;
    GRANT EXECUTE ON FUNCTION pg_read_file(text) TO alice_admin";

/// The names of whom nobody guards, and of ours.
const NOBODYS: [&str; 2] = ["app", "got"];
const OURS: [&str; 2] = ["integration_credentials", "set"];

struct Server {
    cluster: Cluster,
    database: Database,
    watching: Session,
}

impl Server {
    async fn start() -> Self {
        let cluster = Cluster::builder()
            // Whose hooks run within ours.
            .preload_before("pg_stat_statements")
            .setting("fsync", "off")
            .setting("log_min_messages", "notice")
            .setting("pg_stat_statements.track", "all")
            .setting("pg_stat_statements.track_planning", "on")
            .start();
        let database = cluster.database().await;
        let watching = database.superuser().await;
        watching
            .batch_execute(&format!("{SCRIPT}; ALTER ROLE {SUPERUSER} SET pg_stat_statements.track = none"))
            .await
            .unwrap();
        register(&database.connect(ADMIN).await, ANY, json!({})).await.unwrap();
        let watching = database.superuser().await;
        Self { cluster, database, watching }
    }

    /// Runs a case with a value, and returns where it shows.
    async fn run(&self, case: &Case, [schema, set]: [&str; 2]) -> Vec<String> {
        let canary = Canary::new();
        let fill = |text: &str| {
            text.replace("{CASTS}", "SELECT {F}('any', v::int::text, 'me') FROM (VALUES ")
                .replace("{F}", "{S}.admin_{set}_integration_credentials")
                .replace("{S}", schema)
                .replace("{set}", set)
                .replace("{V}", canary.as_str())
        };
        self.watching.batch_execute("SELECT pg_stat_statements_reset()").await.unwrap();
        self.cluster.clear_log();
        let mut wire = Wire::open(&self.database, ADMIN, &[]).await;
        let mut seen = Vec::new();
        let mut error = None;
        for text in case.texts {
            let text = fill(text);
            let answer = match case.protocol {
                Simple => wire.query(&text).await,
                Extended => {
                    let parameters: &[&str] = if text.contains("$1") { &[canary.as_str()] } else { &[] };
                    wire.run(Statement { sql: Some(&text), parameters, ..Statement::default() }).await
                }
            };
            assert!(!answer.is_lost, "{}: {}", case.name, answer.messages);
            error = answer.sqlstate.or(error);
            seen.push(format!("the client is told: {}", answer.messages));
            seen.push(format!("pg_stat_activity: {}", self.activity(wire.pid()).await));
        }
        assert_eq!(error.as_deref(), case.error, "{}: {seen:?}", case.name);
        let statistics = "SELECT coalesce(string_agg(query, E'\\n'), '') FROM pg_stat_statements";
        let row = self.watching.query_one(statistics, &[]).await.unwrap();
        seen.push(format!("pg_stat_statements: {}", row.get::<_, String>(0)));
        seen.push(format!("the log: {}", self.cluster.log()));
        seen.retain(|text| !canary.find(text.as_bytes()).is_empty());
        seen
    }

    async fn activity(&self, pid: i32) -> String {
        let activity = "SELECT query FROM pg_stat_activity WHERE pid = $1";
        self.watching.query_one(activity, &[&pid]).await.unwrap().get(0)
    }
}

#[tokio::test]
async fn a_value_is_not_shown_by_what_names_nobody_itself() {
    let server = Server::start().await;
    let mut wrong = Vec::new();
    for statements in ["none", "all"] {
        let setting = format!("ALTER ROLE {ADMIN} SET log_statement = '{statements}'");
        server.watching.batch_execute(&setting).await.unwrap();
        for case in CASES {
            let shown = server.run(case, OURS).await;
            if !shown.is_empty() {
                wrong.push(format!("{}, log_statement={statements}, shows: {shown:#?}", case.name));
            }
            if server.run(case, NOBODYS).await.is_empty() {
                wrong.push(format!("{} does not show even what nobody guards", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A quote within the value ends the literal, and the rest of the value is code.
#[tokio::test]
async fn a_value_with_a_quote_is_not_shown_in_pieces() {
    const F: &str = "integration_credentials.admin_set_integration_credentials";
    let server = Server::start().await;
    for value in ["ab'!Q-Z%z^u&R~", "ab'Q9 7z{@?}W#y", "ab'//--Q'/Z!'z", "ab'\\Q\\Z`q"] {
        for protocol in [Simple, Extended] {
            server.cluster.clear_log();
            let mut wire = Wire::open(&server.database, ADMIN, &[]).await;
            let text = format!("SELECT {F}('any', '{value}', 'me')");
            let answer = match protocol {
                Simple => wire.query(&text).await,
                Extended => wire.run(Statement { sql: Some(&text), ..Statement::default() }).await,
            };
            assert_eq!(answer.sqlstate.as_deref(), Some("42601"), "{value}: {}", answer.messages);
            let activity = server.activity(wire.pid()).await;
            let log = server.cluster.log();
            let logged = log.split_once("STATEMENT:  ").unwrap_or_else(|| panic!("{log}")).1;
            for shown in [activity.as_str(), logged] {
                assert!(shown.starts_with(&format!("SELECT {F}(")), "{shown}");
                let pieces = shown.find(|it: char| "!%^&~{}@?#/\\`QZRWzuyq79".contains(it));
                assert_eq!(pieces, None, "{value}: {shown}");
            }
        }
    }
}

/// Statistics scan the text that is shown: whatever is in it, that must be a statement.
#[tokio::test]
async fn statements_with_dollar_quotes_in_dollar_quotes_go_on() {
    let server = Server::start().await;
    let mut wire = Wire::open(&server.database, ADMIN, &[]).await;
    for tag in ["___", "_", "xxx", "x", "a", "ab_c"] {
        for inner in ["", "_", "__", "___", "x", "xx", "xxx", "xxxx", "y", "***"] {
            for text in [
                format!(
                    "SELECT length('a'), ${tag}$ admin_set_integration_credentials ${inner}$${tag}$, 'b'"
                ),
                format!(
                    "SELECT length('a'), ${tag}$ admin_set_integration_credentials ${inner}$ x ${inner}$ ${tag}$, 'b'"
                ),
            ] {
                if inner == tag {
                    continue;
                }
                // A text of a shape that they know is not scanned.
                server.watching.batch_execute("SELECT pg_stat_statements_reset()").await.unwrap();
                let answer = wire.query(&text).await;
                assert_eq!(answer.sqlstate, None, "{text}: {}", answer.messages);
            }
        }
    }
}

/// What a statement says of itself is what was sent: others replay it, and store it.
#[tokio::test]
async fn a_statement_with_escapes_that_names_nobody_is_left_as_it_is() {
    let server = Server::start().await;
    for text in [
        r"SELECT current_query(), U&'\00e4', 1234",
        r#"SELECT current_query(), 1 AS U&"\00e4", 'x'"#,
        "SELECT current_query(), U&'!00e4' UESCAPE '!', 1234",
        r"SELECT current_query(), E'\\x00\'\n\u00e4', 1234",
        r"SELECT current_query(), E'a_credentials\n\x41', U&'\0041dmin_set'",
    ] {
        let rows = server.watching.simple_query(text).await.unwrap();
        let row = rows.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        assert_eq!(row.unwrap().get(0), Some(text));
    }
}

/// Lines of a statement may look like those by which the report tells the statements apart.
#[tokio::test]
async fn the_report_of_a_deadlock_takes_no_line_of_a_statement_for_another_statement() {
    const F: &str = "integration_credentials.admin_set_integration_credentials";
    let mut server = Server::start().await;
    let script = format!(
        "CREATE TABLE one (x int); CREATE TABLE two (x int); GRANT ALL ON one, two TO {ADMIN};
         ALTER ROLE {ADMIN} SET deadlock_timeout = '1h'"
    );
    server.watching.batch_execute(&script).await.unwrap();
    let canary = Canary::new();
    let lines = [
        ["-- step 1: get it", "-- step 2: set it"],
        ["-- Process 1: get it", "-- Process 2: set it"],
        ["/*\nProcess 123456: get it */", "/*\nProcess 7: set it */"],
        ["/*\n1: get it */", "/*\n2: set it */"],
    ];
    for [first, second] in lines {
        let waiting = server.database.connect(ADMIN).await;
        waiting.batch_execute("BEGIN; LOCK one").await.unwrap();
        let reporting = server.database.superuser().await;
        reporting.batch_execute("SET deadlock_timeout = '10ms'; BEGIN; LOCK two").await.unwrap();
        // It waits while it is analyzed.
        let statement = format!(
            "WITH v AS (SELECT '{canary}' AS x)\n{first}\n, pad AS (SELECT '{}')\n{second}\nSELECT {F}('any', v.x, 'me') FROM v, two",
            "p".repeat(1100)
        );
        let deadlock = async {
            until(&server.watching, WAITING).await;
            let error = reporting.batch_execute("SELECT 1 FROM one").await.unwrap_err();
            assert_eq!(error.code().unwrap().code(), "40P01");
            canary.assert_absent(&error);
            reporting.batch_execute("ROLLBACK").await.unwrap();
        };
        let (ended, ()) = tokio::join!(waiting.batch_execute(&statement), deadlock);
        ended.unwrap();
    }
    server.cluster.stop(Shutdown::Fast);
    let log = server.cluster.log();
    assert_eq!(log.matches("ERROR:  deadlock detected").count(), lines.len());
    assert!(canary.find(log.as_bytes()).is_empty(), "{log}");
}
