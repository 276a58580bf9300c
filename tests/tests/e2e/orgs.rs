//! Two orgs in one database, which cannot see each other.

use crate::helpers::calls::{ANY, count, get, register, remove, revision, set};
use integration_credentials_core::error::ErrorCode;
use serde_json::json;
use tests::{ADMIN, AUDITOR, Cluster, Database, READER, Session, assert_error};
use tokio_postgres::error::DbError;

/// What the role sees of the org in a session of its own.
async fn as_org(database: &Database, role: &str, org: &str) -> Session {
    database.set_role_org(role, org).await;
    database.connect(role).await
}

#[tokio::test]
async fn no_function_or_view_reaches_another_orgs_rows() {
    let database = Cluster::shared().database().await;
    let acme = as_org(&database, ADMIN, "acme").await;
    let globex = as_org(&database, ADMIN, "globex").await;
    register(&acme, ANY, json!({})).await.unwrap();
    set(&acme, ANY, "of acme").await.unwrap();
    set(&acme, "trustradius", "of-acme-too").await.unwrap();

    assert_eq!(revision(&globex, ANY).await, 0);
    assert_error(remove(&globex, ANY).await, ErrorCode::CredentialsNotSet);
    let globex_reader = as_org(&database, READER, "globex").await;
    assert_error(get(&globex_reader, ANY).await, ErrorCode::CredentialsNotSet);
    let aggregator = "SELECT integration_credentials.get_aggregator_credentials('trustradius')";
    assert_error(globex_reader.query_one(aggregator, &[]).await, ErrorCode::CredentialsNotSet);

    set(&globex, ANY, "of globex").await.unwrap();
    assert_eq!(get(&globex_reader, ANY).await.unwrap(), "of globex");
    assert_eq!(get(&as_org(&database, READER, "acme").await, ANY).await.unwrap(), "of acme");
    assert_eq!((revision(&acme, ANY).await, revision(&globex, ANY).await), (1, 1));

    for (org, rows) in [("acme", 3), ("globex", 1), ("initech", 0)] {
        let auditor = as_org(&database, AUDITOR, org).await;
        let seen =
            auditor.query("SELECT org_slug FROM integration_credentials.audit_log", &[]).await.unwrap();
        assert_eq!(seen.len(), rows, "{org}");
        assert!(seen.iter().all(|row| row.get::<_, &str>(0) == org));
    }
    assert_eq!(count(&database.superuser().await, "webapp_org_admin_audit_log").await, 4);
}

#[tokio::test]
async fn a_leaky_function_in_where_sees_the_own_orgs_rows_only() {
    let database = Cluster::shared().database().await;
    set(&as_org(&database, ADMIN, "acme").await, "trustradius", "of-acme-inc").await.unwrap();
    set(&as_org(&database, ADMIN, "globex").await, "trustradius", "of-globex-inc").await.unwrap();
    let superuser = database.superuser().await;
    superuser.batch_execute(&format!("GRANT CREATE ON SCHEMA public TO {AUDITOR}")).await.unwrap();
    let mut auditor = as_org(&database, AUDITOR, "acme").await;
    let peek = "CREATE FUNCTION public.peek(org text) RETURNS bool LANGUAGE plpgsql COST 0.0001
                    AS $$ BEGIN RAISE NOTICE '%', org; RETURN true; END $$;
                SELECT FROM integration_credentials.audit_log WHERE public.peek(org_slug)";
    auditor.batch_execute(peek).await.unwrap();
    let seen = auditor.notices();
    assert_eq!(seen.iter().map(DbError::message).collect::<Vec<_>>(), ["acme"]);
}

