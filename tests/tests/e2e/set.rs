//! The steps of the set call: arguments, catalog, rules, encryption, upsert, audit, metering, result.

use crate::fixture::sqlstate;
use crate::support::{ANY, SealTo, count, enable, get, register, remove, revision, set, set_raw};
use integration_credentials_core::error::ErrorCode;
use serde_json::{Value, json};
use tests::{ADMIN, Canary, Cluster, Database, READER, Session, assert_error};

/// A database, an admin in it, and an integration that takes any value.
async fn admin() -> (Database, Session) {
    let database = Cluster::shared().database().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    (database, admin)
}

#[tokio::test]
async fn the_result_says_what_was_done_and_never_the_value() {
    let (database, admin) = admin().await;
    let canary = Canary::new();
    let result = set(&admin, ANY, canary.as_str()).await.unwrap();
    canary.assert_absent(&result);

    let updated_at = result["updatedAt"].as_str().unwrap().to_owned();
    assert_eq!(
        result,
        json!({"key": ANY, "isConfigured": true, "hasCredentials": true, "updatedAt": updated_at})
    );
    // 2026-04-29T14:00:00.000Z, and the row's own.
    let superuser = database.superuser().await;
    let row = superuser
        .query_one(
            "SELECT updated_at = $1::text::timestamptz + (updated_at - date_trunc('milliseconds', updated_at)),
                    $1 ~ '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z$'
             FROM integration_credentials.configured_integrations",
            &[&updated_at],
        )
        .await
        .unwrap();
    assert_eq!((row.get(0), row.get(1)), (true, true), "{updated_at}");
    assert_eq!(get(&database.connect(READER).await, ANY).await.unwrap(), canary.as_str());
}

#[tokio::test]
async fn first_it_inserts_then_it_rotates_and_the_audit_log_tells_which() {
    let (database, admin) = admin().await;
    let superuser = database.superuser().await;
    for (value, was_update) in [("one", false), ("two", true), ("three", true)] {
        set(&admin, ANY, value).await.unwrap();
        let row = superuser
            .query_one(
                "SELECT org_slug, actor, session_role, acting_role, action, target_type, target_id, metadata
                 FROM integration_credentials.webapp_org_admin_audit_log ORDER BY id DESC LIMIT 1",
                &[],
            )
            .await
            .unwrap();
        let texts: Vec<&str> = (0..7).map(|column| row.get(column)).collect();
        let expected =
            [database.name(), "actor", ADMIN, ADMIN, "set_integration_credentials", "integration", ANY];
        assert_eq!(texts, expected);
        assert_eq!(row.get::<_, Value>(7), json!({"wasUpdate": was_update}));
    }
    assert_eq!(revision(&admin, ANY).await, 3);

    // The row stays when the credential goes, so that the next set is an update, and the revision goes on.
    remove(&admin, ANY).await.unwrap();
    set(&admin, ANY, "four").await.unwrap();
    assert_eq!(revision(&admin, ANY).await, 5);
}

#[tokio::test]
async fn the_roles_are_not_for_the_caller_to_choose() {
    let (database, admin) = admin().await;
    admin.batch_execute("SET ROLE integration_credentials_admin").await.unwrap();
    set_raw(&admin, Some(ANY), Some("value"), Some("postgres")).await.unwrap();
    let superuser = database.superuser().await;
    let statement = "SELECT actor, session_role, acting_role
                     FROM integration_credentials.webapp_org_admin_audit_log
                     WHERE action = 'set_integration_credentials'";
    let row = superuser.query_one(statement, &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1), row.get(2)), ("postgres", ADMIN, "integration_credentials_admin"));
}

/// Each call that is audited, with a key for a name.
const AUDITED: [&str; 8] = [
    "admin_register_integration('k', 'K', 'actor')",
    "admin_set_integration_credentials('k', 'value', 'actor')",
    "admin_set_integration_credentials_sealed('k', current_setting('test.sealed')::bytea, 'actor')",
    "admin_remove_integration_credentials('k', 'actor')",
    "admin_set_integration_enabled('k', false, 'actor')",
    "register_validator('k', NULL)",
    "register_sync_handler('k', NULL)",
    "admin_unregister_integration('k', 'actor')",
];

