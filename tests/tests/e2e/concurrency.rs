//! Many callers at once, transactions that are taken back, and what listeners hear of either.

use crate::helpers::calls::{ANY, count, enable, get, register, remove, revision, set};
use crate::helpers::fixture::{ASLEEP, Fixture, WAITING, heard, sqlstate, until};
use integration_credentials_core::{
    error::ErrorCode,
    event::{Event, Operation},
};
use serde_json::json;
use std::{collections::BTreeMap, sync::OnceLock};
use tests::{ADMIN, Cluster, Database, READER, Session, assert_error};
use tokio::task::JoinSet;

const CALLERS: usize = 32;
const TRUSTRADIUS: &str = "trustradius";
/// Follows the rules of every key in here.
const VALUE: &str = "xoxb-0000000000-aaaaaaaaaaaaaaaa";

/// With room for all the sessions of all tests in here.
async fn fixture() -> Fixture {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    let start = || Cluster::builder().setting("fsync", "off").setting("max_connections", "300").start();
    Fixture::within(CLUSTER.get_or_init(start)).await
}

async fn events(listener: &mut Session, expected: usize) -> Vec<Event> {
    heard(listener, expected).await.iter().map(|payload| Event::parse(payload).unwrap()).collect()
}

/// Sets each key in a session of its own. A lock holds all the calls up until the last has come.
async fn set_at_once(fixture: &Fixture, keys: Vec<String>) {
    let gate = fixture.database.superuser().await;
    let lock = "BEGIN; LOCK TABLE integration_credentials.configured_integrations IN SHARE MODE";
    gate.batch_execute(lock).await.unwrap();
    let mut calls = JoinSet::new();
    let callers = keys.len();
    for key in keys {
        let session = fixture.database.connect(ADMIN).await;
        calls.spawn(async move { set(&session, &key, VALUE).await });
    }
    let all_wait = "SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                    WHERE d.datname = current_database() AND NOT l.granted HAVING count(*) =";
    until(&fixture.superuser, &format!("{all_wait} {callers}")).await;
    gate.batch_execute("COMMIT").await.unwrap();
    for result in calls.join_all().await {
        result.unwrap();
    }
}

/// How many set calls were audited as first ones, and how many as rotations.
async fn first_and_later(fixture: &Fixture) -> (usize, usize) {
    let audited = fixture.audited("set_integration_credentials").await;
    let with =
        |was_update| audited.iter().filter(|metadata| metadata["wasUpdate"] == json!(was_update)).count();
    (with(false), with(true))
}

#[tokio::test]
async fn of_many_first_calls_one_is_first_and_each_has_its_revision() {
    let fixture = fixture().await;
    let mut listener = fixture.listener().await;
    set_at_once(&fixture, vec![ANY.to_owned(); CALLERS]).await;
    assert_eq!(first_and_later(&fixture).await, (1, 31));
    assert_eq!(revision(&fixture.admin, ANY).await, 32);
    // A revision is announced in the order in which it was committed.
    let revisions: Vec<_> = events(&mut listener, 32).await.iter().map(|event| event.revision).collect();
    assert_eq!(revisions, (1..=32).collect::<Vec<_>>());
}

#[tokio::test]
async fn calls_for_different_keys_do_not_meet() {
    let fixture = fixture().await;
    let keys: Vec<String> = (0..CALLERS).map(|number| format!("key {number:02}")).collect();
    for key in &keys {
        register(&fixture.admin, key, json!({})).await.unwrap();
    }
    let mut listener = fixture.listener().await;
    set_at_once(&fixture, keys.clone()).await;
    assert_eq!(first_and_later(&fixture).await, (32, 0));
    let mut events = events(&mut listener, 32).await;
    events.sort_by(|one, other| one.key.cmp(&other.key));
    let org = fixture.database.name().to_owned();
    let event = |key| Event { org: org.clone(), key, revision: 1, operation: Operation::Set };
    assert_eq!(events, keys.iter().cloned().map(event).collect::<Vec<_>>());

    // Nor does one wait for another's transaction.
    fixture.admin.batch_execute("BEGIN").await.unwrap();
    set(&fixture.admin, &keys[0], VALUE).await.unwrap();
    let other = fixture.database.connect(ADMIN).await;
    other.batch_execute("SET lock_timeout = '100ms'").await.unwrap();
    set(&other, &keys[1], VALUE).await.unwrap();
    assert_eq!(sqlstate(set(&other, &keys[0], VALUE).await), "55P03");
}

