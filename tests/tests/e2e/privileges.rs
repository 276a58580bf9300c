//! Who may do what, tried by those who may not.

use crate::helpers::calls::{ANY, get, register, set};
use integration_credentials_core::error::ErrorCode;
use serde_json::json;
use std::env;
use tests::{ADMIN, AUDITOR, Canary, Cluster, Database, OUTSIDER, READER, assert_error};
use tokio_postgres::{Error, error::SqlState};

const CALLS: [(&str, &[&str]); 44] = [
    ("current_org()", &[ADMIN, READER, AUDITOR]),
    ("list_integrations()", &[ADMIN, READER, AUDITOR]),
    ("list_integrations('{any}')", &[ADMIN, READER, AUDITOR]),
    ("describe_integrations()", &[ADMIN, READER, AUDITOR]),
    ("credential_reads()", &[ADMIN, READER, AUDITOR]),
    ("admin_set_integration_credentials('any', 'value', 'actor')", &[ADMIN]),
    ("admin_set_integration_credentials_sealed('any', 'sealed', 'actor')", &[ADMIN]),
    ("admin_set_integration_credentials('any', 'value', 'actor', '{}')", &[ADMIN]),
    ("admin_set_integration_credentials_sealed('any', 'sealed', 'actor', '{}')", &[ADMIN]),
    ("admin_promote_integration_credentials('any', 'actor')", &[ADMIN]),
    ("admin_discard_integration_credentials('any', 'actor')", &[ADMIN]),
    ("admin_rollback_integration_credentials('any', 'actor')", &[ADMIN]),
    ("admin_retire_integration_credentials('any', 'actor')", &[ADMIN]),
    ("find_integration_credentials('sealed')", &[ADMIN]),
    ("check_credentials()", &[ADMIN]),
    ("rotation_status()", &[ADMIN, READER, AUDITOR]),
    ("purge_previous()", &[]),
    ("sealing_key()", &[ADMIN]),
    ("admin_remove_integration_credentials('any', 'actor')", &[ADMIN]),
    ("admin_remove_integration_credentials('any', 'actor', true)", &[ADMIN]),
    ("admin_set_integration_keep_previous('any', '1 hour', 'actor')", &[ADMIN]),
    ("admin_register_integration('any', 'Any', 'actor')", &[ADMIN]),
    ("admin_set_integration_enabled('any', true, 'actor')", &[ADMIN]),
    ("admin_unregister_integration('any', 'actor')", &[ADMIN]),
    ("record_tool_failure('admin_set_integration_credentials', 'invalid_request', '{}', 1)", &[ADMIN]),
    ("get_integration_credentials('any')", &[READER]),
    ("get_integration_credentials_with_revision('any')", &[READER]),
    ("get_all_integration_credentials()", &[READER]),
    ("get_integration_credentials('any', 'current')", &[READER]),
    ("get_valid_integration_credentials('any')", &[READER]),
    ("report_held_revisions(gen_random_uuid(), 'name', '{}', '1 s')", &[READER]),
    ("audit_head()", &[AUDITOR]),
    ("audit_seal()", &[AUDITOR]),
    ("audit_proof(1)", &[AUDITOR]),
    ("audit_sealed(-1, 10)", &[AUDITOR]),
    ("audit_prune('2020-01-01')", &[]),
    ("register_validator('any', NULL)", &[]),
    ("register_sync_handler('any', NULL)", &[]),
    ("sync_aggregator_credentials('org', 'any', 'value')", &[]),
    ("keyring_status()", &[]),
    ("key_usage()", &[]),
    ("check_all_credentials()", &[]),
    ("reencrypt_batch(1, true)", &[]),
    ("reencrypt_runs()", &[]),
];