#[tokio::test]
async fn the_org_is_for_superusers_to_set_and_for_those_they_trust() {
    let database = Cluster::shared().database().await;
    let admin = as_org(&database, ADMIN, "acme").await;
    for attempt in [
        "SET integration_credentials.org_slug = 'globex'".to_owned(),
        "SELECT set_config('integration_credentials.org_slug', 'globex', false)".to_owned(),
        format!("ALTER ROLE {ADMIN} SET integration_credentials.org_slug = 'globex'"),
        "SET integration_credentials.no_such_setting = 'x'".to_owned(),
    ] {
        let error = admin.batch_execute(&attempt).await.unwrap_err();
        assert!(["42501", "42602"].contains(&error.code().unwrap().code()), "{attempt}: {error:?}");
    }
    // In the connection string, too.
    let options = format!("{} options='-c integration_credentials.org_slug=globex'", database.dsn(ADMIN));
    assert!(tokio_postgres::connect(&options, tokio_postgres::NoTls).await.is_err());

    // A role of its own, for roles are the whole cluster's.
    let service = format!("service_of_{}", database.name());
    let superuser = database.superuser().await;
    let trust = format!(
        "CREATE ROLE {service} LOGIN IN ROLE integration_credentials_reader;
         GRANT SET ON PARAMETER integration_credentials.org_slug TO {service}"
    );
    superuser.batch_execute(&trust).await.unwrap();
    set(&admin, "trustradius", "of-acme-inc").await.unwrap();
    let service = database.connect(&service).await;
    service.batch_execute("SET integration_credentials.org_slug = 'acme'").await.unwrap();
    assert_eq!(get(&service, "trustradius").await.unwrap(), "of-acme-inc");
}