/// Forty calls of one session. Counts the changes of each key.
async fn mixed_calls(database: Database, caller: usize) -> BTreeMap<&'static str, i64> {
    let (admin, reader) = (database.connect(ADMIN).await, database.connect(READER).await);
    let mut changes = BTreeMap::new();
    for step in 0..40 {
        let key = [ANY, TRUSTRADIUS, "switched"][(caller + step) % 3];
        let result = match (caller * 3 + step) % 7 {
            0..=2 => set(&admin, key, VALUE).await.map(|_| 1),
            3 | 4 => remove(&admin, key).await.map(|_| 1),
            5 => get(&reader, key).await.map(|_| 0),
            _ => enable(&admin, "switched", step % 2 == 0).await.map(|_| 0),
        };
        match result {
            Ok(count) => *changes.entry(key).or_default() += count,
            // Removed or disabled meanwhile.
            Err(error) => assert!(["IC002", "IC005"].contains(&error.code().unwrap().code()), "{error:?}"),
        }
    }
    changes
}

#[tokio::test]
async fn mixed_calls_never_deadlock_and_every_change_is_a_revision() {
    let fixture = fixture().await;
    register(&fixture.admin, "switched", json!({})).await.unwrap();
    let mut listener = fixture.listener().await;
    let calls: JoinSet<_> = (0..8).map(|caller| mixed_calls(fixture.database.clone(), caller)).collect();
    let mut changes = BTreeMap::<&str, i64>::new();
    for (key, count) in calls.join_all().await.into_iter().flatten() {
        *changes.entry(key).or_default() += count;
    }
    let is_change = |event: &Event| [Operation::Set, Operation::Remove].contains(&event.operation);
    let expected = usize::try_from(changes.values().sum::<i64>()).unwrap();
    let mut events = Vec::new();
    while events.iter().filter(|event| is_change(event)).count() < expected {
        events.push(Event::parse(listener.next_notification().await.payload()).unwrap());
    }
    for (key, count) in changes {
        assert!(count > 0, "{key}");
        assert_eq!(revision(&fixture.admin, key).await, count, "{key}");
        let of_key = |event: &&Event| event.key == key && is_change(event);
        let revisions: Vec<_> = events.iter().filter(of_key).map(|event| event.revision).collect();
        assert_eq!(revisions, (1..=count).collect::<Vec<_>>(), "{key}");
    }
}

#[tokio::test]
async fn what_is_rolled_back_leaves_nothing_and_what_is_committed_is_announced_once() {
    let fixture = fixture().await;
    let (admin, mut listener) = (&fixture.admin, fixture.listener().await);
    let calls = async || {
        set(admin, TRUSTRADIUS, VALUE).await.unwrap();
        remove(admin, TRUSTRADIUS).await.unwrap();
        set(admin, TRUSTRADIUS, VALUE).await.unwrap();
        enable(admin, TRUSTRADIUS, false).await.unwrap();
    };
    let before = fixture.state().await;
    for (begin, end) in [
        ("BEGIN", "ROLLBACK"),
        ("BEGIN; SAVEPOINT s", "ROLLBACK TO s; COMMIT"),
        ("BEGIN; SAVEPOINT s; SAVEPOINT t", "RELEASE t; ROLLBACK TO s; COMMIT"),
    ] {
        admin.batch_execute(begin).await.unwrap();
        calls().await;
        admin.batch_execute(end).await.unwrap();
        assert_eq!(fixture.state().await, before, "{end}");
        assert_eq!(heard(&mut listener, 0).await, [""; 0], "{end}");
    }
    admin.batch_execute("BEGIN; SAVEPOINT s").await.unwrap();
    calls().await;
    assert_eq!(fixture.state().await, before);
    assert_eq!(heard(&mut listener, 0).await, [""; 0]);
    admin.batch_execute("RELEASE s; COMMIT").await.unwrap();
    let seen: Vec<_> =
        events(&mut listener, 4).await.iter().map(|event| (event.operation, event.revision)).collect();
    let expected =
        [(Operation::Set, 1), (Operation::Remove, 2), (Operation::Set, 3), (Operation::Disable, 3)];
    assert_eq!(seen, expected);
    assert_eq!(heard(&mut listener, 0).await, [""; 0]);
    assert_eq!(count(&fixture.superuser, "tool_metering").await, 1 + 4);
}

