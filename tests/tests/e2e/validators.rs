//! SQL validators: what they may say about a value, and what the box that they run in keeps them from.

use crate::helpers::calls::{ANY, enable, get, register, revision, set};
use crate::helpers::fixture::{ASLEEP, CHECK, Fixture, assert_unlogged, heard, plpgsql, sqlstate, until};
use integration_credentials_core::error::ErrorCode;
use serde_json::json;
use tests::{ADMIN, Canary, Cluster, READER, SUPERUSER, assert_error, installation::Installation};

#[tokio::test]
async fn null_accepts_and_a_text_refuses() {
    for language in ["sql", "plpgsql"] {
        let fixture = Fixture::new().await;
        let verdict = "CASE WHEN value LIKE 'bad%' THEN 'no key of ours' END";
        let function = match language {
            "sql" => format!("{CHECK} LANGUAGE sql AS $$ SELECT {verdict} $$"),
            _ => plpgsql(CHECK, &format!("RETURN {verdict}")),
        };
        fixture.as_owner(&format!("CREATE FUNCTION {function}")).await;
        fixture.register("validator", &[&ANY, &"app.check(text)"]).await.unwrap();
        let mut listener = fixture.listener().await;
        set(&fixture.admin, ANY, "good").await.unwrap();
        assert_eq!(heard(&mut listener, 1).await.len(), 1);

        let before = fixture.state().await;
        let canary = Canary::new();
        let refused = set(&fixture.admin, ANY, &format!("bad{canary}")).await;
        let error = assert_error(refused, ErrorCode::InvalidCredentials);
        assert_eq!(error.message(), "no key of ours", "{language}");
        canary.assert_absent(&error);
        assert_eq!(fixture.state().await, before);
        assert_eq!(heard(&mut listener, 0).await, [""; 0]);
        assert_eq!(get(&fixture.database.connect(READER).await, ANY).await.unwrap(), "good");

        set(&fixture.admin, ANY, "good again").await.unwrap();
        assert_eq!((heard(&mut listener, 1).await.len(), revision(&fixture.admin, ANY).await), (1, 2));
    }
}

