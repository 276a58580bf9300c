//! Sealed values: encrypted by the client, so that no SQL ever holds the plaintext.

use crate::fixture::{CHECK, Fixture, plpgsql};
use crate::support::{ANY, count, enable, get, register, revision};
use base64::{Engine, engine::general_purpose::STANDARD};
use integration_credentials_core::{
    error::ErrorCode,
    keyring::Keyring,
    limits::MAX_VALUE_CHARS,
    seal::{self, MAX_SEALED_BYTES, SealingKey},
};
use serde_json::{Value, json};
use std::fs;
use tests::{ADMIN, Canary, Cluster, Database, READER, Session, Shutdown, assert_error, intcred, run};
use tokio_postgres::Error;

async fn admin() -> (Database, Session) {
    let database = Cluster::shared().database().await;
    database.set_org("acme").await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    (database, admin)
}

async fn sealing_key(session: &Session) -> SealingKey {
    let row = session.query_one("SELECT integration_credentials.sealing_key()", &[]).await.unwrap();
    let answer: Value = row.get(0);
    assert_eq!(answer["org"], "acme");
    let public = STANDARD.decode(answer["publicKey"].as_str().unwrap()).unwrap();
    SealingKey { id: answer["keyId"].as_str().unwrap().to_owned(), public: public.try_into().unwrap() }
}

async fn set_sealed(session: &Session, key: &str, sealed: Option<&[u8]>) -> Result<Value, Error> {
    let statement =
        "SELECT integration_credentials.admin_set_integration_credentials_sealed($1, $2, 'actor')";
    session.query_one(statement, &[&key, &sealed]).await.map(|row| row.get(0))
}

#[tokio::test]
async fn a_sealed_value_is_set_like_any_other() {
    let (database, admin) = admin().await;
    let canary = Canary::new();
    for (sealed_for, was_update) in [(canary.to_string(), false), ("😀".repeat(MAX_VALUE_CHARS), true)] {
        let sealed = seal::seal(&sealing_key(&admin).await, "acme", ANY, &sealed_for).unwrap();
        let result = set_sealed(&admin, ANY, Some(&sealed)).await.unwrap();
        assert_eq!((&result["key"], &result["hasCredentials"]), (&json!(ANY), &json!(true)));
        assert_eq!(get(&database.connect(READER).await, ANY).await.unwrap(), sealed_for);
        let superuser = database.superuser().await;
        let audit = "SELECT metadata FROM integration_credentials.webapp_org_admin_audit_log
                     WHERE action = 'set_integration_credentials' ORDER BY id DESC LIMIT 1";
        let metadata: Value = superuser.query_one(audit, &[]).await.unwrap().get(0);
        assert_eq!(metadata, json!({"wasUpdate": was_update}));
    }
    let metering = "SELECT metadata FROM integration_credentials.tool_metering
                    WHERE tool_key = 'admin_set_integration_credentials_sealed' LIMIT 1";
    let metadata: Value = database.superuser().await.query_one(metering, &[]).await.unwrap().get(0);
    assert_eq!(metadata, json!({"parameters": {"key": ANY, "sealed": "<redacted>", "actor": "actor"}}));
}

#[tokio::test]
async fn what_does_not_open_is_refused_with_its_reason_and_stores_nothing() {
    let (database, admin) = admin().await;
    let to = sealing_key(&admin).await;
    let canary = Canary::new();
    let good = seal::seal(&to, "acme", ANY, canary.as_str()).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let unknown = SealingKey { id: "kdeadbeef".into(), ..to.clone() };
    let another = seal::sealing_key(&Keyring::generate().unwrap());
    let forged = SealingKey { id: to.id.clone(), public: another.public };
    let seal =
        |to: &SealingKey, org: &str, key: &str, value: &str| Some(seal::seal(to, org, key, value).unwrap());
    for (sealed, expected) in [
        (None, "NULL"),
        (Some(vec![]), "0 bytes"),
        (Some(vec![1; MAX_SEALED_BYTES + 1]), "bytes"),
        (Some(good[..20].to_vec()), "truncated"),
        (Some(good[..good.len() - 1].to_vec()), "does not open"),
        (Some(flipped), "does not open"),
        (Some(canary.as_str().into()), "truncated"),
        (seal(&to, "acme", "slack", canary.as_str()), "does not open"),
        (seal(&to, "globex", ANY, canary.as_str()), "does not open"),
        (seal(&forged, "acme", ANY, canary.as_str()), "does not open"),
        (seal(&unknown, "acme", ANY, canary.as_str()), "kdeadbeef"),
        (seal(&to, "acme", ANY, &"x".repeat(8193)), "8193 characters"),
        (seal(&to, "acme", ANY, ""), "is empty"),
    ] {
        let error = set_sealed(&admin, ANY, sealed.as_deref()).await;
        let error = assert_error(error, ErrorCode::InvalidRequest);
        assert!(error.message().contains(expected), "{expected}: {error:?}");
        canary.assert_absent(&error);
    }
    assert_eq!(count(&database.superuser().await, "configured_integrations").await, 0);

    let nowhere = seal(&to, "acme", "nowhere", "value");
    let error = set_sealed(&admin, "nowhere", nowhere.as_deref()).await;
    assert_error(error, ErrorCode::IntegrationNotFound);
    enable(&admin, ANY, false).await.unwrap();
    assert_error(set_sealed(&admin, ANY, Some(&good)).await, ErrorCode::IntegrationDisabled);
}