#[tokio::test]
async fn a_lister_may_list_and_nothing_else() {
    let database = Cluster::shared().database_at(None).await;
    let lister = format!("{}_lister", database.name());
    let create = format!("CREATE ROLE {lister} LOGIN IN ROLE integration_credentials_lister");
    database.superuser().await.batch_execute(&create).await.unwrap();
    let session = database.connect(&lister).await;
    for (call, _) in CALLS {
        let result = session.batch_execute(&format!("SELECT integration_credentials.{call}")).await;
        if ["current_org", "list_integrations", "describe_integrations"]
            .iter()
            .any(|name| call.starts_with(name))
        {
            result.unwrap();
        } else {
            assert_error(result, ErrorCode::ForbiddenAdminScope);
        }
    }
    let view = session.batch_execute("SELECT FROM integration_credentials.audit_log").await;
    assert_error(view, ErrorCode::ForbiddenAdminScope);
}

/// Whether `EXTENSION_VERSION` names a version that does not have the called function yet.
fn is_of_a_later_version<T>(result: &Result<T, Error>) -> bool {
    let code = result.as_ref().err().and_then(Error::code);
    env::var_os("EXTENSION_VERSION").is_some() && code == Some(&SqlState::UNDEFINED_FUNCTION)
}

#[tokio::test]
async fn each_function_is_for_its_roles_and_42501_for_all_others() {
    let database = Cluster::shared().database().await;
    for (call, allowed) in CALLS {
        let superuser = database.superuser().await;
        let prepare = "SELECT integration_credentials.admin_register_integration('any', 'Any', 'x');
                       SELECT integration_credentials.admin_set_integration_credentials('any', 'value', 'x')";
        superuser.batch_execute(prepare).await.unwrap();
        for role in [ADMIN, READER, AUDITOR, OUTSIDER] {
            let session = database.connect(role).await;
            let statement = format!("BEGIN; SELECT integration_credentials.{call}; ROLLBACK");
            let result = session.batch_execute(&statement).await;
            if is_of_a_later_version(&result) {
                continue;
            }
            if allowed.contains(&role) {
                // May still be refused for another reason, such as credentials that are still set, or a value
                // that is not pending.
                let refused = result.as_ref().err().and_then(|error| error.code().cloned());
                let other = ["IC001", "IC005"];
                assert!(refused.is_none_or(|code| other.contains(&code.code())), "{role} {call}: {result:?}");
            } else {
                assert_error(result, ErrorCode::ForbiddenAdminScope);
            }
        }
    }
}

