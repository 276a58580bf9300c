//! What is left of a statement that had a secret in it: its shape, and nothing that was written into it. (`leaks` looks for the secret itself.)

use crate::{
    helpers::calls::*,
    helpers::fixture::{WAITING, until},
};
use integration_credentials_core::error::ErrorCode;
use serde_json::json;
use tests::{ADMIN, Canary, Cluster, Database, READER, Session, Shutdown, assert_error};

const F: &str = "integration_credentials.admin_set_integration_credentials";
const NOTICE: &str = "the value is a literal in the text of the statement, where other roles may see it";

async fn admin_of(database: &Database) -> Session {
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    admin
}

#[tokio::test]
async fn the_log_keeps_the_shape_of_the_statement() {
    let mut cluster =
        Cluster::builder().setting("log_statement", "all").setting("log_error_verbosity", "verbose").start();
    let database = cluster.database().await;
    let admin = admin_of(&database).await;
    let secret = Canary::new();
    let value = secret.as_str();
    admin.batch_execute(&format!("SELECT {F}('any', '{value}', 'literal'), 'the rest'")).await.unwrap();
    admin.batch_execute(&format!("SELECT {F}('any', '{value}', 'failing'), 1/0")).await.unwrap_err();
    admin.batch_execute(&format!("SELECT {F}('any', \"{value}\", 'misquoted')")).await.unwrap_err();
    admin
        .batch_execute(&format!(
            "PREPARE p AS SELECT {F}($1, $2, $3); EXECUTE p('any', '{value}', 'executed'); SELECT 'still here'"
        ))
        .await
        .unwrap();
    admin.batch_execute(&format!("EXECUTE p('any', '{value}', 'again')")).await.unwrap();
    set(&admin, ANY, value).await.unwrap();
    cluster.stop(Shutdown::Fast);
    let log = cluster.log();
    for line in [
        format!("statement: SELECT {F}('<redacted>', '<redacted>', '<redacted>'), '<redacted>'"),
        "ERROR:  22012: ".to_owned(),
        "ERROR:  42703: ".to_owned(),
        format!(
            "PREPARE <redacted> AS SELECT {F}($1, $2, $3); EXECUTE <redacted>('<redacted>', '<redacted>', '<redacted>'); SELECT '<redacted>'"
        ),
        "statement: EXECUTE <redacted>('<redacted>', '<redacted>', '<redacted>')".to_owned(),
        "$1 = '<redacted>', $2 = '<redacted>', $3 = '<redacted>'".to_owned(),
    ] {
        assert!(log.contains(&line), "{line} is not in:\n{log}");
    }
    assert_eq!(secret.search(&cluster.data_dir()), []);
}

#[tokio::test]
async fn the_client_is_told_what_was_wrong_without_the_value() {
    let database = Cluster::shared().database().await;
    let admin = admin_of(&database).await;
    let secret = Canary::new();
    let value = secret.as_str();
    for (call, words, sqlstate) in [
        (format!("'any', \"{value}\", 'me'"), "does not exist", "42703"),
        (format!("'any', '{value}'::json::text, 'me'"), "invalid input syntax for type", "22P02"),
        (format!("'any', '{value}'"), "does not exist", "42883"),
    ] {
        let error = admin.batch_execute(&format!("SELECT {F}({call})")).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert!(error.message().contains(words), "{error:?}");
        assert_eq!(error.code().code(), sqlstate);
        assert!(error.position().is_some(), "{error:?}");
        assert_eq!((error.detail(), error.hint(), error.where_()), (None, None, None), "{error:?}");
        secret.assert_absent(&format!("{error:?}"));
    }
    // What the extension itself says is whole.
    secret.assert_absent(&assert_error(set(&admin, "nowhere", value).await, ErrorCode::IntegrationNotFound));
}

/// The text of another statement, or of a grant, is nobody's secret.
#[tokio::test]
async fn what_names_no_call_stays_in_the_log() {
    let mut cluster = Cluster::builder().setting("log_statement", "all").start();
    let database = cluster.database().await;
    let superuser = database.superuser().await;
    let kept = [
        format!("GRANT EXECUTE ON FUNCTION {F}(text, text, text) TO {ADMIN}"),
        format!("COMMENT ON FUNCTION {F}(text, text, text) IS NULL"),
        format!("ALTER FUNCTION {F}(text, text, text) RESET work_mem"),
        "SELECT 'nothing to hide', 42".to_owned(),
        "PREPARE q AS SELECT $1::int; EXECUTE q('42'); DEALLOCATE q".to_owned(),
        format!("SELECT {F}_sealed('any', NULL, 'kept') WHERE false"),
    ];
    for statement in &kept {
        superuser.batch_execute(statement).await.unwrap();
    }
    drop(superuser);
    cluster.stop(Shutdown::Fast);
    let log = cluster.log();
    for statement in kept {
        let line = format!("statement: {statement}");
        assert!(log.contains(&line), "{line} is not in:\n{log}");
    }
}

