//! The audit log: the actor, and the two roles that the caller does not choose.

use crate::helpers::calls::{ANY, SealTo, remove, revision, set, set_raw};
use crate::helpers::fixture::{admin, sqlstate};
use serde_json::{Value, json};
use tests::{ADMIN, Cluster};

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