#[tokio::test]
async fn nobody_but_the_owner_touches_a_table() {
    let database = Cluster::shared().database().await;
    let superuser = database.superuser().await;
    let relations = "SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'S', 'v')
                     AND relnamespace = 'integration_credentials'::regnamespace";
    let relations: Vec<String> =
        superuser.query(relations, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert!(relations.len() >= 9, "{relations:?}");
    for role in [ADMIN, READER, AUDITOR, OUTSIDER] {
        let session = database.connect(role).await;
        for relation in &relations {
            let select =
                session.batch_execute(&format!("SELECT FROM integration_credentials.{relation}")).await;
            if (role, relation.as_str()) == (AUDITOR, "audit_log") {
                select.unwrap();
            } else {
                assert_error(select, ErrorCode::ForbiddenAdminScope);
            }
            for write in ["DELETE FROM", "INSERT INTO", "TRUNCATE"] {
                let tail = if write == "INSERT INTO" { "DEFAULT VALUES" } else { "" };
                let statement = format!("{write} integration_credentials.{relation} {tail}");
                let error = session.batch_execute(&statement).await.unwrap_err();
                let code = error.code().unwrap().code();
                // Nobody truncates a sequence or a view, or inserts into a view of a function.
                assert!(["42501", "42809", "55000"].contains(&code), "{role} {statement}: {error:?}");
            }
        }
    }
}

#[tokio::test]
async fn every_function_pins_its_search_path_and_none_is_public() {
    let database = Cluster::shared().database().await;
    let superuser = database.superuser().await;
    // A function of the library by the name that the library has for it: overloads have names of their own there.
    let statement = "SELECT CASE WHEN probin IS NULL THEN proname ELSE prosrc END::text, prosecdef, proisstrict, coalesce(proconfig::text, ''),
            proacl IS NOT NULL AND NOT EXISTS (SELECT FROM aclexplode(proacl) WHERE grantee = 0)
        FROM pg_proc WHERE pronamespace = 'integration_credentials'::regnamespace";
    let functions = superuser.query(statement, &[]).await.unwrap();
    assert!(functions.len() >= 15);
    for function in &functions {
        let name: &str = function.get(0);
        // These run no SQL, and so need neither the owner's rights nor a search_path.
        let is_sql_free = [
            "get_integration_credentials",
            "get_integration_credentials_which",
            "get_integration_credentials_with_revision",
            "get_valid_integration_credentials",
            "get_aggregator_credentials",
            "list_all_integrations",
            "list_integrations_of",
        ]
        .contains(&name);
        // A procedure that commits cannot pin its search_path. `keys` calls it with a hostile one.
        let is_sql_free = is_sql_free || name == "reencrypt";
        let pinned = if is_sql_free { "" } else { r#"{"search_path=pg_catalog, pg_temp"}"# };
        assert_eq!(function.get::<_, &str>(3), pinned, "{name}");
        assert!(function.get::<_, bool>(4), "{name} is open to PUBLIC");
        assert!(!function.get::<_, bool>(2), "{name} is STRICT");
        // What runs as the owner is for those who are granted it; what asks for a superuser runs as the caller. Those that
        // begin with admin_ see to it themselves that they run as the owner, and write down who called.
        let definer = [
            "audit_head",
            "audit_proof",
            "audit_sealed",
            "describe_integrations",
            "list_integrations",
            "purge_previous",
            "record_tool_failure",
        ]
        .contains(&name);
        assert_eq!(function.get::<_, bool>(1), definer, "{name}");
    }
    let public = "SELECT count(*) FROM pg_class c, aclexplode(c.relacl) WHERE grantee = 0
                  AND relnamespace = 'integration_credentials'::regnamespace";
    assert_eq!(superuser.query_one(public, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_careless_grant_of_a_superusers_function_opens_nothing() {
    let database = Cluster::shared().database().await;
    let superuser = database.superuser().await;
    let grant = format!("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA integration_credentials TO {ADMIN}");
    superuser.batch_execute(&grant).await.unwrap();
    let admin = database.connect(ADMIN).await;
    for call in [
        "register_validator('slack', NULL)",
        "register_sync_handler('slack', NULL)",
        "keyring_status()",
        "check_all_credentials()",
        "reencrypt_batch(1, true)",
    ] {
        let result = admin.batch_execute(&format!("SELECT integration_credentials.{call}")).await;
        if is_of_a_later_version(&result) {
            continue;
        }
        let error = assert_error(result, ErrorCode::ForbiddenAdminScope);
        assert!(error.message().contains("superuser"), "{error:?}");
    }
}

/// Everything that a role can put in the way of names: schemas, operators, casts, functions and temporary objects.
async fn attack(database: &Database) -> String {
    let superuser = database.superuser().await;
    superuser.batch_execute(&format!("CREATE SCHEMA evil AUTHORIZATION {ADMIN}")).await.unwrap();
    let temporary = [
        "integration_catalog",
        "configured_integrations",
        "webapp_org_admin_audit_log",
        "tool_metering",
        "pg_proc",
        "pg_namespace",
    ]
    .map(|table| format!("CREATE TEMP TABLE {table} (LIKE evil.bait);"))
    .concat();
    format!(
        "SET search_path = evil, pg_temp, integration_credentials, pg_catalog;
         CREATE TABLE evil.log (secret pg_catalog.text);
         CREATE TABLE evil.bait (integration_key pg_catalog.text, is_enabled pg_catalog.bool);
         {temporary}
         CREATE FUNCTION evil.steal(a pg_catalog.text, b pg_catalog.text) RETURNS pg_catalog.bool LANGUAGE plpgsql
             AS $$ BEGIN INSERT INTO evil.log VALUES (a || b); RETURN true; END $$;
         CREATE OPERATOR evil.= (LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text, FUNCTION = evil.steal);
         CREATE OPERATOR evil.<> (LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text, FUNCTION = evil.steal);
         CREATE FUNCTION evil.clock_timestamp() RETURNS pg_catalog.timestamptz LANGUAGE sql
             AS $$ INSERT INTO evil.log VALUES ('clock'); SELECT pg_catalog.now() $$;
         CREATE FUNCTION evil.current_org() RETURNS pg_catalog.text LANGUAGE sql AS $$ SELECT 'victim' $$;
         CREATE FUNCTION evil.format(VARIADIC pg_catalog.text[]) RETURNS pg_catalog.text LANGUAGE sql
             AS $$ SELECT 'evil' $$;
         CREATE DOMAIN evil.text AS pg_catalog.text CHECK (evil.steal(VALUE, ''));
         CREATE DOMAIN evil.jsonb AS pg_catalog.jsonb;"
    )
}

#[tokio::test]
async fn what_an_attacker_puts_on_the_search_path_changes_nothing() {
    let database = Cluster::shared().database().await;
    let admin = database.connect(ADMIN).await;
    let reader = database.connect(READER).await;
    register(&admin, ANY, json!({})).await.unwrap();
    admin.batch_execute(&attack(&database).await).await.unwrap();
    let canary = Canary::new();

    set(&admin, ANY, canary.as_str()).await.unwrap();
    set(&admin, "trustradius", canary.as_str()).await.unwrap();
    register(&admin, "another", json!({"minLength": 2})).await.unwrap();
    let listed = "SELECT count(*) FROM integration_credentials.list_integrations() WHERE \"hasCredentials\"";
    assert_eq!(admin.query_one(listed, &[]).await.unwrap().get::<_, i64>(0), 2);
    let grant =
        format!("GRANT USAGE ON SCHEMA evil TO {READER}, {AUDITOR}; GRANT SELECT ON evil.log TO {READER}");
    admin.batch_execute(&grant).await.unwrap();
    reader.batch_execute("SET search_path = evil, pg_catalog").await.unwrap();
    assert_eq!(get(&reader, ANY).await.unwrap(), canary.as_str());
    let auditor = database.connect(AUDITOR).await;
    auditor.batch_execute("SET search_path = evil, pg_catalog").await.unwrap();
    let rows = auditor.query("SELECT id FROM integration_credentials.audit_log", &[]).await.unwrap();
    assert_eq!(rows.len(), 4);

    let stolen = "SELECT pg_catalog.count(*) FROM evil.log";
    assert_eq!(reader.query_one(stolen, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn default_privileges_of_who_installs_it_grant_nothing() {
    let database = Cluster::shared().empty_database().await;
    // Makes the login roles, should no other test have done so.
    Cluster::shared().database().await;
    let superuser = database.superuser().await;
    let install = ["TABLES", "SEQUENCES", "FUNCTIONS", "SCHEMAS"]
        .map(|kind| format!("ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO {OUTSIDER};"))
        .concat();
    superuser.batch_execute(&format!("{install} CREATE EXTENSION integration_credentials")).await.unwrap();
    let kept = "SELECT count(*) FROM (
            SELECT nspacl AS acl, nspowner AS owner FROM pg_namespace WHERE nspname = 'integration_credentials'
            UNION ALL SELECT relacl, relowner FROM pg_class
                WHERE relnamespace = 'integration_credentials'::regnamespace
            UNION ALL SELECT proacl, proowner FROM pg_proc
                WHERE pronamespace = 'integration_credentials'::regnamespace) t, aclexplode(acl)
        WHERE grantee <> owner AND grantee <> 'pg_monitor'::regrole";
    assert_eq!(superuser.query_one(kept, &[]).await.unwrap().get::<_, i64>(0), 0);
    // The schema, and the view of reencryptions with its function.
    let monitors = kept.replace("AND grantee <>", "AND grantee =");
    assert_eq!(superuser.query_one(&monitors, &[]).await.unwrap().get::<_, i64>(0), 3);
    let outsider = database.connect(OUTSIDER).await;
    assert_error(get(&outsider, "slack").await, ErrorCode::ForbiddenAdminScope);
}
