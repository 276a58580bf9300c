//! Bytes that are not the text they say they are: Postgres checks what a client sends, and not what dblink brings.

use crate::helpers::calls::{ANY, count, get, register, set};
use crate::helpers::fixture::{Fixture, sqlstate};
use integration_credentials_core::error::ErrorCode;
use serde_json::json;
use tests::{
    ADMIN, Cluster, READER, Session, assert_error,
    installation::{Installation, contrib},
    run,
};

const SHIPPED: &str = "'integration_credentials.sync_aggregator_credentials(text, text, text)'";

/// With a function `public.bad()`, a text of the byte f0 between two letters, for who may read the database over dblink.
async fn with_bad_text(cluster: &Cluster) -> Fixture {
    assert!(Installation::find().has(contrib("dblink")));
    let fixture = Fixture::within(cluster).await;
    let sql_ascii = format!("{}_ascii", fixture.database.name());
    let create = format!("CREATE DATABASE {sql_ascii} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0");
    fixture.superuser.batch_execute(&create).await.unwrap();
    let dsn = cluster.named_database(&sql_ascii).dsn(tests::SUPERUSER).replace('\'', "''");
    let bad = format!(
        "CREATE EXTENSION dblink;
         CREATE FUNCTION public.bad() RETURNS text LANGUAGE plpgsql SECURITY DEFINER
             SET search_path = public AS $$
         DECLARE bad text;
         BEGIN
             PERFORM dblink_connect('raw', '{dsn}');
             PERFORM dblink_exec('raw', 'SET client_encoding = SQL_ASCII');
             bad := (SELECT t FROM dblink('raw', 'SELECT ''a'' || chr(240) || ''z''') AS t (t text));
             PERFORM dblink_disconnect('raw');
             RETURN bad;
         END $$"
    );
    fixture.superuser.batch_execute(&bad).await.unwrap();
    let bytes = "SELECT encode(textsend(public.bad()), 'hex')";
    assert_eq!(fixture.superuser.query_one(bytes, &[]).await.unwrap().get::<_, &str>(0), "61f07a");
    fixture
}

async fn call(session: &Session, call: &str) -> Result<u64, tokio_postgres::Error> {
    session.execute(&format!("SELECT integration_credentials.{call}"), &[]).await
}

/// SQLSTATE and message. The DETAIL of a statement whose value is an expression is redacted.
fn refusal<T: std::fmt::Debug>(result: Result<T, tokio_postgres::Error>) -> (String, String) {
    let error = result.unwrap_err();
    let error = error.as_db_error().expect("an answer of the server");
    (error.code().code().to_owned(), error.message().to_owned())
}

fn refused_argument(index: usize) -> String {
    format!("argument {} of the call is not valid UTF-8", index + 1)
}