/// The role that called is that of SET ROLE, or the owner of the definer function that called, in whatever way it did.
#[tokio::test]
async fn the_acting_role_is_the_one_that_called() {
    let database = Cluster::shared().database().await;
    database.set_org("acme").await;
    let superuser = database.superuser().await;
    let name = database.name();
    let script = format!(
        "CREATE ROLE {name}_owner SUPERUSER; CREATE ROLE {name}_pooler LOGIN SUPERUSER; CREATE ROLE {name}_person SUPERUSER;
         CREATE SCHEMA app;
         CREATE FUNCTION app.execute(call text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS
             $$ BEGIN EXECUTE 'SELECT integration_credentials.' || call; END $$;
         CREATE FUNCTION app.evaluate(call text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS
             $$ DECLARE result jsonb; BEGIN
                 result := integration_credentials.admin_set_integration_credentials('evaluated', 'value', 'actor');
             END $$;
         CREATE FUNCTION app.in_sql() RETURNS jsonb LANGUAGE sql SECURITY DEFINER AS
             $$ SELECT integration_credentials.admin_set_integration_credentials('evaluated', 'value', 'actor') $$;
         CREATE FUNCTION app.as_caller(call text) RETURNS void LANGUAGE plpgsql AS
             $$ BEGIN EXECUTE 'SELECT integration_credentials.' || call; END $$;
         ALTER FUNCTION app.execute(text) OWNER TO {name}_owner;
         ALTER FUNCTION app.evaluate(text) OWNER TO {name}_owner;
         ALTER FUNCTION app.in_sql() OWNER TO {name}_owner;
         SELECT integration_credentials.admin_register_integration('evaluated', 'E', 'actor')"
    );
    superuser.batch_execute(&script).await.unwrap();
    let last = "SELECT session_role, acting_role FROM integration_credentials.webapp_org_admin_audit_log
                ORDER BY id DESC LIMIT 1";
    let session = database.connect(&format!("{name}_pooler")).await;
    let sealed = SealTo::ask(&session).await.seal("k", "value");
    session.query("SELECT set_config('test.sealed', $1::bytea::text, false)", &[&sealed]).await.unwrap();
    let roles = async || {
        let row = superuser.query_one(last, &[]).await.unwrap();
        (row.get::<_, String>(0), row.get::<_, String>(1))
    };
    let called_by = |role: &str| (format!("{name}_pooler"), format!("{name}_{role}"));
    // As the log is, and then as it is when rows go into it by INSERT.
    for change in ["", "ALTER TABLE integration_credentials.webapp_org_admin_audit_log ADD note text"] {
        superuser.batch_execute(change).await.unwrap();
        for role in ["pooler", "person"] {
            session.batch_execute(&format!("SET ROLE {name}_{role}")).await.unwrap();
            for call in AUDITED {
                session.batch_execute(&format!("SELECT integration_credentials.{call}")).await.unwrap();
                assert_eq!(roles().await, called_by(role), "{call}");
            }
            for (by, function) in [("owner", "execute"), (role, "as_caller")] {
                for call in AUDITED {
                    session.query(&format!("SELECT app.{function}($1)"), &[&call]).await.unwrap();
                    assert_eq!(roles().await, called_by(by), "{function}: {call}");
                }
            }
            for call in ["app.evaluate('')", "app.in_sql()"] {
                session.batch_execute(&format!("SELECT {call}")).await.unwrap();
                assert_eq!(roles().await, called_by("owner"), "{call}");
            }
        }
    }
    let view = "SELECT DISTINCT acting_role FROM integration_credentials.audit_log ORDER BY 1";
    let seen: Vec<String> = superuser.query(view, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    let owners = ["owner", "person", "pooler"].map(|role| format!("{name}_{role}"));
    assert_eq!(seen, [&["postgres".to_owned()], &owners[..]].concat());
}

/// The rights of the owner last as long as the call, however that ends.
#[tokio::test]
async fn who_calls_is_who_they_were_afterwards() {
    let (_, admin) = admin().await;
    let ends = [
        "admin_set_integration_credentials('any', 'value', 'actor')",
        "admin_set_integration_credentials('any', '', 'actor')",
        "admin_set_integration_credentials('nowhere', 'value', 'actor')",
        "admin_set_integration_credentials('any', pg_catalog.repeat('x', 9000), 'actor')",
        "admin_unregister_integration('trustradius', 'actor')",
    ];
    for call in ends {
        let caught = format!(
            "DO $$ BEGIN
                 BEGIN PERFORM integration_credentials.{call}; EXCEPTION WHEN OTHERS THEN NULL; END;
                 PERFORM FROM integration_credentials.integration_catalog;
             END $$"
        );
        assert_eq!(sqlstate(admin.batch_execute(&caught).await), "42501", "{call}");
        let _ = admin.batch_execute(&format!("SELECT integration_credentials.{call}")).await;
        let current: String = admin.query_one("SELECT current_user::text", &[]).await.unwrap().get(0);
        assert_eq!(current, ADMIN, "{call}");
    }
}

#[tokio::test]
async fn each_call_is_metered_with_the_value_redacted() {
    let (database, admin) = admin().await;
    set(&admin, ANY, "value").await.unwrap();
    let superuser = database.superuser().await;
    let statement = "SELECT org_slug, actor, outcome, duration_ms, metadata
                     FROM integration_credentials.tool_metering
                     WHERE tool_key = 'admin_set_integration_credentials'";
    let row = superuser.query_one(statement, &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1), row.get(2)), (database.name(), "actor", "ok"));
    let duration: f64 = row.get(3);
    assert!(duration > 0.0 && duration < 60_000.0, "{duration}");
    let metadata: Value = row.get(4);
    assert_eq!(metadata, json!({"parameters": {"key": ANY, "value": "<redacted>", "actor": "actor"}}));
}

#[tokio::test]
async fn arguments_are_counted_in_characters() {
    let (database, admin) = admin().await;
    let reader = database.connect(READER).await;
    for unit in ["a", "é", "😀"] {
        for length in [1, 8192] {
            let value = unit.repeat(length);
            set(&admin, ANY, &value).await.unwrap();
            assert_eq!(get(&reader, ANY).await.unwrap(), value);
        }
        let long = unit.repeat(255);
        register(&admin, &long, json!({})).await.unwrap();
        set_raw(&admin, Some(&long), Some("value"), Some(&long)).await.unwrap();

        let (key, value) = (unit.repeat(256), unit.repeat(8193));
        for refused in [
            set_raw(&admin, Some(&key), Some("value"), Some("actor")).await,
            set_raw(&admin, Some(ANY), Some(&value), Some("actor")).await,
            set_raw(&admin, Some(ANY), Some("value"), Some(&key)).await,
        ] {
            let error = assert_error(refused, ErrorCode::InvalidRequest);
            assert!(error.message().contains(" characters"), "{error:?}");
        }
    }
}

#[tokio::test]
async fn null_and_empty_arguments_are_refused_by_name() {
    let (_, admin) = admin().await;
    let given = [Some(ANY), Some("value"), Some("actor")];
    for (index, name) in ["key", "value", "actor"].into_iter().enumerate() {
        for (missing, problem) in [(None, "is NULL"), (Some(""), "is empty")] {
            let mut arguments = given;
            arguments[index] = missing;
            let [key, value, actor] = arguments;
            let error = assert_error(set_raw(&admin, key, value, actor).await, ErrorCode::InvalidRequest);
            assert_eq!(error.message(), format!("{name} {problem}"));
        }
    }
}

#[tokio::test]
async fn any_text_comes_back_as_it_was() {
    let (database, admin) = admin().await;
    let reader = database.connect(READER).await;
    for value in [
        " ",
        "\n",
        "  blanks around  \r\n\t",
        "quotes ' '' \" \\ \\' $$ $1 %s {}",
        "'); DROP TABLE integration_credentials.configured_integrations; --",
        r#"{"json": ["with", 1, null, "\u0000"]}"#,
        "日本語 العربية \u{202e}right to left\u{202c} e\u{301} \u{feff} 👩\u{200d}👩\u{200d}👧 \u{10ffff}",
        "\u{1}\u{7f}\u{85}",
        "<redacted>",
    ] {
        set(&admin, ANY, value).await.unwrap();
        assert_eq!(get(&reader, ANY).await.unwrap(), value);
    }
}

#[tokio::test]
async fn what_is_refused_leaves_everything_as_it_was() {
    let (database, admin) = admin().await;
    let superuser = database.superuser().await;
    register(&admin, "strict", json!({"prefix": "good"})).await.unwrap();
    set(&admin, "strict", "good").await.unwrap();
    register(&admin, "off", json!({})).await.unwrap();
    set(&admin, "off", "value").await.unwrap();
    enable(&admin, "off", false).await.unwrap();

    let state = "SELECT string_agg(t::text, ';' ORDER BY t::text) FROM (
        SELECT c::text FROM integration_credentials.configured_integrations c
        UNION ALL SELECT a::text FROM integration_credentials.webapp_org_admin_audit_log a
        UNION ALL SELECT m::text FROM integration_credentials.tool_metering m) t";
    let before: String = superuser.query_one(state, &[]).await.unwrap().get(0);
    for (key, code, message) in [
        ("strict", ErrorCode::InvalidCredentials, "the value does not begin with \"good\""),
        ("off", ErrorCode::IntegrationDisabled, "the integration \"off\" is disabled"),
        ("nowhere", ErrorCode::IntegrationNotFound, "there is no integration with this key in the catalog"),
        ("", ErrorCode::InvalidRequest, "key is empty"),
    ] {
        let canary = Canary::new();
        let error = assert_error(set(&admin, key, canary.as_str()).await, code);
        assert_eq!(error.message(), message);
        canary.assert_absent(&error);
    }
    let after: String = superuser.query_one(state, &[]).await.unwrap().get(0);
    assert_eq!(before, after);
    assert_eq!(get(&database.connect(READER).await, "strict").await.unwrap(), "good");
}