#[tokio::test]
async fn a_reason_is_scrubbed_of_the_value_in_any_form_and_cut() {
    let fixture = Fixture::new().await;
    let canary = Canary::new();
    // 51 bytes, so that base64 needs no padding.
    let value = format!(r#"{canary}'"\"#);
    for (reason, shown) in [
        ("'no: ' || value || '!'", "no: <redacted>!".to_owned()),
        ("'no: ' || quote_literal(value) || '!'", "no: E'<redacted>'!".into()),
        ("'no: ' || to_json(value) || '!'", r#"no: "<redacted>"!"#.into()),
        ("'no: ' || encode(convert_to(value, 'UTF8'), 'hex') || '!'", "no: <redacted>!".into()),
        ("'no: ' || encode(convert_to(value, 'UTF8'), 'base64') || '!'", "no: <redacted>!".into()),
        ("value || ' is not ' || upper(value)", "<redacted> is not <redacted>".into()),
        ("repeat('ü', 501)", "ü".repeat(500)),
        // Cut first, the last five characters of the value would show.
        ("repeat('x', 495) || value", "x".repeat(495) + "<reda"),
    ] {
        for verdict in [format!("RETURN {reason}"), format!("RAISE EXCEPTION '%', {reason}")] {
            fixture.validator(&verdict).await;
            let error = assert_error(set(&fixture.admin, ANY, &value).await, ErrorCode::InvalidCredentials);
            assert_eq!(error.message(), shown, "{verdict}");
            canary.assert_absent(&error);
        }
    }
    assert_unlogged(&canary);
}

#[tokio::test]
async fn whatever_is_raised_is_a_refusal_that_does_not_show_the_value() {
    let fixture = Fixture::new().await;
    let canary = Canary::new();
    for body in [
        "RAISE EXCEPTION '%', value USING DETAIL = value, HINT = value, COLUMN = value, CONSTRAINT = value,
             DATATYPE = value, TABLE = value, SCHEMA = value",
        "RAISE EXCEPTION USING ERRCODE = 'IC001', MESSAGE = value",
        // Message, query and CONTEXT.
        "EXECUTE format('SELECT %L::int', value)",
        "EXECUTE format('SELEC %L', value)",
        "EXECUTE format('DO %L', format('BEGIN RAISE EXCEPTION %L; END', value))",
        "EXECUTE format('SELECT 1 / 0, %L', value)",
        "ASSERT false, value",
        // The stack is exhausted.
        "RETURN app.check(value || 'x')",
        // Nothing is returned.
        "PERFORM 1",
    ] {
        fixture.validator(body).await;
        fixture.assert_refused(&canary).await;
    }
    assert_unlogged(&canary);
}

#[tokio::test]
async fn an_error_that_says_nothing_of_the_value_keeps_its_sqlstate() {
    let fixture = Fixture::new().await;
    let canary = Canary::new();
    for code in ["40001", "40P01", "53200", "53300", "57014", "57P03", "58030"] {
        let raise = "RAISE EXCEPTION 'later: %', value USING DETAIL = value, HINT = 'x' || value, ERRCODE";
        fixture.validator(&format!("{raise} = '{code}'")).await;
        let before = fixture.state().await;
        let error = set(&fixture.admin, ANY, canary.as_str()).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!((error.code().code(), error.message()), (code, "later: <redacted>"));
        canary.assert_absent(&error);
        assert_eq!(fixture.state().await, before);
    }
    assert_unlogged(&canary);
}

#[tokio::test]
async fn a_cancel_or_a_timeout_ends_the_call_and_nothing_else() {
    let fixture = Fixture::with_validator("LOOP PERFORM pg_sleep(0.1); END LOOP").await;
    let (admin, canary, before) = (&fixture.admin, Canary::new(), fixture.state().await);
    let cancelled = fixture.set_and_cancel(canary.as_str()).await;
    admin.batch_execute("SET statement_timeout = '200ms'").await.unwrap();
    let late = set(admin, ANY, canary.as_str()).await;
    admin.batch_execute("RESET statement_timeout").await.unwrap();
    for ended in [cancelled, late] {
        canary.assert_absent(&ended);
        assert_eq!(sqlstate(ended), "57014");
    }
    assert_eq!(fixture.state().await, before);
    fixture.validator("RETURN NULL").await;
    set(admin, ANY, canary.as_str()).await.unwrap();
    assert_eq!(revision(admin, ANY).await, 1);
    assert_unlogged(&canary);
}

#[tokio::test]
async fn a_session_that_is_ended_in_a_validator_has_stored_nothing() {
    let fixture = Fixture::with_validator("PERFORM pg_sleep(1000)").await;
    let (canary, before) = (Canary::new(), fixture.state().await);
    let terminate = async {
        until(&fixture.superuser, ASLEEP).await;
        let statement = ASLEEP.replace("FROM", "pg_terminate_backend(pid, 10000) FROM");
        fixture.superuser.query_one(&statement, &[]).await.unwrap();
    };
    let (ended, ()) = tokio::join!(set(&fixture.admin, ANY, canary.as_str()), terminate);
    canary.assert_absent(&ended.unwrap_err());
    assert!(fixture.admin.is_closed());
    assert_eq!(fixture.state().await, before);
    assert_unlogged(&canary);
}

/// What a validator could leave in its caller's session or in the database. Advisory locks of SQL's are of kind 1 or 2.
async fn leftovers(fixture: &Fixture) -> Vec<String> {
    let of_session = "SELECT ARRAY[current_setting('search_path'), current_setting('application_name'),
        current_setting('client_min_messages'), current_setting('transaction_read_only'), current_user,
        session_user, ARRAY(SELECT pg_listening_channels())::text,
        (SELECT count(*) FROM pg_prepared_statements WHERE from_sql)::text,
        (SELECT count(*) FROM pg_cursors WHERE is_holdable)::text,
        (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND objsubid <= 2)::text]";
    let of_database =
        "SELECT ARRAY[(SELECT count(*) FROM app.written)::text, (SELECT is_called FROM app.numbers)::text,
        (SELECT count(*) FROM pg_largeobject_metadata)::text,
        (SELECT count(*) FROM pg_class WHERE relpersistence = 't')::text]";
    let of_session: Vec<String> = fixture.admin.query_one(of_session, &[]).await.unwrap().get(0);
    let of_database: Vec<String> = fixture.superuser.query_one(of_database, &[]).await.unwrap().get(0);
    [of_session, of_database].concat()
}

/// With a caller whose session is not the default one.
async fn busy_fixture() -> Fixture {
    let fixture = Fixture::new().await;
    fixture.as_owner("CREATE TABLE app.written (value text); CREATE SEQUENCE app.numbers").await;
    let settings = "SET search_path = nowhere, public; SET application_name = 'mine';
                    SET client_min_messages = warning; SET ROLE integration_credentials_admin";
    fixture.admin.batch_execute(settings).await.unwrap();
    fixture
}