#[tokio::test]
async fn an_argument_that_is_not_utf8_is_refused_wherever_a_text_is_taken() {
    let fixture = with_bad_text(Cluster::shared()).await;
    set(&fixture.admin, ANY, "value").await.unwrap();
    let before = fixture.state().await;
    let superuser = &fixture.superuser;
    let mut refused = 0;
    for (function, arguments) in [
        ("admin_set_integration_credentials", &["'any'", "'value'", "'actor'"][..]),
        ("admin_set_integration_credentials_sealed", &["'any'", "!''", "'actor'"]),
        ("admin_remove_integration_credentials", &["'any'", "'actor'"]),
        ("admin_register_integration", &["'new'", "'New'", "'actor'", "!'{}'", "'docs'", "'example'"]),
        ("admin_unregister_integration", &["'slack'", "'actor'"]),
        ("admin_set_integration_enabled", &["'any'", "!false", "'actor'"]),
        ("record_tool_failure", &["'admin_set_integration_credentials'", "'invalid_request'", "'{}'", "!1"]),
        ("get_integration_credentials", &["'any'"]),
        ("get_integration_credentials_with_revision", &["'any'"]),
        ("get_aggregator_credentials", &["'any'"]),
        ("register_validator", &["'any'", "'app.check(text)'"]),
        ("register_sync_handler", &["'any'", SHIPPED, "'surface'"]),
        ("sync_aggregator_credentials", &["'acme'", "'any'", "'value'"]),
    ] {
        for bad in (0..arguments.len()).filter(|index| !arguments[*index].starts_with('!')) {
            let given = arguments.iter().enumerate().map(|(index, argument)| {
                if index == bad { "public.bad()" } else { argument.trim_start_matches('!') }
            });
            let given: Vec<_> = given.collect();
            let error = call(superuser, &format!("{function}({})", given.join(", "))).await;
            assert_eq!(
                refusal(error),
                (ErrorCode::InvalidRequest.sqlstate().to_owned(), refused_argument(bad)),
                "{function}"
            );
            refused += 1;
        }
    }
    // A document is text, too.
    let rules = r#"(format('{"prefix": "%s"}', public.bad()))::jsonb"#;
    let register =
        call(superuser, &format!("admin_register_integration('new', 'New', 'actor', {rules})")).await;
    assert_eq!(refusal(register), (ErrorCode::InvalidRequest.sqlstate().to_owned(), refused_argument(3)));
    assert_eq!((refused, fixture.state().await), (30, before));
    assert_eq!(get(superuser, ANY).await.unwrap(), "value");
}

#[tokio::test]
async fn what_is_in_the_tables_is_checked_when_it_is_read() {
    let fixture = with_bad_text(Cluster::shared()).await;
    let (admin, superuser) = (&fixture.admin, &fixture.superuser);
    for key in ["good", "spoiled"] {
        register(admin, key, json!({})).await.unwrap();
        set(admin, key, "value").await.unwrap();
    }
    let all = "SELECT key, value, error FROM integration_credentials.get_all_integration_credentials()";
    let spoil = "INSERT INTO integration_credentials.integration_catalog (integration_key, display_name)
                     VALUES (public.bad(), 'Bad');
                 UPDATE integration_credentials.configured_integrations SET integration_key = public.bad()
                     WHERE integration_key = 'spoiled'";
    superuser.batch_execute(spoil).await.unwrap();
    let reader = fixture.database.connect(READER).await;
    let rows = reader.query(all, &[]).await.unwrap();
    let rows: Vec<(&str, Option<&str>, Option<&str>)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!(
        rows,
        [
            ("a\u{fffd}z", None, Some(ErrorCode::EncryptionUnavailable.as_str())),
            ("good", Some("value"), None),
        ]
    );

    // In every text of an entry that a call reads, and in the org of a row that it announces.
    let entry = "UPDATE integration_credentials.integration_catalog SET";
    for column in ["validator", "validator_owner", "sync_handler", "sync_handler_owner"] {
        let others = match column {
            "validator_owner" => ", validator = 'app.check(text)'",
            "sync_handler" => ", sync_mode = 'surface'",
            "sync_handler_owner" => ", sync_mode = 'surface', sync_handler = 'app.sync(text, text, text)'",
            _ => "",
        };
        let spoil = format!("{entry} {column} = public.bad(){others} WHERE integration_key = 'good'");
        superuser.batch_execute(&spoil).await.unwrap();
        assert_eq!(sqlstate(set(admin, "good", "next").await), "22021", "{column}");
        let mend = format!(
            "{entry} validator = NULL, validator_owner = NULL, sync_handler = NULL, sync_handler_owner = NULL,
             sync_mode = NULL WHERE integration_key = 'good'"
        );
        superuser.batch_execute(&mend).await.unwrap();
    }
    let rules = format!(
        r#"{entry} rules = format('{{"prefix": "%s"}}', public.bad())::jsonb WHERE integration_key = 'good'"#
    );
    superuser.batch_execute(&rules).await.unwrap();
    assert_eq!(sqlstate(set(admin, "good", "next").await), "XX000");
    superuser.batch_execute(&format!("{entry} rules = '{{}}' WHERE integration_key = 'good'")).await.unwrap();
    let org = "UPDATE integration_credentials.configured_integrations SET org_slug = public.bad()
               WHERE integration_key = 'good'";
    superuser.batch_execute(org).await.unwrap();
    assert_eq!(sqlstate(crate::helpers::calls::enable(admin, "good", false).await), "22021");

    superuser
        .batch_execute("SELECT set_config('integration_credentials.org_slug', public.bad(), false) IS NULL")
        .await
        .unwrap();
    let error = assert_error(call(superuser, "current_org()").await, ErrorCode::InvalidRequest);
    assert_eq!(error.message(), "the org of this session is not valid UTF-8");
}