#[tokio::test]
async fn key_and_value_in_the_wrong_order_do_not_show_the_value() {
    let (database, admin) = admin().await;
    let canary = Canary::new();
    let error = assert_error(set(&admin, canary.as_str(), ANY).await, ErrorCode::IntegrationNotFound);
    canary.assert_absent(&error);
    let parameters = json!({"key": canary.as_str(), "value": canary.as_str(), "actor": "actor"}).to_string();
    record_failure(&admin, "integration_not_found", &parameters).await.unwrap();
    let superuser = database.superuser().await;
    let row =
        superuser.query_one("SELECT array_agg(m::text) FROM integration_credentials.tool_metering m", &[]);
    canary.assert_absent(&row.await.unwrap().get::<_, Vec<String>>(0));
}

#[tokio::test]
async fn a_failed_call_is_metered_by_the_client_and_redacted_by_the_server() {
    let (database, admin) = admin().await;
    let canary = Canary::new();
    let parameters =
        json!({"key": ANY, "value": canary.as_str(), "actor": "actor", "Value": canary.as_str()}).to_string();
    record_failure(&admin, "invalid_credentials", &parameters).await.unwrap();
    let superuser = database.superuser().await;
    let statement = "SELECT outcome, actor, duration_ms, metadata FROM integration_credentials.tool_metering
                     WHERE outcome <> 'ok'";
    let row = superuser.query_one(statement, &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1), row.get(2)), ("invalid_credentials", "actor", 1.5));
    let expected = json!({"parameters": {"key": ANY, "value": "<redacted>", "actor": "actor"}});
    assert_eq!(row.get::<_, Value>(3), expected);

    let rows = count(&superuser, "tool_metering").await;
    for (outcome, parameters) in
        [("no_such_code", "{}"), ("invalid_request", "not json"), ("invalid_request", "[]")]
    {
        assert_error(record_failure(&admin, outcome, parameters).await, ErrorCode::InvalidRequest);
    }
    assert_eq!(count(&superuser, "tool_metering").await, rows);
}