#[tokio::test]
async fn rules_validators_and_handlers_see_the_value_and_scrub_it() {
    let fixture = Fixture::new().await;
    let canary = Canary::new();
    let admin = fixture.connect_as(ADMIN, "acme").await;
    let sealed = seal::seal(&sealing_key(&admin).await, "acme", ANY, canary.as_str()).unwrap();
    fixture.validator("RETURN 'not ' || value").await;
    let error = assert_error(set_sealed(&admin, ANY, Some(&sealed)).await, ErrorCode::InvalidCredentials);
    assert_eq!(error.message(), "not <redacted>");
    let accept = format!(
        "CREATE OR REPLACE FUNCTION {}",
        plpgsql(CHECK, &format!("RETURN nullif(value, '{canary}')"))
    );
    fixture.as_owner(&accept).await;
    set_sealed(&admin, ANY, Some(&sealed)).await.unwrap();
    register(&admin, ANY, json!({"prefix": "another"})).await.unwrap();
    let error = assert_error(set_sealed(&admin, ANY, Some(&sealed)).await, ErrorCode::InvalidCredentials);
    canary.assert_absent(&error);
}

#[tokio::test]
async fn old_keys_still_open_and_retired_ones_are_named() {
    let mut cluster = Cluster::private();
    let database = cluster.database().await;
    database.set_org("acme").await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    let old = sealing_key(&admin).await;
    let sealed = seal::seal(&old, "acme", ANY, "value").unwrap();
    let mut keyring = Keyring::parse(&cluster.keyring()).unwrap();
    keyring.add_key().unwrap();
    fs::write(cluster.keyring_file(), keyring.to_document().unwrap().as_bytes()).unwrap();
    let later = database.connect(ADMIN).await;
    assert_ne!(sealing_key(&later).await, old);
    set_sealed(&later, ANY, Some(&sealed)).await.unwrap();

    cluster.stop(Shutdown::Fast);
    let retired = Keyring::generate().unwrap().to_document().unwrap();
    fs::write(cluster.keyring_file(), retired.as_bytes()).unwrap();
    cluster.start();
    let admin = database.connect(ADMIN).await;
    let error = assert_error(set_sealed(&admin, ANY, Some(&sealed)).await, ErrorCode::InvalidRequest);
    assert!(error.message().contains(&old.id), "{error:?}");
    assert_eq!(revision(&admin, ANY).await, 1);
}

/// Everything that can be turned on, and nothing is seen: what SQL has is sealed.
#[tokio::test]
async fn with_logging_at_its_loudest_a_sealed_value_is_nowhere() {
    let mut cluster = Cluster::builder()
        .preload("auto_explain")
        .preload("pg_stat_statements")
        .setting("log_statement", "all")
        .setting("log_min_duration_statement", "0")
        .setting("log_min_messages", "debug5")
        .setting("log_parameter_max_length_on_error", "-1")
        .setting("debug_print_parse", "on")
        .setting("debug_print_plan", "on")
        .setting("debug_print_rewritten", "on")
        .setting("auto_explain.log_min_duration", "0")
        .setting("auto_explain.log_nested_statements", "on")
        .setting("auto_explain.log_verbose", "on")
        .setting("pg_stat_statements.track", "all")
        .start();
    let database = cluster.database().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    let (sealed, shown) = (Canary::new(), Canary::new());
    let dsn = database.dsn(ADMIN);
    for (arguments, value) in [(&["set", ANY][..], &sealed), (&["set", "trustradius"], &sealed)] {
        let set = run(intcred().args(["--dsn", &dsn]).args(arguments), value.as_str().as_bytes()).await;
        sealed.assert_absent(&set);
        assert_eq!(set.code, 0, "{set:?}");
    }
    for key in ["slack", "nowhere"] {
        let set = run(intcred().args(["--dsn", &dsn, "set", key]), sealed.as_str().as_bytes()).await;
        assert_eq!(set.code, 1, "{set:?}");
        sealed.assert_absent(&set);
    }
    // So that finding nothing means something: the parameter of another statement is seen.
    admin.query_one("SELECT $1::text", &[&shown.as_str()]).await.unwrap();
    cluster.stop(Shutdown::Fast);
    assert_eq!(sealed.search(&cluster.data_dir()), []);
    assert!(!shown.search(&cluster.data_dir()).is_empty());
}