#[tokio::test]
async fn the_views_show_the_statement_without_its_value() {
    let database = Cluster::shared().database().await;
    let admin = admin_of(&database).await;
    let watching = database.superuser().await;
    let secret = Canary::new();
    let value = secret.as_str();
    let activity = async |pid: i32| -> String {
        let row =
            watching.query_one("SELECT query FROM pg_stat_activity WHERE pid = $1", &[&pid]).await.unwrap();
        row.get(0)
    };
    let pid = admin.pid().await;

    let simple = format!("SELECT {F}('any', '{value}', 'me')");
    admin.batch_execute(&simple).await.unwrap();
    // It is overwritten where it stands.
    let hidden = |shown: &str| {
        secret.assert_absent(&shown);
        assert!(shown.contains(F) && !shown.contains("'any'") && !shown.contains("'me'"), "{shown}");
    };
    let shown = activity(pid).await;
    hidden(&shown);
    assert_eq!(shown.len(), simple.len(), "{shown}");
    admin.batch_execute(&simple.replace("'me'", "'me'::nothing")).await.unwrap_err();
    hidden(&activity(pid).await);

    let prepared = admin.prepare(&simple).await.unwrap();
    admin
        .batch_execute(&format!("PREPARE p AS {simple}; BEGIN; DECLARE c CURSOR FOR {simple}"))
        .await
        .unwrap();
    for _ in 0..3 {
        admin.query(&prepared, &[]).await.unwrap();
        hidden(&activity(pid).await);
    }
    for view in ["pg_prepared_statements", "pg_cursors"] {
        let rows = admin
            .query(&format!("SELECT statement FROM {view} WHERE statement !~ '^SELECT statement'"), &[])
            .await
            .unwrap();
        assert!(!rows.is_empty(), "{view}");
        for row in rows {
            let statement: String = row.get(0);
            hidden(&statement);
        }
    }
    admin.batch_execute("FETCH c; COMMIT; EXECUTE p").await.unwrap();
    assert_eq!(get(&database.connect(READER).await, ANY).await.unwrap(), value);
}

#[tokio::test]
async fn what_is_stored_is_the_value_and_never_what_hides_it() {
    let database = Cluster::shared().database().await;
    let admin = admin_of(&database).await;
    let reader = database.connect(READER).await;
    for (number, call) in [
        "SELECT {F}('any', '{V}', 'me')",
        "SELECT 1; SELECT {F}('any', '{V}', 'me'); SELECT 2",
        "DO $$ BEGIN PERFORM {F}('any', '{V}', 'me'); END $$",
        "DO $$ DECLARE v text := '{V}'; BEGIN PERFORM {F}('any', v, 'me'); END $$",
        "DO $$ BEGIN EXECUTE format('SELECT {F}(%L, %L, %L)', 'any', '{V}', 'me'); END $$",
        "WITH v AS (SELECT '{V}' AS v) SELECT {F}('any', v.v, 'me') FROM v",
        "PREPARE q AS SELECT {F}($1, $2, $3); EXECUTE q('any', '{V}', 'me'); DEALLOCATE q",
        "COPY (SELECT {F}('any', '{V}', 'me')) TO STDOUT",
        "EXPLAIN (ANALYZE, VERBOSE) SELECT {F}('any', '{V}', 'me')",
        "CREATE TEMP TABLE t AS SELECT {F}('any', '{V}', 'me')",
    ]
    .into_iter()
    .enumerate()
    {
        let value = format!("the value number {number}, as it was sent");
        let call = call.replace("{F}", F).replace("{V}", &value);
        if call.starts_with("COPY") {
            drop(admin.copy_out(&call).await.unwrap());
            // What is asked next is answered next.
            admin.batch_execute("").await.unwrap();
        } else {
            admin.simple_query(&call).await.unwrap();
        }
        assert_eq!(get(&reader, ANY).await.unwrap(), value, "{call}");
    }
}

#[tokio::test]
async fn a_literal_earns_a_notice_or_is_refused() {
    let database = Cluster::shared().database().await;
    let mut admin = admin_of(&database).await;
    let literal = format!("SELECT {F}('any', 'a value', 'me')");
    let notices = |admin: &mut Session| -> Vec<String> {
        admin.notices().iter().map(|notice| notice.message().to_owned()).collect()
    };
    admin.batch_execute(&literal).await.unwrap();
    assert_eq!(notices(&mut admin), [NOTICE]);
    admin.batch_execute(&format!("{literal}; {literal}")).await.unwrap();
    assert_eq!(notices(&mut admin), [NOTICE]);
    set(&admin, ANY, "a parameter").await.unwrap();
    assert_eq!(notices(&mut admin), [""; 0]);

    let role = format!(
        "ALTER ROLE {ADMIN} IN DATABASE {} SET integration_credentials.refuse_literals = on",
        database.name()
    );
    database.superuser().await.batch_execute(&role).await.unwrap();
    let admin = database.connect(ADMIN).await;
    assert_error(admin.query_one(&literal, &[]).await, ErrorCode::InvalidRequest);
    set(&admin, ANY, "a parameter again").await.unwrap();
    assert_eq!(get(&database.connect(READER).await, ANY).await.unwrap(), "a parameter again");
    let error = admin.batch_execute("SET integration_credentials.refuse_literals = off").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42501");
}