#[tokio::test]
async fn unset_or_empty_the_org_is_the_databases_name_and_too_long_it_is_refused() {
    let database = Cluster::shared().database().await;
    let org = |session: Session| async move {
        session.query_one("SELECT integration_credentials.current_org()", &[]).await.map(|row| row.get(0))
    };
    let own: String = org(database.connect(ADMIN).await).await.unwrap();
    assert_eq!(own, database.name());
    database.set_org("").await;
    let own: String = org(database.connect(ADMIN).await).await.unwrap();
    assert_eq!(own, database.name());
    database.set_org(&"é".repeat(255)).await;
    let own: String = org(database.connect(ADMIN).await).await.unwrap();
    assert_eq!(own.chars().count(), 255);
    database.set_org(&"é".repeat(256)).await;
    let refused: Result<String, _> = org(database.connect(ADMIN).await).await;
    assert_error(refused, ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn a_ciphertext_that_is_moved_to_another_org_or_key_does_not_authenticate() {
    let database = Cluster::shared().database().await;
    let acme = as_org(&database, ADMIN, "acme").await;
    set(&acme, "trustradius", "of-acme-inc").await.unwrap();
    register(&acme, ANY, json!({})).await.unwrap();
    let superuser = database.superuser().await;
    let moves =
        "INSERT INTO integration_credentials.configured_integrations (org_slug, integration_key, ciphertext)
        SELECT v.org, v.key, c.ciphertext FROM integration_credentials.configured_integrations c,
            (VALUES ('globex', 'trustradius'), ('acme', 'any')) v (org, key);
        INSERT INTO integration_credentials.configured_integrations (org_slug, integration_key, ciphertext)
        SELECT 'acme', 'slack', ciphertext FROM integration_credentials.aggregator_credentials;
        UPDATE integration_credentials.aggregator_credentials a SET ciphertext = c.ciphertext
        FROM integration_credentials.configured_integrations c WHERE c.org_slug = 'acme'
            AND c.integration_key = 'trustradius'";
    superuser.batch_execute(moves).await.unwrap();
    let reader = as_org(&database, READER, "acme").await;
    assert_eq!(get(&reader, "trustradius").await.unwrap(), "of-acme-inc");
    for key in [ANY, "slack"] {
        assert_error(get(&reader, key).await, ErrorCode::EncryptionUnavailable);
    }
    let aggregator = "SELECT integration_credentials.get_aggregator_credentials('trustradius')";
    assert_error(reader.query_one(aggregator, &[]).await, ErrorCode::EncryptionUnavailable);
    let reader = as_org(&database, READER, "globex").await;
    assert_error(get(&reader, "trustradius").await, ErrorCode::EncryptionUnavailable);
    // Setting it again is the way out.
    set(&as_org(&database, ADMIN, "globex").await, "trustradius", "of-globex-inc").await.unwrap();
    assert_eq!(get(&reader, "trustradius").await.unwrap(), "of-globex-inc");
}

#[tokio::test]
async fn a_function_of_another_orgs_role_reaches_nothing_of_the_session_that_runs_it() {
    let database = Cluster::shared().database().await;
    let superuser = database.superuser().await;
    superuser
        .batch_execute(&format!(
            "ALTER DATABASE {} SET integration_credentials.org_slug = 'acme'",
            database.name()
        ))
        .await
        .unwrap();
    let acme = database.connect(ADMIN).await;
    register(&acme, ANY, json!({})).await.unwrap();
    set(&acme, ANY, "of acme").await.unwrap();

    // A reader of globex, and one of acme, who each own a function that anybody may call.
    let globex = format!("globex_of_{}", database.name());
    let own = format!("own_of_{}", database.name());
    for (role, schema) in [(&globex, "globex"), (&own, "own")] {
        superuser
            .batch_execute(&format!(
                "CREATE ROLE {role} LOGIN IN ROLE integration_credentials_reader;
                 CREATE SCHEMA {schema} AUTHORIZATION {role};
                 GRANT USAGE ON SCHEMA {schema} TO PUBLIC;
                 SET ROLE {role};
                 CREATE TABLE {schema}.seen (what text);
                 CREATE FUNCTION {schema}.peek() RETURNS text LANGUAGE sql SECURITY DEFINER
                     AS $$ SELECT integration_credentials.get_integration_credentials('any') $$;
                 CREATE FUNCTION {schema}.peek_all() RETURNS text LANGUAGE sql SECURITY DEFINER
                     AS $$ SELECT max(value) FROM integration_credentials.get_all_integration_credentials() $$;
                 CREATE FUNCTION {schema}.note(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
                     INSERT INTO {schema}.seen
                         SELECT integration_credentials.get_integration_credentials('any');
                     RETURN i;
                 EXCEPTION WHEN OTHERS THEN RETURN i; END $$;
                 CREATE FUNCTION {schema}.indexed(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql
                     AS $$ BEGIN RETURN {schema}.note(i); END $$;
                 CREATE TABLE {schema}.bait (i int);
                 RESET ROLE"
            ))
            .await
            .unwrap();
    }
    superuser
        .batch_execute(&format!("ALTER ROLE {globex} SET integration_credentials.org_slug = 'globex'"))
        .await
        .unwrap();

    let reader = database.connect(READER).await;
    for function in ["peek", "peek_all"] {
        let own = reader.query_one(&format!("SELECT own.{function}()"), &[]).await.unwrap();
        assert_eq!(own.get::<_, &str>(0), "of acme", "{function}");
        let error = reader.query_one(&format!("SELECT globex.{function}()"), &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{function}: {error:?}");
    }
    // SET ROLE is the session's own choice. The other superuser's session is older than the setting of the database.
    let superuser = database.superuser().await;
    superuser.batch_execute(&format!("SET ROLE {globex}")).await.unwrap();
    assert_eq!(get(&superuser, ANY).await.unwrap(), "of acme");
    superuser.batch_execute("RESET ROLE").await.unwrap();

    // What maintenance runs for the owner of a table, in a session of this org.
    superuser
        .batch_execute(
            "INSERT INTO globex.bait VALUES (1), (2);
             CREATE INDEX ON globex.bait (globex.indexed(i));
             ANALYZE globex.bait;
             REINDEX TABLE globex.bait",
        )
        .await
        .unwrap();
    let seen = superuser.query_one("SELECT count(*) FROM globex.seen", &[]).await.unwrap();
    assert_eq!(seen.get::<_, i64>(0), 0);
}
