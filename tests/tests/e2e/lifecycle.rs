//! The life of a credential after the set: pending and previous values, from every state by every call.

use crate::consumers::settle;
use crate::helpers::{
    calls::{ANY, SealTo, get, register, remove, set},
    fixture::{Fixture, WAITING, admin, assert_unlogged, heard, sqlstate, until},
};
use futures_util::future::join_all;
use integration_credentials_core::{error::ErrorCode, event::Event};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tests::{ADMIN, AUDITOR, Canary, Database, READER, Session, assert_error, document::assert_generated};
use tokio_postgres::Error;

async fn json(session: &Session, call: &str) -> Result<Value, Error> {
    let statement = format!("SELECT integration_credentials.{call}");
    session.query_one(&statement, &[]).await.map(|row| row.get(0))
}

async fn set_with(session: &Session, key: &str, value: &str, options: Value) -> Result<Value, Error> {
    let statement = "SELECT integration_credentials.admin_set_integration_credentials($1, $2, 'actor', $3)";
    session.query_one(statement, &[&key, &value, &options]).await.map(|row| row.get(0))
}

async fn promote(session: &Session, key: &str) -> Result<Value, Error> {
    json(session, &format!("admin_promote_integration_credentials('{key}', 'actor')")).await
}

async fn rollback(session: &Session, key: &str) -> Result<Value, Error> {
    json(session, &format!("admin_rollback_integration_credentials('{key}', 'actor')")).await
}

async fn which(session: &Session, key: &str, which: &str) -> Result<String, Error> {
    let statement = "SELECT integration_credentials.get_integration_credentials($1, $2)";
    session.query_one(statement, &[&key, &which]).await.map(|row| row.get(0))
}

