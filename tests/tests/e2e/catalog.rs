//! The catalog: what it ships with, and what an admin can do to it.

use crate::helpers::calls::{ANY, count, enable, get, register, remove, set};
use crate::helpers::fixture::{Fixture, WAITING, plpgsql, until};
use integration_credentials_core::error::ErrorCode;
use serde_json::{Value, json};
use tests::{ADMIN, Canary, Cluster, Database, READER, Session, assert_error};
use tokio_postgres::types::ToSql;

async fn admin() -> (Database, Session) {
    let database = Cluster::shared().database().await;
    let admin = database.connect(ADMIN).await;
    (database, admin)
}

async fn unregister(session: &Session, key: &str) -> Result<(), tokio_postgres::Error> {
    let statement = "SELECT integration_credentials.admin_unregister_integration($1, 'actor')";
    session.execute(statement, &[&key]).await.map(drop)
}

#[tokio::test]
async fn each_shipped_entry_is_documented_and_takes_a_value_of_its_form() {
    let (database, admin) = admin().await;
    let uuid = "01234567-89ab-cdef-0123-456789abcdef";
    let alphanumeric = Canary::new();
    let salesforce = |secret: &str| {
        json!({"instance_url": "https://example.my.salesforce.com", "client_id": "3MVG9.A_b", "client_secret": secret})
            .to_string()
    };
    let forms = [
        (
            "github",
            vec![format!("github_pat_{alphanumeric}"), format!("ghp_{alphanumeric}")],
            "gitlab_xxxxxxxxxxxxxxx",
        ),
        ("hginsights_v2", vec![format!("hg_v2_{alphanumeric}")], "hg_v1_xxxxxxxx"),
        ("hubspot", vec![format!("pat-na1-{uuid}"), format!("pat-eu1-{uuid}")], "pat-na1-0123"),
        ("salesforce", vec![salesforce(alphanumeric.as_str())], "{\"client_id\": \"3MVG9\"}"),
        ("slack", vec![format!("xoxb-1234-5678-{alphanumeric}")], "xapp-1-A123-4567-xxxxxxxxxxxx"),
        ("stripe", vec![format!("rk_live_{alphanumeric}")], "pk_live_xxxxxxxxxxxxxxxxxxxx"),
        ("trustradius", vec![alphanumeric.to_string()], "with a blank"),
    ];
    let described = "SELECT key, \"docsUrl\", example, \"isEnabled\"
                     FROM integration_credentials.describe_integrations()";
    let described = admin.query(described, &[]).await.unwrap();
    assert_eq!(described.len(), forms.len());
    for (row, (key, good, bad)) in described.iter().zip(forms) {
        assert_eq!(row.get::<_, &str>(0), key);
        assert!(row.get::<_, &str>(1).starts_with("https://"), "{key}");
        assert!(!row.get::<_, &str>(2).is_empty() && row.get::<_, bool>(3), "{key}");
        for value in good {
            set(&admin, key, &value).await.unwrap_or_else(|error| panic!("{key}: {error:?}"));
        }
        let error = assert_error(set(&admin, key, bad).await, ErrorCode::InvalidCredentials);
        assert!(!error.message().contains(bad), "{key}: {error:?}");
    }
    assert_eq!(get(&database.connect(READER).await, "trustradius").await.unwrap(), alphanumeric.as_str());
}

#[tokio::test]
async fn a_schema_refusal_names_the_rule_and_nothing_of_the_value() {
    let (_, admin) = admin().await;
    let canary = Canary::new();
    let base =
        json!({"instance_url": "https://x.salesforce.com", "client_id": "id", "client_secret": "secret"});
    let with = |key: &str, value: Value| {
        let mut document = base.clone();
        document[key] = value;
        document.to_string()
    };
    for (value, expected) in [
        (canary.to_string(), "not JSON"),
        (with("instance_url", canary.as_str().into()), "/properties/instance_url/pattern"),
        (with("client_id", json!([canary.as_str()])), "/properties/client_id/type"),
        (with(canary.as_str(), json!(1)), "/additionalProperties"),
        (json!({"client_id": canary.as_str()}).to_string(), "\"instance_url\""),
    ] {
        let error = assert_error(set(&admin, "salesforce", &value).await, ErrorCode::InvalidCredentials);
        assert!(error.message().contains(expected), "{error:?}");
        canary.assert_absent(&error);
    }
}

