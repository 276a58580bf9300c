//! Notifications, whoever sends them: the transaction itself, or the worker that it hands them over to.

use crate::helpers::calls::{ANY, get, register, revision, set};
use crate::helpers::fixture::until;
use serde_json::{Value, json};
use std::time::Duration;
use tests::{ADMIN, Cluster, Database, READER, Session, Shutdown};
use tokio::time::{sleep, timeout};

/// From so many sessions on, the worker sends.
const MANY: usize = 20;

struct Crowd {
    admin: Session,
    listener: Session,
    /// Kept, so that they are there.
    others: Vec<Session>,
}

/// So many sessions in a database that its notifications are handed over.
async fn crowd(database: &Database) -> Crowd {
    let mut others = Vec::new();
    for _ in 0..MANY {
        others.push(database.connect(READER).await);
    }
    let listener = database.connect(READER).await;
    listener.batch_execute("LISTEN integration_credentials").await.unwrap();
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    // No transaction hands anything over before the worker has waited for the first time.
    let attends = "SELECT FROM pg_stat_activity
                   WHERE backend_type = 'integration_credentials notifier' AND wait_event_type = 'Extension'
                   UNION ALL SELECT WHERE current_setting('max_worker_processes') = '0'";
    until(&database.superuser().await, attends).await;
    Crowd { admin, listener, others }
}

async fn next(listener: &mut Session) -> Value {
    let notification = listener.next_notification().await;
    assert_eq!(notification.channel(), "integration_credentials");
    serde_json::from_str(notification.payload()).unwrap()
}

/// What a set of the key `any` is announced by.
async fn next_revision(listener: &mut Session) -> i64 {
    let event = next(listener).await;
    assert_eq!((event["op"].as_str(), event["key"].as_str()), (Some("set"), Some(ANY)), "{event}");
    event["revision"].as_i64().unwrap()
}

async fn nothing_comes(listener: &mut Session) {
    let next = timeout(Duration::from_millis(300), listener.next_notification()).await;
    assert!(next.is_err(), "{next:?}");
}

/// The process id of the sender of a notification.
async fn sender(listener: &mut Session) -> i32 {
    listener.next_notification().await.process_id()
}

async fn worker(superuser: &Session) -> Option<i32> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'integration_credentials notifier'";
    superuser.query_opt(sql, &[]).await.unwrap().map(|row| row.get(0))
}

#[tokio::test]
async fn alone_a_transaction_sends_itself_and_in_a_crowd_the_worker_does() {
    let cluster = Cluster::private();
    let database = cluster.database().await;
    let admin = database.connect(ADMIN).await;
    let mut listener = database.connect(READER).await;
    register(&admin, ANY, json!({})).await.unwrap();
    listener.batch_execute("LISTEN integration_credentials").await.unwrap();
    let own = admin.pid().await;
    set(&admin, ANY, "one").await.unwrap();
    assert_eq!(sender(&mut listener).await, own);
    drop((admin, listener));

    let database = cluster.database().await;
    let mut crowd = crowd(&database).await;
    set(&crowd.admin, ANY, "two").await.unwrap();
    let worker = worker(&database.superuser().await).await.unwrap();
    assert_eq!(sender(&mut crowd.listener).await, worker);
    // Where the setting says so, it is a plain NOTIFY all the same.
    let plain = format!("ALTER ROLE {ADMIN} SET integration_credentials.notify = 'transaction'");
    database.superuser().await.batch_execute(&plain).await.unwrap();
    let admin = database.connect(ADMIN).await;
    let own = admin.pid().await;
    set(&admin, ANY, "three").await.unwrap();
    assert_eq!(sender(&mut crowd.listener).await, own);
}

#[tokio::test]
async fn what_is_rolled_back_is_not_handed_over_and_the_rest_is_in_order() {
    let database = Cluster::shared().database().await;
    let Crowd { admin, mut listener, others: _others } = crowd(&database).await;
    admin.batch_execute("BEGIN").await.unwrap();
    set(&admin, ANY, "rolled back").await.unwrap();
    admin.batch_execute("ROLLBACK; BEGIN; SAVEPOINT a").await.unwrap();
    set(&admin, ANY, "to a savepoint").await.unwrap();
    admin.batch_execute("ROLLBACK TO a; SAVEPOINT b; SAVEPOINT c").await.unwrap();
    set(&admin, ANY, "kept").await.unwrap();
    admin.batch_execute("RELEASE b").await.unwrap();
    set(&admin, ANY, "kept, too").await.unwrap();
    nothing_comes(&mut listener).await;
    admin.batch_execute("COMMIT").await.unwrap();
    assert_eq!((next_revision(&mut listener).await, next_revision(&mut listener).await), (1, 2));
    for number in 3..200 {
        set(&admin, ANY, "again").await.unwrap();
        // Visible to whoever is told.
        assert_eq!(next_revision(&mut listener).await, number);
        assert!(revision(&listener, ANY).await >= number);
    }
    nothing_comes(&mut listener).await;
}