#[tokio::test]
async fn what_a_validator_attempts_is_refused_or_leaves_nothing_behind() {
    const READ_ONLY: &str = "in a read-only transaction";
    const RESTRICTED: &str = "within security-restricted operation";
    const DEFINER: &str = "within security-definer function";
    const DENIED: &str = "permission denied for schema integration_credentials";
    let mut fixture = busy_fixture().await;
    let (mut listener, before) = (fixture.listener().await, leftovers(&fixture).await);
    for (attempt, refused) in [
        ("INSERT INTO app.written VALUES (value)", Some(READ_ONLY)),
        ("CREATE TEMP TABLE t (value text)", Some(READ_ONLY)),
        ("PERFORM nextval('app.numbers')", Some(READ_ONLY)),
        ("SET LOCAL transaction_read_only = off", Some("cannot set transaction read-write mode")),
        ("SET TRANSACTION READ WRITE", Some("cannot set transaction read-write mode")),
        ("COMMIT", Some("invalid transaction termination")),
        ("SET ROLE postgres", Some(DEFINER)),
        ("RESET ROLE", Some(DEFINER)),
        ("SET SESSION AUTHORIZATION DEFAULT", Some(DEFINER)),
        ("LISTEN app", Some(RESTRICTED)),
        ("EXECUTE 'PREPARE p AS SELECT 1'", Some(RESTRICTED)),
        ("EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'", Some(RESTRICTED)),
        ("SET log_min_messages = debug5", Some("permission denied to set parameter")),
        ("SET integration_credentials.org_slug = 'other'", Some("permission denied to set parameter")),
        ("PERFORM pg_read_file('PG_VERSION')", Some("permission denied for function pg_read_file")),
        ("COPY (SELECT 1) TO PROGRAM 'true'", Some("COPY to or from an external program")),
        ("PERFORM FROM integration_credentials.configured_integrations", Some(DENIED)),
        ("PERFORM integration_credentials.get_integration_credentials('any')", Some(DENIED)),
        ("PERFORM integration_credentials.admin_set_integration_credentials('any', 'x', 'y')", Some(DENIED)),
        ("NOTIFY app, 'leak'", None),
        ("PERFORM pg_notify('app', value)", None),
        ("PERFORM set_config('application_name', value, false)", None),
        ("SET search_path = app; SET client_min_messages = notice; SET transaction_read_only = on", None),
        ("PERFORM pg_advisory_xact_lock(1)", None),
        // Since 16, Postgres calls it writing.
        ("PERFORM lo_from_bytea(0, 'x')", (Installation::find().major() >= 16).then_some(READ_ONLY)),
    ] {
        let canary = Canary::new();
        fixture.validator(&format!("{attempt}; RETURN NULL")).await;
        let result = set(&fixture.admin, ANY, canary.as_str()).await;
        canary.assert_absent(&result);
        match refused {
            Some(why) => {
                let error = assert_error(result, ErrorCode::InvalidCredentials);
                assert!(error.message().contains(why), "{attempt}: {error:?}");
            }
            None => assert_eq!(result.unwrap()["hasCredentials"], true, "{attempt}"),
        }
        assert_eq!(leftovers(&fixture).await, before, "{attempt}");
        assert!(fixture.admin.notices().is_empty(), "{attempt}");
        let payloads = heard(&mut listener, refused.is_none().into()).await;
        assert!(payloads.iter().all(|payload| payload.starts_with("{\"v\":1,")), "{attempt}: {payloads:?}");
    }
}

#[tokio::test]
async fn it_runs_as_its_owner_with_pinned_settings_and_the_caller_gets_its_own_back() {
    let fixture = busy_fixture().await;
    let before = leftovers(&fixture).await;
    let settings = "concat_ws('|', current_user, session_user, current_setting('search_path'),
        current_setting('transaction_read_only'), current_setting('log_min_messages'))";
    let seen = format!("{}|{ADMIN}|pg_catalog, pg_temp|on|panic", fixture.owner);
    for verdict in [format!("RETURN {settings}"), format!("RAISE EXCEPTION '%', {settings}")] {
        fixture.validator(&verdict).await;
        assert_eq!(fixture.assert_refused(&Canary::new()).await, seen);
        assert_eq!(leftovers(&fixture).await, before);
    }
    // In one transaction with what the caller does before and after.
    fixture.validator("RETURN NULL").await;
    fixture.admin.batch_execute("BEGIN; CREATE TEMP TABLE t (i int)").await.unwrap();
    set(&fixture.admin, ANY, "value").await.unwrap();
    assert_eq!(leftovers(&fixture).await, before);
    fixture.admin.batch_execute("INSERT INTO t VALUES (1); COMMIT").await.unwrap();
}