#[tokio::test]
async fn what_a_validator_or_handler_says_is_shown_as_far_as_it_is_text() {
    let fixture = with_bad_text(Cluster::shared()).await;
    for body in ["RETURN 'no ' || public.bad() || value", "RAISE EXCEPTION 'no %', public.bad() || value"] {
        fixture.validator(body).await;
        let error = assert_error(set(&fixture.admin, ANY, "größe-1").await, ErrorCode::InvalidCredentials);
        assert_eq!(error.message(), "no a\u{fffd}z<redacted>");
    }
    fixture.register("validator", &[&ANY, &None::<&str>]).await.unwrap();
    fixture.handler("surface", "RAISE EXCEPTION 'no %', public.bad() || value").await;
    let result = set(&fixture.admin, ANY, "größe-1").await.unwrap();
    assert_eq!(result["error"]["message"], "no a\u{fffd}z<redacted>");
}

#[tokio::test]
async fn a_role_whose_name_is_not_utf8_is_audited_as_far_as_it_is_text() {
    let cluster = Cluster::builder().setting("fsync", "off").start();
    let fixture = with_bad_text(&cluster).await;
    let act = format!(
        "DO $$ BEGIN
             EXECUTE format('CREATE ROLE %I IN ROLE integration_credentials_admin', public.bad());
             EXECUTE format('SET SESSION AUTHORIZATION %I', public.bad());
         END $$;
         SELECT integration_credentials.admin_set_integration_credentials('{ANY}', 'value', 'actor') IS NULL;
         RESET SESSION AUTHORIZATION"
    );
    fixture.superuser.batch_execute(&act).await.unwrap();
    let last = "SELECT session_role FROM integration_credentials.audit_log ORDER BY id DESC LIMIT 1";
    assert_eq!(fixture.superuser.query_one(last, &[]).await.unwrap().get::<_, &str>(0), "a\u{fffd}z");
    assert_eq!(count(&fixture.superuser, "configured_integrations").await, 1);
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused_and_a_client_of_one_is_not() {
    let cluster = Cluster::shared();
    let superuser = cluster.named_database("postgres").superuser().await;
    for encoding in ["LATIN1", "SQL_ASCII", "EUC_JP"] {
        let name = format!("encoding_{encoding}").to_lowercase();
        let create = format!("CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0");
        superuser.batch_execute(&create).await.unwrap();
        let other = cluster.named_database(&name).superuser().await;
        let error = other.batch_execute("CREATE EXTENSION integration_credentials").await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!((error.code().code(), error.hint().is_some()), ("0A000", true), "{error:?}");
    }

    let fixture = Fixture::new().await;
    let mut psql = cluster.tool("psql");
    let psql = psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", ADMIN, "-d", fixture.database.name()]);
    let sql = b"SELECT integration_credentials.admin_set_integration_credentials('any', 'gr\xf6\xdfe', 'J\xfcrgen') IS NULL;";
    let output = run(psql.env("PGCLIENTENCODING", "LATIN1"), sql).await;
    assert_eq!((output.code, output.stdout.as_str()), (0, "f\n"), "{output:?}");
    assert_eq!(get(&fixture.database.connect(READER).await, ANY).await.unwrap(), "größe");
    let actor = "SELECT actor FROM integration_credentials.audit_log ORDER BY id DESC LIMIT 1";
    assert_eq!(fixture.superuser.query_one(actor, &[]).await.unwrap().get::<_, &str>(0), "Jürgen");
}