#[tokio::test]
async fn a_worker_that_is_killed_is_back_and_nothing_is_lost_meanwhile() {
    let cluster = Cluster::private();
    let database = cluster.database().await;
    let superuser = database.superuser().await;
    let Crowd { admin, mut listener, others: _others } = crowd(&database).await;
    let first = worker(&superuser).await.unwrap();
    for round in 1..=3_i64 {
        let pid = worker(&superuser).await;
        superuser.query_one("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
        for call in 1..=20 {
            set(&admin, ANY, "meanwhile").await.unwrap();
            assert_eq!(next_revision(&mut listener).await, (round - 1) * 20 + call);
        }
        while worker(&superuser).await.is_none() {
            sleep(Duration::from_millis(50)).await;
        }
    }
    assert_ne!(worker(&superuser).await, Some(first));
}

#[tokio::test]
async fn without_a_worker_transactions_send_themselves() {
    let cluster = Cluster::builder().setting("max_worker_processes", "0").start();
    let database = cluster.database().await;
    let Crowd { admin, mut listener, others: _others } = crowd(&database).await;
    assert_eq!(worker(&database.superuser().await).await, None);
    set(&admin, ANY, "one").await.unwrap();
    assert_eq!(next_revision(&mut listener).await, 1);
}

#[tokio::test]
async fn a_prepared_transaction_is_announced_by_whoever_commits_it() {
    let mut cluster = Cluster::builder().setting("max_prepared_transactions", "5").start();
    let database = cluster.database().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    for name in ["committed", "later", "never"] {
        admin.batch_execute("BEGIN").await.unwrap();
        // Of three prepared transactions, each has to have a row of its own.
        register(&admin, name, json!({})).await.unwrap();
        set(&admin, name, "a value").await.unwrap();
        admin.batch_execute(&format!("PREPARE TRANSACTION '{name}'")).await.unwrap();
    }
    let mut listener = database.connect(ADMIN).await;
    listener.batch_execute("LISTEN integration_credentials").await.unwrap();
    listener.batch_execute("COMMIT PREPARED 'committed'").await.unwrap();
    assert_eq!(next(&mut listener).await, json!({"v": 1, "op": "resync"}));
    listener.batch_execute("ROLLBACK PREPARED 'never'").await.unwrap();
    nothing_comes(&mut listener).await;

    cluster.stop(Shutdown::Immediate);
    cluster.start();
    let mut listener = database.connect(ADMIN).await;
    listener.batch_execute("LISTEN integration_credentials").await.unwrap();
    listener.batch_execute("COMMIT PREPARED 'later'").await.unwrap();
    assert_eq!(next(&mut listener).await, json!({"v": 1, "op": "resync"}));
    listener.batch_execute("BEGIN").await.unwrap();
    listener.batch_execute("PREPARE TRANSACTION 'nothing'").await.unwrap();
    listener.batch_execute("COMMIT PREPARED 'nothing'").await.unwrap();
    nothing_comes(&mut listener).await;
    assert_eq!(get(&database.connect(READER).await, "later").await.unwrap(), "a value");
}

#[tokio::test]
async fn the_worker_is_in_nobodys_way() {
    let cluster = Cluster::private();
    let database = cluster.database().await;
    let Crowd { admin, mut listener, others } = crowd(&database).await;
    set(&admin, ANY, "one").await.unwrap();
    assert_eq!(next_revision(&mut listener).await, 1);
    drop((admin, listener, others));
    let elsewhere = cluster.named_database("postgres").superuser().await;
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1";
    while elsewhere.query_one(sessions, &[&database.name()]).await.unwrap().get::<_, i64>(0) > 0 {
        sleep(Duration::from_millis(20)).await;
    }
    elsewhere.batch_execute(&format!("DROP DATABASE {}", database.name())).await.unwrap();
}