/// A cursor that outlives its transaction is read to its end by COMMIT, which names nothing.
#[tokio::test]
async fn an_error_of_a_cursor_has_no_value_whoever_reads_it() {
    let database = Cluster::shared().database().await;
    let admin = admin_of(&database).await;
    let secret = Canary::new();
    let select =
        format!("SELECT {F}('any', (SELECT max(v) FROM (VALUES ('{secret}')) AS t(v))::int::text, 'me')");
    for (declare, read) in [
        (format!("DECLARE c CURSOR WITH HOLD FOR {select}"), "COMMIT"),
        (format!("DECLARE c CURSOR FOR {select}"), "FETCH c"),
        (format!("DECLARE c CURSOR FOR {select}"), "MOVE ALL FROM c"),
    ] {
        admin.batch_execute(&format!("BEGIN; {declare}")).await.unwrap();
        let error = admin.batch_execute(read).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "22P02", "{read}");
        secret.assert_absent(&error);
        admin.batch_execute("ROLLBACK").await.unwrap();
    }
    assert!(secret.find(Cluster::shared().log().as_bytes()).is_empty());
}

/// Where Postgres cuts the text that it keeps for other sessions.
const CUT: usize = 1024;

/// Who reports a deadlock quotes what the others run, as far as Postgres keeps it: in half of these, without the name of
/// the function.
#[tokio::test]
async fn the_report_of_a_deadlock_has_no_value_of_the_other_session() {
    let mut cluster = Cluster::private();
    let database = cluster.database().await;
    drop(admin_of(&database).await);
    let superuser = database.superuser().await;
    // Who waits for longer finds nothing out: the report is the other one's.
    let patient = format!("ALTER ROLE {ADMIN} SET deadlock_timeout = '1h'");
    superuser.batch_execute(&patient).await.unwrap();
    let secret = Canary::new();
    let statements = [0, CUT / 2, CUT, 3 * CUT].map(|length| {
        let (pad, wait) = ("é".repeat(length / 2), "pg_advisory_xact_lock(2)");
        [
            format!(
                "WITH v AS (SELECT '{secret}'::text AS v), w AS (SELECT {wait}, '{pad}')
                 SELECT {F}('any', v.v, 'me') FROM v, w"
            ),
            format!("SELECT {F}('any', '{secret}', (SELECT 'me' FROM {wait})) /*{pad}*/"),
            format!(
                "DO $$ DECLARE v text := '{secret}'; BEGIN
                    PERFORM {wait}, '{pad}'; PERFORM {F}('any', v, 'me');
                 END $$"
            ),
            format!("SELECT '{secret}', '{pad}', {wait}; SELECT {F}('any', 'x', 'me')"),
            format!("EXECUTE p('{secret}', '{pad}')"),
            format!("DO $$ BEGIN EXECUTE 'EXECUTE p(''{secret}'', ''{pad}'')'; END $$"),
        ]
    });
    for statement in statements.as_flattened() {
        let waiting = database.connect(ADMIN).await;
        let prepare = format!(
            "PREPARE p AS SELECT {F}('any', $1, (SELECT 'me' FROM pg_advisory_xact_lock(2) WHERE $2 <> 'x'))"
        );
        waiting.batch_execute(&prepare).await.unwrap();
        let reporting = database.superuser().await;
        reporting
            .batch_execute("SET deadlock_timeout = '10ms'; BEGIN; SELECT pg_advisory_xact_lock(2)")
            .await
            .unwrap();
        waiting.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(1)").await.unwrap();
        let deadlock = async {
            until(&superuser, WAITING).await;
            let error = reporting.batch_execute("SELECT pg_advisory_xact_lock(1)").await.unwrap_err();
            assert_eq!(error.code().unwrap().code(), "40P01");
            secret.assert_absent(&error);
            reporting.batch_execute("ROLLBACK").await.unwrap();
        };
        let (ended, ()) = tokio::join!(waiting.batch_execute(statement), deadlock);
        ended.unwrap();
        waiting.batch_execute("COMMIT").await.unwrap();
    }
    drop(superuser);
    cluster.stop(Shutdown::Fast);
    let log = cluster.log();
    assert_eq!(log.matches("ERROR:  deadlock detected").count(), statements.as_flattened().len());
    assert!(secret.find(log.as_bytes()).is_empty(), "{log}");
}