#[tokio::test]
async fn a_payload_is_exactly_as_published() {
    let fixture = fixture().await;
    let mut listener = fixture.listener().await;
    let admin = fixture.connect_as(ADMIN, r#"o'h"ara\é"#).await;
    set(&admin, ANY, VALUE).await.unwrap();
    remove(&admin, ANY).await.unwrap();
    enable(&admin, ANY, false).await.unwrap();
    enable(&admin, ANY, true).await.unwrap();
    let expected = [
        r#"{"v":1,"org":"o'h\"ara\\é","key":"any","revision":1,"op":"set"}"#,
        r#"{"v":1,"org":"o'h\"ara\\é","key":"any","revision":2,"op":"remove"}"#,
        r#"{"v":1,"org":"o'h\"ara\\é","key":"any","revision":2,"op":"disable"}"#,
        r#"{"v":1,"org":"o'h\"ara\\é","key":"any","revision":2,"op":"enable"}"#,
    ];
    assert_eq!(heard(&mut listener, expected.len()).await, expected);
}

#[tokio::test]
async fn switching_is_announced_to_every_org_that_has_a_row_and_to_the_callers_own() {
    let fixture = fixture().await;
    let acme = fixture.connect_as(ADMIN, "acme").await;
    let globex = fixture.connect_as(ADMIN, "globex").await;
    let initech = fixture.connect_as(ADMIN, "initech").await;
    let mut listener = fixture.listener().await;
    set(&acme, ANY, VALUE).await.unwrap();
    set(&globex, ANY, VALUE).await.unwrap();
    remove(&globex, ANY).await.unwrap();
    set(&initech, TRUSTRADIUS, VALUE).await.unwrap();
    assert_eq!(heard(&mut listener, 4).await.len(), 4);

    let audited = count(&fixture.superuser, "webapp_org_admin_audit_log").await;
    for (switch, operation) in
        [(true, None), (false, Some(Operation::Disable)), (false, None), (true, Some(Operation::Enable))]
    {
        enable(&initech, ANY, switch).await.unwrap();
        let event =
            |org: &str, revision, operation| Event { org: org.into(), key: ANY.into(), revision, operation };
        let expected = operation.map_or(Vec::new(), |operation| {
            vec![event("acme", 1, operation), event("globex", 2, operation), event("initech", 0, operation)]
        });
        let mut events = events(&mut listener, expected.len()).await;
        events.sort_by(|one, other| one.org.cmp(&other.org));
        assert_eq!(events, expected);
    }
    assert_eq!(count(&fixture.superuser, "webapp_org_admin_audit_log").await, audited + 2);
    // Where the caller's own org has a row, it is told once.
    enable(&acme, ANY, false).await.unwrap();
    assert_eq!(heard(&mut listener, 2).await.len(), 2);
}

#[tokio::test]
async fn a_caller_with_an_older_snapshot_is_told_to_try_again() {
    let fixture = fixture().await;
    let (admin, other) = (&fixture.admin, fixture.database.connect(ADMIN).await);
    fixture
        .as_owner("CREATE FUNCTION app.check(value text) RETURNS text LANGUAGE sql AS 'SELECT NULL'")
        .await;
    fixture.register("validator", &[&"slack", &"app.check(text)"]).await.unwrap();
    let mut changes = BTreeMap::<_, i64>::new();
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        // The first time a key has no row yet; TrustRadius has a handler, Slack a validator.
        for key in [ANY, TRUSTRADIUS, "slack", ANY, TRUSTRADIUS, "slack"] {
            // A snapshot is taken by the first statement.
            let begin = format!(
                "BEGIN ISOLATION LEVEL {level}; SELECT FROM integration_credentials.list_integrations()"
            );
            for take in [false, true] {
                admin.batch_execute(&begin).await.unwrap();
                set(&other, key, VALUE).await.unwrap();
                let late = if take { remove(admin, key).await } else { set(admin, key, VALUE).await };
                *changes.entry(key).or_default() += 1;
                assert_eq!(sqlstate(late), "40001", "{level} {key} {take}");
                admin.batch_execute("ROLLBACK").await.unwrap();
            }
            admin.batch_execute(&begin).await.unwrap();
            set(admin, key, VALUE).await.unwrap();
            admin.batch_execute("COMMIT").await.unwrap();
            *changes.get_mut(key).unwrap() += 1;
            assert_eq!(revision(admin, key).await, changes[key], "{level}");
        }
    }
}

#[tokio::test]
async fn pipelined_calls_stand_alone_and_a_batch_stands_together() {
    let fixture = fixture().await;
    let (admin, mut listener) = (&fixture.admin, fixture.listener().await);
    let statement = "SELECT integration_credentials.admin_set_integration_credentials($1, $2, 'actor')";
    let statement = admin.prepare(statement).await.unwrap();
    // All are sent before the first is answered.
    let (one, refused, two) = tokio::join!(
        admin.query_one(&statement, &[&ANY, &"one"]),
        admin.query_one(&statement, &[&"nowhere", &"value"]),
        admin.query_one(&statement, &[&ANY, &"two"]),
    );
    one.and(two).unwrap();
    assert_error(refused, ErrorCode::IntegrationNotFound);
    assert_eq!(events(&mut listener, 2).await.len(), 2);
    assert_eq!(get(&fixture.database.connect(READER).await, ANY).await.unwrap(), "two");

    let before = fixture.state().await;
    let batch = "SELECT integration_credentials.admin_remove_integration_credentials('any', 'actor');
                 SELECT integration_credentials.admin_remove_integration_credentials('nowhere', 'actor')";
    assert_error(admin.batch_execute(batch).await, ErrorCode::IntegrationNotFound);
    assert_eq!(fixture.state().await, before);
    assert_eq!(heard(&mut listener, 0).await, [""; 0]);
}