#[tokio::test]
async fn registering_adds_or_replaces_and_keeps_the_rest() {
    let (database, admin) = admin().await;
    register(&admin, ANY, json!({"minLength": 5})).await.unwrap();
    assert_error(set(&admin, ANY, "1234").await, ErrorCode::InvalidCredentials);
    set(&admin, ANY, "12345").await.unwrap();
    enable(&admin, ANY, false).await.unwrap();

    // Other rules from the next call on, in a session that has used the old ones; still disabled, still the value.
    let replaced = register(&admin, ANY, json!({"prefix": "p-"})).await.unwrap();
    assert_eq!(replaced, json!({"key": ANY, "displayName": ANY, "isEnabled": false}));
    enable(&admin, ANY, true).await.unwrap();
    assert_error(set(&admin, ANY, "12345").await, ErrorCode::InvalidCredentials);
    assert_eq!(get(&database.connect(READER).await, ANY).await.unwrap(), "12345");

    let superuser = database.superuser().await;
    let audit = "SELECT metadata FROM integration_credentials.webapp_org_admin_audit_log
                 WHERE action = 'register_integration' ORDER BY id";
    let metadata: Vec<Value> =
        superuser.query(audit, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(metadata, [json!({"wasUpdate": false}), json!({"wasUpdate": true})]);
}

#[tokio::test]
async fn rules_that_could_not_be_checked_are_refused_at_registration() {
    let (_, admin) = admin().await;
    for (rules, expected) in [
        (json!({"minLenght": 1}), "minLenght"),
        (json!({"minLength": 9, "maxLength": 8}), "greater"),
        (json!({"pattern": "("}), "pattern"),
        (json!({"pattern": "(a)\\1"}), "backreferences"),
        (json!({"schema": {"type": "strnig"}}), "schema"),
        (json!({"schema": {"$ref": "https://example.com/schema.json"}}), "$ref is not supported"),
        (json!({"schema": {"allOf": [{"$ref": "#/$defs/a"}]}}), "$ref is not supported"),
        (json!({"schema": {"description": "x".repeat(65536)}}), "at most 65536"),
        (json!([]), "form"),
    ] {
        let error = assert_error(register(&admin, ANY, rules.clone()).await, ErrorCode::InvalidRequest);
        assert!(error.message().contains(expected), "{rules}: {error:?}");
    }
    assert_error(set(&admin, ANY, "value").await, ErrorCode::IntegrationNotFound);
}

#[tokio::test]
async fn a_disabled_entry_stops_reads_and_writes_but_not_removal() {
    let (database, admin) = admin().await;
    let reader = database.connect(READER).await;
    register(&admin, ANY, json!({})).await.unwrap();
    set(&admin, ANY, "value").await.unwrap();
    enable(&admin, ANY, false).await.unwrap();
    assert_error(set(&admin, ANY, "other").await, ErrorCode::IntegrationDisabled);
    assert_error(get(&reader, ANY).await, ErrorCode::IntegrationDisabled);
    enable(&admin, ANY, true).await.unwrap();
    assert_eq!(get(&reader, ANY).await.unwrap(), "value");

    enable(&admin, ANY, false).await.unwrap();
    let removed = remove(&admin, ANY).await.unwrap();
    assert_eq!((&removed["isConfigured"], &removed["hasCredentials"]), (&json!(true), &json!(false)));
    enable(&admin, ANY, true).await.unwrap();
    assert_error(get(&reader, ANY).await, ErrorCode::CredentialsNotSet);
    assert_error(remove(&admin, ANY).await, ErrorCode::CredentialsNotSet);
    assert_error(enable(&admin, "nowhere", false).await, ErrorCode::IntegrationNotFound);
}

#[tokio::test]
async fn the_list_shows_state_and_never_a_value() {
    let (database, admin) = admin().await;
    register(&admin, ANY, json!({})).await.unwrap();
    let state = || async {
        let list =
            "SELECT \"isEnabled\", \"isConfigured\", \"hasCredentials\", revision, \"updatedAt\" IS NOT NULL
                    FROM integration_credentials.list_integrations() WHERE key = 'any'";
        let row = admin.query_one(list, &[]).await.unwrap();
        let revision: i64 = row.get(3);
        ([0, 1, 2, 4].map(|column| row.get::<_, bool>(column)), revision)
    };
    assert_eq!(state().await, ([true, false, false, false], 0));
    let canary = Canary::new();
    set(&admin, ANY, canary.as_str()).await.unwrap();
    assert_eq!(state().await, ([true, true, true, true], 1));
    remove(&admin, ANY).await.unwrap();
    enable(&admin, ANY, false).await.unwrap();
    assert_eq!(state().await, ([false, true, false, true], 2));
    let auditor = database.connect(tests::AUDITOR).await;
    let rows = auditor.query("SELECT t::text FROM integration_credentials.list_integrations() t", &[]).await;
    canary.assert_absent(&rows.unwrap().iter().map(|row| row.get(0)).collect::<Vec<String>>());
}

#[tokio::test]
async fn an_entry_in_use_stays_and_an_unused_one_goes() {
    let (database, admin) = admin().await;
    set(&admin, "trustradius", "value-of-tr").await.unwrap();
    let error = assert_error(unregister(&admin, "trustradius").await, ErrorCode::InvalidRequest);
    assert!(error.message().contains("in use"), "{error:?}");
    remove(&admin, "trustradius").await.unwrap();
    let superuser = database.superuser().await;
    assert_eq!(count(&superuser, "aggregator_credentials").await, 0, "no copy outlives the credential");
    unregister(&superuser, "trustradius").await.unwrap();
    assert_error(unregister(&admin, "trustradius").await, ErrorCode::IntegrationNotFound);
    assert_error(set(&admin, "trustradius", "value-of-tr").await, ErrorCode::IntegrationNotFound);
}

#[tokio::test]
async fn rules_that_only_jsonb_can_hold_are_refused() {
    let (_, admin) = admin().await;
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for rules in
        [format!(r#"{{"schema": {{"enum": {deep}}}}}"#), r#"{"schema": {"maximum": 1e400}}"#.to_owned()]
    {
        let statement = "SELECT integration_credentials.admin_register_integration('any', 'any', 'actor', $1::text::jsonb)";
        assert_error(admin.query(statement, &[&rules]).await, ErrorCode::InvalidRequest);
    }
}

/// A caller whose snapshot is older than a change of the catalog does not act on what it still sees.
#[tokio::test]
async fn an_old_snapshot_does_not_get_past_the_catalog() {
    let (database, admin) = admin().await;
    let other = database.connect(ADMIN).await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class";
    admin.batch_execute(begin).await.unwrap();
    enable(&other, "trustradius", false).await.unwrap();
    assert_error(set(&admin, "trustradius", "some-value").await, ErrorCode::IntegrationDisabled);
    admin.batch_execute("ROLLBACK").await.unwrap();

    admin.batch_execute(begin).await.unwrap();
    unregister(&other, "slack").await.unwrap();
    let late = set(&admin, "slack", "xoxb-1234-5678-9012345678").await;
    assert_error(late, ErrorCode::IntegrationNotFound);
    admin.batch_execute("ROLLBACK").await.unwrap();

    admin.batch_execute(begin).await.unwrap();
    assert_error(unregister(&admin, "hubspot").await, ErrorCode::InvalidRequest);
    admin.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn an_entry_that_two_register_at_once_is_registered_once() {
    let (database, _) = admin().await;
    let sessions = [database.connect(ADMIN).await, database.connect(ADMIN).await];
    for session in &sessions {
        session.batch_execute("BEGIN").await.unwrap();
    }
    register(&sessions[0], ANY, json!({})).await.unwrap();
    let second = async {
        let registered = register(&sessions[1], ANY, json!({"minLength": 2})).await;
        sessions[1].batch_execute("COMMIT").await.unwrap();
        registered
    };
    let (second, ()) = tokio::join!(second, async { sessions[0].batch_execute("COMMIT").await.unwrap() });
    second.unwrap();
    assert_error(set(&sessions[0], ANY, "1").await, ErrorCode::InvalidCredentials);
}

/// To take a function off an entry takes a superuser, in whatever way it is tried.
#[tokio::test]
async fn an_entry_with_a_superusers_function_is_not_for_an_admin_to_unregister() {
    let fixture = Fixture::new().await;
    let Fixture { admin, superuser, .. } = &fixture;
    let handler = "app.sync(org_slug text, key text, value text) RETURNS void";
    fixture.validator("RETURN 'no'").await;
    fixture.as_owner(&format!("CREATE FUNCTION {}", plpgsql(handler, "NULL"))).await;
    register(admin, "synced", json!({})).await.unwrap();
    let mode: &(dyn ToSql + Sync) = &"background";
    fixture.register("sync_handler", &[&"synced", &"app.sync(text, text, text)", mode]).await.unwrap();
    let functions = "SELECT integration_key, validator, sync_handler, sync_mode
                     FROM integration_credentials.integration_catalog WHERE coalesce(validator, sync_handler) IS NOT NULL
                     ORDER BY integration_key";
    let named = || async {
        let rows = superuser.query(functions, &[]).await.unwrap();
        rows.iter().map(|row| (0..4).map(|at| row.get(at)).collect()).collect::<Vec<Vec<Option<String>>>>()
    };
    let before = named().await;
    assert_eq!(before.len(), 3, "with the one that ships");
    for key in [ANY, "synced", "trustradius"] {
        let error = assert_error(unregister(admin, key).await, ErrorCode::ForbiddenAdminScope);
        assert!(error.message().contains("only a superuser") && error.message().contains(key), "{error:?}");
        // What an admin may do to the entry leaves its functions alone.
        register(admin, key, json!({"minLength": 1})).await.unwrap();
        enable(admin, key, false).await.unwrap();
        enable(admin, key, true).await.unwrap();
    }
    assert_eq!(named().await, before);
    assert_error(set(admin, ANY, "value").await, ErrorCode::InvalidCredentials);

    // One that is named while an admin is about to take the entry out.
    register(admin, "named", json!({})).await.unwrap();
    superuser.batch_execute("BEGIN").await.unwrap();
    fixture.register("validator", &[&"named", &"app.check(text)"]).await.unwrap();
    let other = fixture.database.connect(ADMIN).await;
    let waiting = tokio::spawn(async move { unregister(&other, "named").await });
    until(&fixture.database.superuser().await, WAITING).await;
    superuser.batch_execute("COMMIT").await.unwrap();
    assert_error(waiting.await.unwrap(), ErrorCode::ForbiddenAdminScope);

    // A superuser may, as may an admin once the function is off.
    unregister(superuser, ANY).await.unwrap();
    fixture.register("sync_handler", &[&"synced", &None::<&str>, mode]).await.unwrap();
    unregister(admin, "synced").await.unwrap();
    // It is the caller that counts: not the owner of the extension's function, nor who logged in.
    superuser.batch_execute(&format!("SET ROLE {ADMIN}")).await.unwrap();
    assert_error(unregister(superuser, "trustradius").await, ErrorCode::ForbiddenAdminScope);
    superuser.batch_execute("RESET ROLE").await.unwrap();
}