async fn record_failure(
    session: &Session,
    outcome: &str,
    parameters: &str,
) -> Result<(), tokio_postgres::Error> {
    let statement = "SELECT integration_credentials.record_tool_failure(
        'admin_set_integration_credentials', $1, $2, 1.5)";
    session.execute(statement, &[&outcome, &parameters]).await.map(drop)
}

#[tokio::test]
async fn a_read_only_transaction_is_refused_before_anything_is_done() {
    let (_, admin) = admin().await;
    admin.batch_execute("BEGIN READ ONLY").await.unwrap();
    let error = set(&admin, ANY, "value").await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().code().code(), "25006");
    admin.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn a_kept_plan_survives_a_change_of_its_table() {
    let (database, admin) = admin().await;
    set(&admin, ANY, "before").await.unwrap();
    let superuser = database.superuser().await;
    let alter =
        "ALTER TABLE integration_credentials.configured_integrations ADD COLUMN note text DEFAULT 'x'";
    superuser.batch_execute(alter).await.unwrap();
    set(&admin, ANY, "after").await.unwrap();
    assert_eq!(get(&database.connect(READER).await, ANY).await.unwrap(), "after");
}

#[tokio::test]
async fn upsert_audit_and_metering_are_planned_once_a_session() {
    let cluster = Cluster::builder()
        .preload("pg_stat_statements")
        .setting("pg_stat_statements.track", "all")
        .setting("pg_stat_statements.track_planning", "on")
        .setting("plan_cache_mode", "force_generic_plan")
        .start();
    let database = cluster.database().await;
    let superuser = database.superuser().await;
    superuser.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    // The logs have rows added without a statement, unless somebody has changed them.
    let column = "ALTER TABLE integration_credentials.webapp_org_admin_audit_log ADD note text;
                  ALTER TABLE integration_credentials.tool_metering ADD note text";
    for (change, expected) in [("", 1), (column, 3)] {
        superuser.batch_execute(change).await.unwrap();
        superuser.batch_execute("SELECT pg_stat_statements_reset()").await.unwrap();
        for _ in 0..20 {
            set(&admin, ANY, "value").await.unwrap();
        }
        let statement = "SELECT query, plans, calls FROM pg_stat_statements
                         WHERE query ~ 'INSERT INTO integration_credentials'";
        let inserts = superuser.query(statement, &[]).await.unwrap();
        assert_eq!(inserts.len(), expected);
        for insert in inserts {
            let counted = (insert.get::<_, i64>(1) <= 1, insert.get::<_, i64>(2));
            assert_eq!(counted, (true, 20), "{}", insert.get::<_, &str>(0));
        }
    }
}