#[tokio::test]
async fn an_entry_that_goes_meanwhile_gets_no_credential() {
    let fixture = fixture().await;
    let (admin, other) = (&fixture.admin, fixture.database.connect(ADMIN).await);
    set(&other, "slack", VALUE).await.unwrap();
    remove(&other, "slack").await.unwrap();
    admin.batch_execute("BEGIN").await.unwrap();
    let unregister = "SELECT integration_credentials.admin_unregister_integration('slack', 'actor')";
    admin.batch_execute(unregister).await.unwrap();
    let waiting = tokio::spawn(async move { set(&other, "slack", VALUE).await });
    until(&fixture.superuser, WAITING).await;
    admin.batch_execute("COMMIT").await.unwrap();
    assert_error(waiting.await.unwrap(), ErrorCode::IntegrationNotFound);
    let orphans =
        "SELECT FROM integration_credentials.configured_integrations WHERE integration_key = 'slack'";
    assert!(fixture.superuser.query(orphans, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn who_has_a_credential_changes_it_again_while_others_wait_in_line() {
    let fixture = fixture().await;
    let admin = &fixture.admin;
    register(admin, "second", json!({})).await.unwrap();
    set(admin, ANY, VALUE).await.unwrap();
    for (first, next) in [(ANY, ANY), ("second", ANY)] {
        admin.batch_execute("BEGIN").await.unwrap();
        set(admin, first, VALUE).await.unwrap();
        remove(admin, ANY).await.unwrap();
        let mut waiting = JoinSet::new();
        for _ in 0..3 {
            let other = fixture.database.connect(ADMIN).await;
            waiting.spawn(async move { set(&other, ANY, VALUE).await });
        }
        until(&fixture.superuser, &format!("{WAITING} OFFSET 2")).await;
        set(admin, next, VALUE).await.unwrap();
        // What is taken back is taken again.
        admin.batch_execute("SAVEPOINT s").await.unwrap();
        set(admin, next, VALUE).await.unwrap();
        admin.batch_execute("ROLLBACK TO s").await.unwrap();
        remove(admin, next).await.unwrap();
        admin.batch_execute("COMMIT").await.unwrap();
        for result in waiting.join_all().await {
            result.unwrap();
        }
    }
}

#[tokio::test]
async fn who_waits_goes_by_the_catalog_of_afterwards() {
    let fixture = fixture().await;
    let (admin, other) = (&fixture.admin, fixture.database.connect(ADMIN).await);
    set(admin, ANY, VALUE).await.unwrap();
    for (change, expected) in [
        ("SELECT integration_credentials.admin_set_integration_enabled('any', false, 'actor')", "IC002"),
        (
            "SELECT integration_credentials.admin_register_integration('any', 'any', 'actor', '{\"maxLength\": 1}')",
            "IC003",
        ),
    ] {
        let [holder, waiter] = [fixture.database.connect(ADMIN).await, fixture.database.connect(ADMIN).await];
        holder.batch_execute("BEGIN").await.unwrap();
        set(&holder, ANY, VALUE).await.unwrap();
        let waiting = tokio::spawn(async move { set(&waiter, ANY, "too late").await });
        until(&fixture.superuser, WAITING).await;
        other.batch_execute(change).await.unwrap();
        holder.batch_execute("COMMIT").await.unwrap();
        assert_eq!(sqlstate(waiting.await.unwrap()), expected);
        enable(&other, ANY, true).await.unwrap();
        assert_eq!(get(&fixture.database.connect(READER).await, ANY).await.unwrap(), VALUE);
        register(&other, ANY, json!({})).await.unwrap();
    }
}

#[tokio::test]
async fn with_an_old_snapshot_a_slow_validator_and_an_unregistration_do_not_deadlock() {
    let fixture = fixture().await;
    let other = fixture.database.connect(ADMIN).await;
    fixture.validator("PERFORM pg_sleep(3); RETURN NULL").await;
    fixture.admin.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    let setting = set(&fixture.admin, ANY, VALUE);
    let unregistering = async {
        until(&fixture.superuser, ASLEEP).await;
        let unregister = "SELECT integration_credentials.admin_unregister_integration('any', 'actor')";
        other.batch_execute(unregister).await
    };
    let committed = async {
        setting.await.unwrap();
        fixture.admin.batch_execute("COMMIT").await.unwrap();
    };
    let (refused, ()) = tokio::join!(unregistering, committed);
    assert_eq!(sqlstate(refused), "IC001");
}