async fn valid(session: &Session, key: &str) -> Vec<(String, i64, bool)> {
    let statement = "SELECT value, revision, \"validUntil\" IS NOT NULL
                     FROM integration_credentials.get_valid_integration_credentials($1)";
    let rows = session.query(statement, &[&key]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

/// The row without its ciphertexts, which differ with each encryption; and what each of them is.
async fn row(database: &Database, key: &str) -> Option<Value> {
    let statement = "SELECT to_jsonb(c) FROM integration_credentials.configured_integrations c
                     WHERE integration_key = $1";
    database.superuser().await.query_opt(statement, &[&key]).await.unwrap().map(|row| row.get(0))
}

/// A state, and the statements that lead there from nothing; `KEY` is the key.
const STATES: [(&str, &[&str]); 10] = [
    ("never set", &[]),
    ("never set, staged", &["STAGE"]),
    ("steady", &["SET"]),
    ("staged", &["SET", "STAGE"]),
    ("rotating", &["SET", "SET"]),
    ("rotating, staged", &["SET", "SET", "STAGE"]),
    ("previous over", &["SET", "SET", "OVER"]),
    ("removed", &["SET", "REMOVE"]),
    ("removed, staged", &["SET", "REMOVE", "STAGE"]),
    ("purged", &["SET", "PURGE"]),
];

const CALLS: [(&str, &str); 12] = [
    ("set", "admin_set_integration_credentials('KEY', 'set', 'actor')"),
    ("stage", "admin_set_integration_credentials('KEY', 'staged', 'actor', '{\"stage\": true}')"),
    ("promote", "admin_promote_integration_credentials('KEY', 'actor')"),
    ("discard", "admin_discard_integration_credentials('KEY', 'actor')"),
    ("rollback", "admin_rollback_integration_credentials('KEY', 'actor')"),
    ("retire", "admin_retire_integration_credentials('KEY', 'actor')"),
    ("remove", "admin_remove_integration_credentials('KEY', 'actor')"),
    ("purge", "admin_remove_integration_credentials('KEY', 'actor', purge => true)"),
    ("get", "get_integration_credentials('KEY')"),
    ("get previous", "get_integration_credentials('KEY', 'previous')"),
    ("get pending", "get_integration_credentials('KEY', 'pending')"),
    ("get valid", "get_valid_integration_credentials('KEY')"),
];

/// The state that a row is in.
fn state(row: Option<&Value>, is_over: bool) -> String {
    let Some(row) = row else { return "never set".to_owned() };
    let has = |column: &str| !row[column].is_null();
    let is_kept = has("previous_ciphertext") && !is_over;
    let before = match (row["revision"].as_i64().unwrap(), has("ciphertext"), is_kept) {
        (0, false, false) => "never set",
        (1.., true, false) => "steady",
        (1.., true, true) => "rotating",
        (1.., false, true) => "removed",
        (1.., false, false) => "purged",
        unknown => panic!("no state: {unknown:?}"),
    };
    // One ciphertext never comes without its columns.
    for (ciphertext, others) in [
        ("previous_ciphertext", vec!["previous_revision", "previous_until"]),
        ("pending_ciphertext", vec!["pending_at", "pending_actor"]),
    ] {
        assert!(others.iter().all(|column| has(column) == has(ciphertext)), "{row}");
    }
    match (before, has("pending_ciphertext")) {
        ("steady", true) => "staged".to_owned(),
        (before, true) => format!("{before}, staged"),
        (before, false) if is_over && has("previous_ciphertext") => {
            assert_eq!(before, "steady");
            "previous over".to_owned()
        }
        (before, false) => before.to_owned(),
    }
}

async fn bring(database: &Database, admin: &Session, key: &str, steps: &[&str]) {
    for (index, step) in steps.iter().enumerate() {
        let value = format!("value-{index}");
        match *step {
            "SET" => drop(set(admin, key, &value).await.unwrap()),
            "STAGE" => drop(set_with(admin, key, &value, json!({"stage": true})).await.unwrap()),
            "REMOVE" => drop(remove(admin, key).await.unwrap()),
            "PURGE" => {
                let purge = format!("admin_remove_integration_credentials('{key}', 'actor', true)");
                json(admin, &purge).await.unwrap();
            }
            "OVER" => {
                let over = "UPDATE integration_credentials.configured_integrations
                            SET previous_until = now() WHERE integration_key = $1";
                database.superuser().await.execute(over, &[&key]).await.unwrap();
            }
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn every_call_in_every_state_is_as_documented() {
    let fixture = Fixture::new().await;
    let (database, admin) = (&fixture.database, &fixture.admin);
    settle(database).await;
    let reader = database.connect(READER).await;
    let mut listener = fixture.listener().await;
    let row_of = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let mut header = vec![String::new()];
    header.extend(CALLS.iter().map(|(name, _)| (*name).to_owned()));
    let mut table = vec![row_of(&header), format!("|{}", " --- |".repeat(header.len()))];
    for (index, (name, steps)) in STATES.iter().enumerate() {
        let mut cells = vec![format!("**{name}**")];
        for (call_index, (call, statement)) in CALLS.iter().enumerate() {
            let key = format!("key-{index}-{call_index}");
            register(admin, &key, json!({})).await.unwrap();
            bring(database, admin, &key, steps).await;
            let before = row(database, &key).await;
            assert_eq!(state(before.as_ref(), steps.contains(&"OVER")), *name);
            let revision =
                |row: &Option<Value>| row.as_ref().map_or(0, |row| row["revision"].as_i64().unwrap());
            let audited = audit_rows(database, &key).await;

            let is_read = call.starts_with("get");
            let session = if is_read { &reader } else { admin };
            let statement = format!("SELECT integration_credentials.{}", statement.replace("KEY", &key));
            let result = session.query(&statement, &[]).await;
            let after = row(database, &key).await;
            match result {
                Ok(rows) if is_read => {
                    assert_eq!(after, before, "{name}: {call}");
                    cells.push(if rows.len() == 2 { "both" } else { "value" }.to_owned());
                }
                Ok(_) => {
                    let raised = revision(&after) - revision(&before);
                    let is_new = ["set", "promote", "rollback"].contains(call);
                    let is_removal = ["remove", "purge"].contains(call)
                        && before.as_ref().is_some_and(|row| !row["ciphertext"].is_null());
                    assert_eq!(raised, i64::from(is_new || is_removal), "{name}: {call}");
                    assert_eq!(audit_rows(database, &key).await, audited + 1, "{name}: {call}");
                    cells.push(state(after.as_ref(), false));
                }
                Err(error) => {
                    assert_eq!(after, before, "{name}: {call}");
                    assert_eq!(audit_rows(database, &key).await, audited, "{name}: {call}");
                    cells.push(error.code().unwrap().code().to_owned());
                }
            }
        }
        table.push(row_of(&cells));
    }
    // Each change was announced once, and nothing else was.
    let changes = "SELECT target_id, count(*) FROM integration_credentials.webapp_org_admin_audit_log
                   WHERE action <> 'register_integration' GROUP BY target_id";
    let rows = fixture.superuser.query(changes, &[]).await.unwrap();
    let mut changes: BTreeMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let total = usize::try_from(changes.values().sum::<i64>()).unwrap();
    for payload in heard(&mut listener, total).await {
        *changes.get_mut(&Event::parse(&payload).unwrap().key).unwrap() -= 1;
    }
    assert!(changes.values().all(|left| *left == 0), "{changes:?}");
    assert_generated("docs/rotation.md", "transitions", &table.join("\n"));
}

async fn audit_rows(database: &Database, key: &str) -> i64 {
    let statement =
        "SELECT count(*) FROM integration_credentials.webapp_org_admin_audit_log WHERE target_id = $1";
    database.superuser().await.query_one(statement, &[&key]).await.unwrap().get(0)
}

#[tokio::test]
async fn values_go_round_by_stage_promote_and_rollback() {
    let (database, admin) = admin().await;
    let reader = database.connect(READER).await;
    set_with(&admin, ANY, "first", json!({"expiresAt": "2999-01-01"})).await.unwrap();
    let staged =
        set_with(&admin, ANY, "second", json!({"stage": true, "expiresAt": "2999-02-02"})).await.unwrap();
    assert_eq!((&staged["revision"], &staged["hasPending"]), (&json!(1), &json!(true)));
    assert_eq!(get(&reader, ANY).await.unwrap(), "first");
    assert_eq!(which(&reader, ANY, "pending").await.unwrap(), "second");

    let promoted = promote(&admin, ANY).await.unwrap();
    assert_eq!((&promoted["revision"], &promoted["hasPrevious"]), (&json!(2), &json!(true)));
    assert_eq!(promoted["hasPending"], json!(false));
    assert_eq!(get(&reader, ANY).await.unwrap(), "second");
    assert_eq!(which(&reader, ANY, "current").await.unwrap(), "second");
    assert_eq!(which(&reader, ANY, "previous").await.unwrap(), "first");
    assert_eq!(valid(&reader, ANY).await, [("second".to_owned(), 2, false), ("first".to_owned(), 1, true)]);
    let expiry = "SELECT \"expiresAt\"::date::text FROM integration_credentials.list_integrations('{any}')";
    assert_eq!(admin.query_one(expiry, &[]).await.unwrap().get::<_, &str>(0), "2999-02-02");

    assert_eq!(rollback(&admin, ANY).await.unwrap()["revision"], json!(3));
    assert_eq!(get(&reader, ANY).await.unwrap(), "first");
    assert_eq!(which(&reader, ANY, "previous").await.unwrap(), "second");
    assert_eq!(admin.query_one(expiry, &[]).await.unwrap().get::<_, &str>(0), "2999-01-01");

    remove(&admin, ANY).await.unwrap();
    for what in ["current", "previous", "pending"] {
        assert_error(which(&reader, ANY, what).await, ErrorCode::CredentialsNotSet);
    }
    assert_eq!(rollback(&admin, ANY).await.unwrap()["revision"], json!(5));
    assert_eq!(get(&reader, ANY).await.unwrap(), "first");
}

#[tokio::test]
async fn previous_value_is_kept_for_its_time() {
    let (database, admin) = admin().await;
    let reader = database.connect(READER).await;
    set(&admin, ANY, "first").await.unwrap();
    set_with(&admin, ANY, "second", json!({"keepPrevious": 0})).await.unwrap();
    assert_error(which(&reader, ANY, "previous").await, ErrorCode::CredentialsNotSet);
    set_with(&admin, ANY, "third", json!({"keepPrevious": 1})).await.unwrap();
    admin.batch_execute("SELECT pg_sleep(1.1)").await.unwrap();
    assert_error(which(&reader, ANY, "previous").await, ErrorCode::CredentialsNotSet);
    set_with(&admin, ANY, "second", json!({"keepPrevious": 0})).await.unwrap();
    set_with(&admin, ANY, "third", json!({"keepPrevious": 60})).await.unwrap();
    assert_eq!(which(&reader, ANY, "previous").await.unwrap(), "second");
    let over =
        "UPDATE integration_credentials.configured_integrations SET previous_until = clock_timestamp()";
    database.superuser().await.batch_execute(over).await.unwrap();
    assert_error(which(&reader, ANY, "previous").await, ErrorCode::CredentialsNotSet);
    assert_eq!(valid(&reader, ANY).await.len(), 1);
    assert_error(rollback(&admin, ANY).await, ErrorCode::CredentialsNotSet);
    // The ciphertext is still there, until somebody clears it.
    let superuser = database.superuser().await;
    let purge = "SELECT integration_credentials.purge_previous()";
    assert_eq!(superuser.query_one(purge, &[]).await.unwrap().get::<_, i64>(0), 1);
    assert_eq!(superuser.query_one(purge, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert!(row(&database, ANY).await.unwrap()["previous_ciphertext"].is_null());

    let keep = "SELECT integration_credentials.admin_set_integration_keep_previous('any', '0', 'actor')";
    admin.batch_execute(keep).await.unwrap();
    set(&admin, ANY, "fourth").await.unwrap();
    assert!(row(&database, ANY).await.unwrap()["previous_ciphertext"].is_null());
}

#[tokio::test]
async fn set_that_is_tried_twice_keeps_what_a_rollback_brings_back() {
    let fixture = Fixture::new().await;
    let reader = fixture.database.connect(READER).await;
    for value in ["good", "bad", "bad", "bad"] {
        set(&fixture.admin, ANY, value).await.unwrap();
    }
    let unchanged: Vec<_> = fixture.audited("set_integration_credentials").await;
    let [_, rotation, first, second] = unchanged.as_slice() else { panic!("{unchanged:?}") };
    assert_eq!(rotation, &json!({"wasUpdate": true}));
    assert_eq!(first, &json!({"wasUpdate": true, "unchanged": true}));
    assert_eq!(second, first);
    assert_eq!(rollback(&fixture.admin, ANY).await.unwrap()["revision"], json!(5));
    assert_eq!(get(&reader, ANY).await.unwrap(), "good");
}

#[tokio::test]
async fn dry_run_changes_nothing_but_metering() {
    let fixture = Fixture::new().await;
    let admin = &fixture.admin;
    let dry = async |value: &str| set_with(admin, ANY, value, json!({"dryRun": true})).await;
    let mut listener = fixture.listener().await;
    assert_eq!(dry("value").await.unwrap(), json!({"key": ANY, "wouldBe": "insert"}));
    set_with(admin, ANY, "value", json!({"stage": true})).await.unwrap();
    assert_eq!(dry("value").await.unwrap()["wouldBe"], "insert");
    promote(admin, ANY).await.unwrap();
    heard(&mut listener, 2).await;
    let before = row(&fixture.database, ANY).await;
    assert_eq!(dry("value").await.unwrap()["wouldBe"], "unchanged");
    assert_eq!(dry("other").await.unwrap()["wouldBe"], "rotation");
    let conflict = set_with(admin, ANY, "other", json!({"dryRun": true, "expectedRevision": 7})).await;
    assert_error(conflict, ErrorCode::RevisionConflict);
    register(admin, ANY, json!({"minLength": 9})).await.unwrap();
    assert_error(dry("short").await, ErrorCode::InvalidCredentials);
    assert_eq!(row(&fixture.database, ANY).await, before);
    assert!(heard(&mut listener, 0).await.is_empty());
    assert_eq!(fixture.audited("set_integration_credentials").await.len(), 0);
}

#[tokio::test]
async fn promotion_is_checked_anew_and_leaves_a_refused_value_pending() {
    let (database, admin) = admin().await;
    let reader = database.connect(READER).await;
    set_with(&admin, ANY, "short", json!({"stage": true})).await.unwrap();
    register(&admin, ANY, json!({"minLength": 9})).await.unwrap();
    assert_error(promote(&admin, ANY).await, ErrorCode::InvalidCredentials);
    assert_eq!(which(&reader, ANY, "pending").await.unwrap(), "short");
    set_with(&admin, ANY, "long-enough", json!({"stage": true})).await.unwrap();
    promote(&admin, ANY).await.unwrap();
    assert_eq!(get(&reader, ANY).await.unwrap(), "long-enough");
    // A rollback is not checked: what was good enough before is better than what is bad now.
    register(&admin, ANY, json!({})).await.unwrap();
    set(&admin, ANY, "bad").await.unwrap();
    register(&admin, ANY, json!({"maxLength": 5})).await.unwrap();
    rollback(&admin, ANY).await.unwrap();
}

#[tokio::test]
async fn uncommitted_rules_do_not_probe_a_stored_value() {
    let (_database, admin) = admin().await;
    set(&admin, ANY, "first").await.unwrap();
    set(&admin, ANY, "second").await.unwrap();
    set_with(&admin, ANY, "third", json!({"stage": true})).await.unwrap();
    for call in ["promote", "rollback"] {
        let probe = format!(
            "BEGIN; SELECT integration_credentials.admin_register_integration('any', 'Any', 'a', '{{\"prefix\": \"t\"}}');
             SELECT integration_credentials.admin_{call}_integration_credentials('any', 'a')"
        );
        assert_error(admin.batch_execute(&probe).await, ErrorCode::InvalidRequest);
        admin.batch_execute("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn sync_handler_gets_what_is_promoted_and_rolled_back_and_no_pending_value() {
    let (database, admin) = admin().await;
    let reader = database.connect(READER).await;
    let aggregator = async || {
        let statement = "SELECT integration_credentials.get_aggregator_credentials('trustradius')";
        reader.query_one(statement, &[]).await.map(|row| row.get::<_, String>(0))
    };
    set_with(&admin, "trustradius", "value-one", json!({"stage": true})).await.unwrap();
    assert_error(aggregator().await, ErrorCode::CredentialsNotSet);
    promote(&admin, "trustradius").await.unwrap();
    assert_eq!(aggregator().await.unwrap(), "value-one");
    set(&admin, "trustradius", "value-two").await.unwrap();
    assert_eq!(aggregator().await.unwrap(), "value-two");
    rollback(&admin, "trustradius").await.unwrap();
    assert_eq!(aggregator().await.unwrap(), "value-one");
}

#[tokio::test]
async fn sealed_values_take_the_same_options() {
    let (database, admin) = admin().await;
    let reader = database.connect(READER).await;
    let sealed = SealTo::ask(&admin).await.seal(ANY, "sealed-value");
    let statement =
        "SELECT integration_credentials.admin_set_integration_credentials_sealed($1, $2, 'actor', $3)";
    let options = json!({"stage": true, "expectedRevision": 0});
    let staged: Value = admin.query_one(statement, &[&ANY, &sealed, &options]).await.unwrap().get(0);
    assert_eq!(staged["hasPending"], json!(true));
    promote(&admin, ANY).await.unwrap();
    assert_eq!(get(&reader, ANY).await.unwrap(), "sealed-value");
    let again = SealTo::ask(&admin).await.seal(ANY, "sealed-value");
    let dry: Value =
        admin.query_one(statement, &[&ANY, &again, &json!({"dryRun": true})]).await.unwrap().get(0);
    assert_eq!(dry["wouldBe"], "unchanged");
}

#[tokio::test]
async fn wrong_arguments_are_refused_and_change_nothing() {
    let (database, admin) = admin().await;
    let reader = database.connect(READER).await;
    set(&admin, ANY, "first").await.unwrap();
    let before = row(&database, ANY).await;
    let canary = Canary::new();
    for options in [
        json!([]),
        json!({"unknown": 1}),
        json!({canary.as_str(): 1}),
        json!({"stage": canary.as_str()}),
        json!({"expiresAt": canary.as_str()}),
        json!({"expiresAt": "2001-01-01"}),
        json!({"keepPrevious": canary.as_str()}),
        json!({"keepPrevious": -1}),
        json!({"keepPrevious": "11 years"}),
        json!({"expectedRevision": canary.as_str()}),
        json!({"expectedRevision": -1}),
        json!({"stage": true, "keepPrevious": 1}),
        json!({"stage": "x".repeat(5000)}),
    ] {
        let error = assert_error(set_with(&admin, ANY, "second", options).await, ErrorCode::InvalidRequest);
        canary.assert_absent(&error);
    }
    for expected in [0, 2, i64::MAX] {
        let options = json!({"expectedRevision": expected});
        let error = assert_error(set_with(&admin, ANY, "second", options).await, ErrorCode::RevisionConflict);
        let detail: Value = serde_json::from_str(error.detail().unwrap()).unwrap();
        assert_eq!(detail, json!({"status": 409, "code": "revision_conflict", "revision": 1}));
        for call in ["promote", "rollback"] {
            let call = format!("admin_{call}_integration_credentials('any', 'actor', {expected})");
            assert_error(json(&admin, &call).await, ErrorCode::RevisionConflict);
        }
    }
    for what in ["Previous", "", canary.as_str()] {
        let error = assert_error(which(&reader, ANY, what).await, ErrorCode::InvalidRequest);
        canary.assert_absent(&error);
    }
    for keep in ["'-1 day'", "'11 years'", "NULL"] {
        let call = format!("admin_set_integration_keep_previous('any', {keep}, 'actor')");
        assert_error(json(&admin, &call).await, ErrorCode::InvalidRequest);
    }
    assert_eq!(row(&database, ANY).await, before);
}

#[tokio::test]
async fn removed_credential_still_has_its_revision_to_expect() {
    let (_database, admin) = admin().await;
    set(&admin, ANY, "first").await.unwrap();
    remove(&admin, ANY).await.unwrap();
    let expecting =
        async |revision: i64| set_with(&admin, ANY, "second", json!({"expectedRevision": revision})).await;
    assert_error(expecting(0).await, ErrorCode::RevisionConflict);
    assert_error(expecting(1).await, ErrorCode::RevisionConflict);
    assert_eq!(expecting(2).await.unwrap()["revision"], json!(3));
}

/// A transaction queues for its first credential alone. For another it reads the row, and then waits for it.
#[tokio::test]
async fn row_that_changes_while_a_set_waits_for_it_is_read_again() {
    let fixture = Fixture::new().await;
    let Fixture { database, admin, superuser, .. } = &fixture;
    let reader = database.connect(READER).await;
    let other = database.superuser().await;
    for key in ["first", "second"] {
        register(admin, key, json!({})).await.unwrap();
    }
    for (meanwhile, later, previous) in [
        (
            "SELECT integration_credentials.admin_set_integration_credentials('second', 'theirs', 'a')",
            3,
            Some("theirs"),
        ),
        ("SELECT integration_credentials.admin_remove_integration_credentials('second', 'a')", 6, None),
        (
            "DELETE FROM integration_credentials.configured_integrations WHERE integration_key = 'second'",
            1,
            None,
        ),
    ] {
        set(admin, "second", "before").await.unwrap();
        other.batch_execute("BEGIN").await.unwrap();
        other.batch_execute(meanwhile).await.unwrap();
        admin.batch_execute("BEGIN").await.unwrap();
        set(admin, "first", "value").await.unwrap();
        let (saved, ()) = tokio::join!(set_with(admin, "second", "ours", json!({})), async {
            until(superuser, WAITING).await;
            other.batch_execute("COMMIT").await.unwrap();
        });
        admin.batch_execute("COMMIT").await.unwrap();
        let saved = saved.unwrap();
        assert_eq!((&saved["revision"], &saved["hasPrevious"]), (&json!(later), &json!(previous.is_some())));
        assert_eq!(get(&reader, "second").await.unwrap(), "ours");
        assert_eq!(which(&reader, "second", "previous").await.ok().as_deref(), previous);
    }
}

/// As an owner may have written it.
#[tokio::test]
async fn trigger_that_suppresses_the_row_ends_the_set() {
    let (database, admin) = admin().await;
    set(&admin, ANY, "before").await.unwrap();
    let trigger = "CREATE FUNCTION suppress() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
                   CREATE TRIGGER suppress BEFORE UPDATE ON integration_credentials.configured_integrations
                       FOR EACH ROW EXECUTE FUNCTION suppress()";
    database.superuser().await.batch_execute(trigger).await.unwrap();
    let error = set(&admin, ANY, "after").await.unwrap_err();
    let message = error.as_db_error().unwrap().message();
    assert!(
        message.contains("a trigger of the table configured_integrations suppresses the row"),
        "{message}"
    );
    assert_eq!(get(&database.connect(READER).await, ANY).await.unwrap(), "before");
}

#[tokio::test]
async fn of_32_callers_that_expect_one_revision_one_wins() {
    let (database, admin) = admin().await;
    set(&admin, ANY, "first").await.unwrap();
    let sessions = join_all((0..32).map(|_| database.connect(ADMIN))).await;
    for expected in [1, 2] {
        let calls = sessions.iter().enumerate().map(|(index, session)| {
            let options = json!({"expectedRevision": expected});
            async move { set_with(session, ANY, &format!("value-{index}"), options).await }
        });
        let results = join_all(calls).await;
        let mut won = 0;
        for result in results {
            match result {
                Ok(receipt) => {
                    assert_eq!(receipt["revision"], json!(expected + 1));
                    won += 1;
                }
                error => {
                    let error = assert_error(error, ErrorCode::RevisionConflict);
                    let detail: Value = serde_json::from_str(error.detail().unwrap()).unwrap();
                    assert_eq!(detail["revision"], json!(expected + 1));
                }
            }
        }
        assert_eq!(won, 1);
    }
}

#[tokio::test]
async fn racing_changes_leave_no_gap_and_the_audit_log_tells_their_order() {
    let (database, admin) = admin().await;
    let reader = database.connect(READER).await;
    set(&admin, ANY, "s-first").await.unwrap();
    let sessions = join_all((0..8).map(|_| database.connect(ADMIN))).await;
    let work = sessions.iter().enumerate().map(|(index, session)| async move {
        let mut done = Vec::new();
        for round in 0..25 {
            let value = format!("{index}-{round}");
            let result = match (index + round) % 4 {
                0 => set_with(session, ANY, &value, json!({})).await,
                1 => set_with(session, ANY, &value, json!({"stage": true})).await.map(|_| Value::Null),
                2 => promote(session, ANY).await,
                _ => rollback(session, ANY).await,
            };
            match result {
                Ok(receipt) => done.extend(receipt["revision"].as_i64()),
                Err(error) => assert_eq!(sqlstate::<()>(Err(error)), "IC005"),
            }
        }
        done
    });
    let mut revisions: Vec<i64> = join_all(work).await.into_iter().flatten().collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (2..).take(revisions.len()).collect::<Vec<_>>());
    // Each audit row of a change is the next revision.
    let statement = "SELECT action, metadata FROM integration_credentials.audit_log
        WHERE action <> 'stage_integration_credentials' AND target_id = 'any'
            AND action <> 'register_integration' ORDER BY id";
    let auditor = database.connect(AUDITOR).await;
    let rows = auditor.query(statement, &[]).await.unwrap();
    assert_eq!(rows.len(), revisions.len() + 1);
    for (index, row) in rows.iter().enumerate() {
        let (action, metadata): (&str, Value) = (row.get(0), row.get(1));
        if action != "set_integration_credentials" {
            assert_eq!(metadata["revision"], json!(index + 1), "{action}");
        }
    }
    assert!(!get(&reader, ANY).await.unwrap().is_empty());
}

#[tokio::test]
async fn found_are_the_integrations_that_have_the_value() {
    let fixture = Fixture::new().await;
    let (database, admin, canary) = (&fixture.database, &fixture.admin, Canary::new());
    let acme = fixture.connect_as(ADMIN, "acme").await;
    for (session, key, values) in [
        (admin, "slack", vec!["xoxb-another-long-token", canary.as_str()]),
        (admin, ANY, vec![canary.as_str(), "another"]),
        (&acme, ANY, vec![canary.as_str()]),
    ] {
        for value in values {
            let statement = "UPDATE integration_credentials.integration_catalog SET rules = '{}'";
            fixture.superuser.batch_execute(statement).await.unwrap();
            set(session, key, value).await.unwrap();
        }
    }
    set_with(admin, "github", canary.as_str(), json!({"stage": true})).await.unwrap();
    let find = async |session: &Session, value: &str| {
        let sealed = SealTo::ask(session).await.seal("", value);
        let statement =
            "SELECT org, key, which, revision FROM integration_credentials.find_integration_credentials($1)";
        let rows = session.query(statement, &[&sealed]).await.unwrap();
        let found = |row: &tokio_postgres::Row| {
            (
                row.get::<_, String>(0),
                row.get::<_, String>(1),
                row.get::<_, String>(2),
                row.get::<_, Option<i64>>(3),
            )
        };
        rows.iter().map(found).collect::<BTreeSet<_>>()
    };
    let own = database.name();
    let of_own = [(ANY, "previous", Some(1)), ("github", "pending", None), ("slack", "current", Some(2))]
        .map(|(key, which, revision)| (own.to_owned(), key.to_owned(), which.to_owned(), revision));
    assert_eq!(find(admin, canary.as_str()).await, BTreeSet::from(of_own.clone()));
    assert!(find(admin, "another-value").await.is_empty());
    let mut of_all = BTreeSet::from(of_own);
    of_all.insert(("acme".into(), ANY.into(), "current".into(), Some(1)));
    assert_eq!(find(&fixture.superuser, canary.as_str()).await, of_all);
    assert_eq!(fixture.audited("find_integration_credentials").await.len(), 3);
    // A value that was sealed to be set is not one to be sought, nor the other way round.
    let sealed = SealTo::ask(admin).await.seal(ANY, canary.as_str());
    let statement = "SELECT FROM integration_credentials.find_integration_credentials($1)";
    assert_error(admin.query(statement, &[&sealed]).await, ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn unreadable_values_are_named_with_the_key_they_want() {
    let (database, admin) = admin().await;
    set(&admin, ANY, "first").await.unwrap();
    set(&admin, ANY, "second").await.unwrap();
    set_with(&admin, ANY, "third", json!({"stage": true})).await.unwrap();
    let check =
        "SELECT key, which, \"keyId\", error FROM integration_credentials.check_credentials() ORDER BY which";
    assert!(admin.query(check, &[]).await.unwrap().is_empty());
    // The key id begins at the third byte.
    let damage = "UPDATE integration_credentials.configured_integrations SET
        previous_ciphertext = set_byte(previous_ciphertext, 2, ascii('Z')),
        pending_ciphertext = set_byte(pending_ciphertext, octet_length(pending_ciphertext) - 1, 0) || '\\x00'";
    database.superuser().await.batch_execute(damage).await.unwrap();
    let rows = admin.query(check, &[]).await.unwrap();
    let [pending, previous] = rows.as_slice() else { panic!("{} rows", rows.len()) };
    assert_eq!((pending.get::<_, &str>(0), pending.get::<_, &str>(1)), (ANY, "pending"));
    assert!(pending.get::<_, &str>(3).contains("does not authenticate"));
    assert_eq!(previous.get::<_, &str>(1), "previous");
    assert!(previous.get::<_, &str>(2).starts_with('Z'));
    assert!(previous.get::<_, &str>(3).contains("which the keyring does not have"));
    // What cannot be decrypted is not promoted, and not rolled back to.
    for call in [promote(&admin, ANY).await, rollback(&admin, ANY).await] {
        assert_error(call, ErrorCode::EncryptionUnavailable);
    }
    assert_eq!(get(&database.connect(READER).await, ANY).await.unwrap(), "second");
}

#[tokio::test]
async fn pending_value_keeps_an_integration_from_being_unregistered() {
    let (_database, admin) = admin().await;
    set_with(&admin, ANY, "value", json!({"stage": true})).await.unwrap();
    let unregister = "admin_unregister_integration('any', 'actor')";
    assert_error(json(&admin, unregister).await, ErrorCode::InvalidRequest);
    json(&admin, "admin_discard_integration_credentials('any', 'actor')").await.unwrap();
    json(&admin, unregister).await.unwrap();
}

#[tokio::test]
async fn plaintext_that_is_taken_for_a_sealed_value_to_find_is_shown_nowhere() {
    let (database, _admin) = admin().await;
    let (superuser, observer, canary) =
        (database.superuser().await, database.superuser().await, Canary::new());
    superuser.batch_execute("SET log_statement = 'all'; SET log_min_duration_statement = 0").await.unwrap();
    let find =
        format!("SELECT FROM integration_credentials.find_integration_credentials('{}')", canary.as_str());
    assert_error(superuser.simple_query(&find).await, ErrorCode::InvalidRequest);
    let find = "SELECT FROM integration_credentials.find_integration_credentials($1)";
    assert_error(superuser.query(find, &[&canary.as_str().as_bytes()]).await, ErrorCode::InvalidRequest);
    assert_unlogged(&canary);
    let activity = "SELECT query FROM pg_stat_activity WHERE datname = current_database()";
    for row in observer.query(activity, &[]).await.unwrap() {
        canary.assert_absent(&row.get::<_, &str>(0));
    }
}