#[tokio::test]
async fn messages_of_any_level_go_nowhere() {
    let mut fixture = Fixture::new().await;
    let raise =
        ["DEBUG", "LOG", "INFO", "NOTICE", "WARNING"].map(|level| format!("RAISE {level} '%', value"));
    let body = format!("SET client_min_messages = debug5; {}; RETURN NULL", raise.join("; "));
    fixture.validator(&body).await;
    let canary = Canary::new();
    for level in ["error", "warning", "notice", "log", "debug1", "debug5"] {
        fixture.admin.batch_execute(&format!("SET client_min_messages = {level}")).await.unwrap();
        set(&fixture.admin, ANY, canary.as_str()).await.unwrap();
        let notices = fixture.admin.notices();
        canary.assert_absent(&notices);
        // At debug levels the server itself has something to say.
        assert!(level.starts_with("debug") || notices.is_empty(), "{level}: {notices:?}");
    }
    assert_unlogged(&canary);
    // So that a search that finds nothing means something: outside of the box, all are there.
    let planted = Canary::new();
    fixture.superuser.query("SELECT app.check($1)", &[&planted.as_str()]).await.unwrap();
    let shown = fixture.superuser.notices();
    assert_eq!(shown.iter().filter(|notice| notice.message() == planted.as_str()).count(), 5);
    assert!(!planted.find(Cluster::shared().log().as_bytes()).is_empty());
}

#[tokio::test]
async fn rules_and_the_catalog_come_first() {
    let fixture = Fixture::with_validator("RAISE EXCEPTION 'the validator was asked'").await;
    register(&fixture.admin, ANY, json!({"minLength": 4})).await.unwrap();
    let call = async |value, code| {
        let before = fixture.state().await;
        let error = assert_error(set(&fixture.admin, ANY, value).await, code);
        assert_eq!(fixture.state().await, before);
        error.message().to_owned()
    };
    assert_eq!(call("1234", ErrorCode::InvalidCredentials).await, "the validator was asked");
    assert_ne!(call("123", ErrorCode::InvalidCredentials).await, "the validator was asked");
    enable(&fixture.admin, ANY, false).await.unwrap();
    call("1234", ErrorCode::IntegrationDisabled).await;
    let delete = "DELETE FROM integration_credentials.integration_catalog WHERE integration_key = 'any'";
    fixture.superuser.batch_execute(delete).await.unwrap();
    call("1234", ErrorCode::IntegrationNotFound).await;
}

#[tokio::test]
async fn only_a_superuser_registers() {
    let fixture = Fixture::new().await;
    fixture.as_owner(&format!("CREATE FUNCTION {}", plpgsql(CHECK, "RETURN 'no'"))).await;
    for function in ["register_validator('any', 'app.check(text)')", "register_sync_handler('any', NULL)"] {
        let statement = format!("SELECT integration_credentials.{function}");
        let before = fixture.state().await;
        for who in ["permission denied for function", "permission denied: only a superuser"] {
            let refused = fixture.admin.execute(&statement, &[]).await;
            let error = assert_error(refused, ErrorCode::ForbiddenAdminScope);
            assert!(error.message().starts_with(who), "{error:?}");
            let grant =
                format!("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA integration_credentials TO {ADMIN}");
            fixture.superuser.batch_execute(&grant).await.unwrap();
        }
        let revoke =
            format!("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA integration_credentials FROM {ADMIN}");
        fixture.superuser.batch_execute(&revoke).await.unwrap();
        assert_eq!(fixture.state().await, before);
    }
    set(&fixture.admin, ANY, "value").await.unwrap();
}

/// The validator of [`ANY`], as the catalog has it.
async fn registered(fixture: &Fixture) -> Option<String> {
    let statement =
        "SELECT validator FROM integration_credentials.integration_catalog WHERE integration_key = 'any'";
    fixture.superuser.query_one(statement, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn what_cannot_be_a_validator_is_refused() {
    let fixture = Fixture::new().await;
    fixture
        .as_owner(
            "CREATE FUNCTION app.of_int(value int) RETURNS text LANGUAGE sql AS 'SELECT NULL';
             CREATE FUNCTION app.two(value text, more text) RETURNS text LANGUAGE sql AS 'SELECT NULL';
             CREATE FUNCTION app.none() RETURNS text LANGUAGE sql AS 'SELECT NULL';
             CREATE FUNCTION app.list(VARIADIC value text[]) RETURNS text LANGUAGE sql AS 'SELECT NULL';
             CREATE FUNCTION app.to_int(value text) RETURNS int LANGUAGE sql AS 'SELECT 1';
             CREATE FUNCTION app.to_many(value text) RETURNS SETOF text LANGUAGE sql AS 'SELECT NULL';
             CREATE PROCEDURE app.procedure(value text) LANGUAGE sql AS 'SELECT 1';
             CREATE AGGREGATE app.aggregate(text) (SFUNC = textcat, STYPE = text);
             CREATE FUNCTION app.ours(value text) RETURNS text LANGUAGE sql AS 'SELECT NULL'",
        )
        .await;
    let theirs = "CREATE FUNCTION app.theirs(value text) RETURNS text LANGUAGE sql AS 'SELECT NULL'";
    fixture.superuser.batch_execute(theirs).await.unwrap();
    let before = fixture.state().await;
    let no_function = "app.missing(text); missing.ours(text); ours(text); app.ours(no_such_type); app.ours; \
                       app.ours(text; ; 1";
    let misfits = "app.of_int(int); app.two(text, text); app.none(); app.list(text[]); app.to_int(text); \
                   app.to_many(text); app.procedure(text); app.aggregate(text)";
    let of_superuser = "app.theirs(text); pg_catalog.upper(text)";
    for signature in [no_function, misfits, of_superuser].iter().flat_map(|list| list.split("; ")) {
        let refused = fixture.register("validator", &[&ANY, &signature]).await;
        assert_eq!(sqlstate(refused), "IC001", "{signature:?}");
        assert_eq!(registered(&fixture).await, None, "{signature:?}");
    }
    let good = "app.ours(text)";
    assert_error(
        fixture.register("validator", &[&"no such key", &good]).await,
        ErrorCode::IntegrationNotFound,
    );
    assert_error(fixture.register("validator", &[&None::<&str>, &good]).await, ErrorCode::InvalidRequest);
    assert_eq!(fixture.state().await, before);
}

#[tokio::test]
async fn a_registration_is_audited_and_null_ends_it() {
    let fixture = Fixture::new().await;
    let function = plpgsql(r#""We""ird"."F n"(value text) RETURNS text"#, "RETURN 'asked'");
    let script = format!(
        r#"CREATE SCHEMA "We""ird" AUTHORIZATION {0}; SET ROLE {0}; CREATE FUNCTION {function}; RESET ROLE"#,
        fixture.owner
    );
    fixture.superuser.batch_execute(&script).await.unwrap();
    let signature = r#""We""ird"."F n"(text)"#;
    // Written otherwise, it is stored the same.
    fixture.register("validator", &[&ANY, &r#" "We""ird" . "F n" ( pg_catalog.text ) "#]).await.unwrap();
    assert_eq!(registered(&fixture).await.as_deref(), Some(signature));
    assert_eq!(fixture.assert_refused(&Canary::new()).await, "asked");
    fixture.register("validator", &[&ANY, &None::<&str>]).await.unwrap();
    assert_eq!(registered(&fixture).await, None);
    set(&fixture.admin, ANY, "value").await.unwrap();

    let metadata = fixture.audited("register_validator").await;
    assert_eq!(metadata, [json!({"validator": signature}), json!({"validator": null})]);
    let who = "SELECT DISTINCT org_slug, actor, session_role, target_type, target_id
               FROM integration_credentials.webapp_org_admin_audit_log WHERE action = 'register_validator'";
    let row = fixture.superuser.query_one(who, &[]).await.unwrap();
    let expected = [fixture.database.name(), SUPERUSER, SUPERUSER, "integration", ANY];
    assert_eq!(std::array::from_fn(|column| row.get::<_, &str>(column)), expected);
}

#[tokio::test]
async fn a_validator_that_is_gone_or_grew_powerful_refuses_everything() {
    let fixture = Fixture::new().await;
    let owner = &fixture.owner;
    for (change, repair) in [
        (format!("ALTER ROLE {owner} SUPERUSER"), format!("ALTER ROLE {owner} NOSUPERUSER")),
        ("ALTER FUNCTION app.check(text) OWNER TO postgres".into(), "DROP FUNCTION app.check(text)".into()),
        // Somebody else's function under the same name would be run as somebody else.
        ("ALTER FUNCTION app.check(text) OWNER TO mallory".into(), "DROP FUNCTION app.check(text)".into()),
        ("DROP FUNCTION app.check(text)".into(), String::new()),
        (
            "DROP FUNCTION app.check(text);
             CREATE FUNCTION app.check(value text) RETURNS int LANGUAGE sql AS 'SELECT 1'"
                .into(),
            "DROP FUNCTION app.check(text)".into(),
        ),
        ("ALTER SCHEMA app RENAME TO gone".into(), "ALTER SCHEMA gone RENAME TO app".into()),
    ] {
        fixture.validator("RETURN NULL").await;
        set(&fixture.admin, ANY, "value").await.unwrap();
        fixture.superuser.batch_execute(&change).await.unwrap();
        let message = fixture.assert_refused(&Canary::new()).await;
        assert!(message.starts_with("cannot run the validator of integration \"any\": "), "{message}");
        fixture.superuser.batch_execute(&repair).await.unwrap();
    }
}

#[tokio::test]
async fn in_a_transaction_of_the_caller_only_the_refused_call_is_lost() {
    let fixture = Fixture::with_validator("RETURN CASE WHEN value = 'bad' THEN 'no' END").await;
    let admin = &fixture.admin;
    admin.batch_execute("BEGIN; CREATE TEMP TABLE mine (i int); INSERT INTO mine VALUES (1)").await.unwrap();
    set(admin, ANY, "first").await.unwrap();
    admin.batch_execute("SAVEPOINT s").await.unwrap();
    assert_error(set(admin, ANY, "bad").await, ErrorCode::InvalidCredentials);
    assert_eq!(sqlstate(set(admin, ANY, "good").await), "25P02");
    admin.batch_execute("ROLLBACK TO s").await.unwrap();
    set(admin, ANY, "second").await.unwrap();
    admin.batch_execute("RELEASE s; INSERT INTO mine VALUES (2); COMMIT").await.unwrap();
    let row = admin.query_one("SELECT count(*) FROM mine", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), revision(admin, ANY).await), (2, 2));
    assert_eq!(get(&fixture.database.connect(READER).await, ANY).await.unwrap(), "second");
}

#[tokio::test]
async fn two_thousand_calls_in_a_session_leave_it_as_it_was() {
    let mut fixture = Fixture::with_validator(
        "IF value = 'raise' THEN RAISE 'no'; END IF; RETURN CASE WHEN value = 'refuse' THEN 'no' END",
    )
    .await;
    let grant = format!(
        "GRANT SELECT ON pg_backend_memory_contexts TO {ADMIN};
         GRANT EXECUTE ON FUNCTION pg_get_backend_memory_contexts() TO {ADMIN}"
    );
    fixture.superuser.batch_execute(&grant).await.unwrap();
    let memory = "SELECT sum(used_bytes)::bigint FROM pg_backend_memory_contexts";
    let mut used = Vec::new();
    for calls in [100, 1900] {
        for number in 0..calls {
            let value = ["accept", "refuse", "accept", "raise"][number % 4];
            assert_eq!(set(&fixture.admin, ANY, value).await.is_ok(), value == "accept");
        }
        used.push(fixture.admin.query_one(memory, &[]).await.unwrap().get::<_, i64>(0));
    }
    assert_eq!(revision(&fixture.admin, ANY).await, 1000);
    assert!(used[1] - used[0] < 64 * 1024, "{used:?}");
    // And in one statement, nested in nothing but that.
    let many =
        "SELECT count(integration_credentials.admin_set_integration_credentials('any', 'accept', i::text))
                FROM generate_series(1, 2000) i";
    fixture.admin.query_one(many, &[]).await.unwrap();
    assert_eq!(revision(&fixture.admin, ANY).await, 3000);
    // At the end of a transaction Postgres warns of nesting and of anything else that was not given back.
    // But for the one that the last statement, with the value in its text, earns for all its calls together.
    let notices = fixture.admin.notices();
    assert!(
        matches!(&notices[..], [notice] if notice.message().contains("the text of the statement")),
        "{notices:?}"
    );
}
