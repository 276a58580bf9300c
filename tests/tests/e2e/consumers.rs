//! Leases, and the verdict on a rotation, as any client sees them that speaks SQL.

use crate::helpers::calls::{ANY, get, register, set};
use integration_credentials_core::error::ErrorCode;
use serde_json::{Value, json};
use tests::{ADMIN, AUDITOR, Canary, Cluster, Database, READER, Session, Shutdown, assert_error};
use tokio::time::{Duration, Instant, sleep};
use tokio_postgres::Error;

/// A consumer of the protocol: `[oldest, newest]` for each key.
pub struct Consumer<'a> {
    pub session: &'a Session,
    pub id: String,
    pub name: &'a str,
}

impl<'a> Consumer<'a> {
    pub async fn new(session: &'a Session, name: &'a str) -> Self {
        let id = session.query_one("SELECT gen_random_uuid()::text", &[]).await.unwrap().get(0);
        Self { session, id, name }
    }

    pub async fn report(&self, held: Value, lease: &str) -> Result<(), Error> {
        let statement = "SELECT integration_credentials.report_held_revisions(
            $1::text::uuid, $2, $3, $4::text::interval)";
        self.session.execute(statement, &[&self.id, &self.name, &held, &lease]).await.map(drop)
    }
}

/// Leases are complete, as they are a while after a server was set up.
pub async fn settle(database: &Database) {
    let epoch = "INSERT INTO integration_credentials.lease_epoch VALUES (true, now() - interval '1 day')
                 ON CONFLICT (is_the_row) DO UPDATE SET began_at = excluded.began_at";
    database.superuser().await.batch_execute(epoch).await.unwrap();
}

struct Status {
    state: String,
    verdict: String,
    reason: Option<String>,
    consumers: Option<i64>,
    behind: Value,
}

async fn status(session: &Session, key: &str) -> Status {
    let statement = "SELECT state, verdict, reason, consumers, behind
                     FROM integration_credentials.rotation_status($1)";
    let row = session.query_one(statement, &[&key]).await.unwrap();
    Status {
        state: row.get(0),
        verdict: row.get(1),
        reason: row.get(2),
        consumers: row.get(3),
        behind: row.get::<_, Option<Value>>(4).unwrap_or_default(),
    }
}

fn names(behind: &Value) -> Vec<&str> {
    behind.as_array().into_iter().flatten().map(|who| who["name"].as_str().unwrap()).collect()
}

/// A database with the credential [`ANY`] at revision 2 and its previous value, and complete leases.
async fn rotating() -> (Database, Session, Session) {
    rotating_in(Cluster::shared()).await
}

async fn rotating_in(cluster: &Cluster) -> (Database, Session, Session) {
    let database = cluster.database().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    settle(&database).await;
    set(&admin, ANY, "old-value").await.unwrap();
    set(&admin, ANY, "new-value").await.unwrap();
    let reader = database.connect(READER).await;
    (database, admin, reader)
}

async fn retire(session: &Session, force: bool) -> Result<Value, Error> {
    let statement = "SELECT integration_credentials.admin_retire_integration_credentials('any', 'actor', $1)";
    session.query_one(statement, &[&force]).await.map(|row| row.get(0))
}

#[tokio::test]
async fn rotation_waits_for_who_holds_the_old_value_and_names_them() {
    let (database, admin, reader) = rotating().await;
    assert_eq!(status(&admin, ANY).await.verdict, "converged");
    let (one, two) = (Consumer::new(&reader, "one").await, Consumer::new(&reader, "two").await);
    let other = Consumer::new(&reader, "of another key").await;
    other.report(json!({"slack": [0, 0]}), "1 min").await.unwrap();
    one.report(json!({ANY: [1, 1], "slack": [3, 3]}), "1 min").await.unwrap();
    two.report(json!({ANY: [1, 2]}), "1 min").await.unwrap();
    let auditor = database.connect(AUDITOR).await;
    for session in [&admin, &reader, &auditor] {
        let Status { state, verdict, reason, consumers, behind } = status(session, ANY).await;
        assert_eq!(
            (state.as_str(), verdict.as_str(), reason, consumers),
            ("rotating", "waiting", None, Some(2))
        );
        assert_eq!(names(&behind), ["one", "two"]);
        assert_eq!((&behind[1]["oldest"], &behind[1]["newest"]), (&json!(1), &json!(2)));
        assert_eq!(behind[0]["role"], READER);
    }
    let error = assert_error(retire(&admin, false).await, ErrorCode::NotConverged);
    let detail: Value = serde_json::from_str(error.detail().unwrap()).unwrap();
    let expected =
        json!({"status": 409, "code": "not_converged", "verdict": "waiting", "behind": ["one", "two"]});
    assert_eq!(detail, expected);

    one.report(json!({ANY: [2, 2]}), "1 min").await.unwrap();
    assert_eq!(names(&status(&admin, ANY).await.behind), ["two"]);
    // An ended lease is no lease.
    two.report(json!({}), "0").await.unwrap();
    assert_eq!(status(&admin, ANY).await.verdict, "converged");
    assert_eq!(retire(&admin, false).await.unwrap()["hasPrevious"], json!(false));
    assert_eq!(status(&admin, ANY).await.state, "steady");
}

#[tokio::test]
async fn lease_counts_for_its_whole_term_and_no_longer() {
    let (_database, admin, reader) = rotating().await;
    let dead = Consumer::new(&reader, "dead").await;
    let reported = Instant::now();
    dead.report(json!({ANY: [1, 1]}), "1 s").await.unwrap();
    while status(&admin, ANY).await.verdict == "waiting" {
        assert!(reported.elapsed() < Duration::from_secs(30));
        sleep(Duration::from_millis(20)).await;
    }
    // By two clocks.
    assert!(reported.elapsed() > Duration::from_millis(990), "{:?}", reported.elapsed());
}

#[tokio::test]
async fn previous_value_is_retired_by_force_all_the_same() {
    let (_database, admin, reader) = rotating().await;
    let stuck = Consumer::new(&reader, "stuck").await;
    stuck.report(json!({ANY: [1, 1]}), "1 min").await.unwrap();
    retire(&admin, true).await.unwrap();
    assert_error(retire(&admin, true).await, ErrorCode::CredentialsNotSet);
}

#[tokio::test]
async fn verdict_is_unknown_in_the_transaction_of_the_change() {
    let (_database, admin, reader) = rotating().await;
    for change in ["BEGIN", "BEGIN; SAVEPOINT s"] {
        admin.batch_execute(change).await.unwrap();
        set(&admin, ANY, change).await.unwrap();
        if change != "BEGIN" {
            admin.batch_execute("RELEASE s").await.unwrap();
        }
        let found = status(&admin, ANY).await;
        assert_eq!(found.verdict, "unknown");
        assert!(found.reason.unwrap().contains("until it commits"));
        assert_eq!(status(&reader, ANY).await.verdict, "converged");
        assert_error(retire(&admin, false).await, ErrorCode::NotConverged);
        admin.batch_execute("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn report_from_before_an_integration_was_registered_again_is_behind() {
    let (_database, admin, reader) = rotating().await;
    let consumer = Consumer::new(&reader, "late").await;
    consumer.report(json!({ANY: [7, 7]}), "1 min").await.unwrap();
    assert_eq!(status(&admin, ANY).await.verdict, "converged");
    let again = "SELECT integration_credentials.admin_remove_integration_credentials('any', 'actor');
                 SELECT integration_credentials.admin_unregister_integration('any', 'actor')";
    admin.batch_execute(again).await.unwrap();
    register(&admin, ANY, json!({})).await.unwrap();
    set(&admin, ANY, "of another time").await.unwrap();
    assert_eq!(names(&status(&admin, ANY).await.behind), ["late"]);
    consumer.report(json!({ANY: [1, 1]}), "1 min").await.unwrap();
    assert_eq!(status(&admin, ANY).await.verdict, "converged");
}

#[tokio::test]
async fn no_role_and_no_org_speaks_for_another() {
    // Grants are the whole cluster's.
    let cluster = Cluster::private();
    let (database, admin, reader) = rotating_in(&cluster).await;
    let honest = Consumer::new(&reader, "honest").await;
    honest.report(json!({ANY: [1, 1]}), "1 min").await.unwrap();
    let grant = format!(
        "GRANT integration_credentials_reader TO {AUDITOR}; GRANT integration_credentials_reader TO {ADMIN}"
    );
    database.superuser().await.batch_execute(&grant).await.unwrap();
    let auditor = database.connect(AUDITOR).await;
    let liar = Consumer { session: &auditor, id: honest.id.clone(), name: "liar" };
    liar.report(json!({ANY: [9, 9]}), "1 min").await.unwrap();
    liar.report(json!({}), "0").await.unwrap();
    assert_eq!(names(&status(&admin, ANY).await.behind), ["honest"]);

    database.set_role_org(ADMIN, "acme").await;
    let acme = database.connect(ADMIN).await;
    let other = Consumer { session: &acme, id: honest.id.clone(), name: "of acme" };
    other.report(json!({ANY: [9, 9]}), "1 min").await.unwrap();
    assert_eq!(names(&status(&admin, ANY).await.behind), ["honest"]);
    let all = "SELECT FROM integration_credentials.rotation_status()";
    assert!(acme.query(all, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn verdict_is_unknown_where_leases_cannot_be_seen() {
    let (_database, admin, _reader) = rotating().await;
    admin.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    let found = status(&admin, ANY).await;
    assert_eq!(found.verdict, "unknown");
    assert!(found.reason.unwrap().contains("REPEATABLE READ"));
    assert_error(retire(&admin, false).await, ErrorCode::NotConverged);
    admin.batch_execute("ROLLBACK").await.unwrap();
    admin.batch_execute("BEGIN READ ONLY").await.unwrap();
    assert_eq!(status(&admin, ANY).await.verdict, "converged");
}

#[tokio::test]
async fn standby_takes_no_report_and_gives_no_verdict() {
    let primary = Cluster::private();
    let database = primary.database().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    set(&admin, ANY, "value").await.unwrap();
    let standby = primary.standby();
    let reader = standby.named_database(database.name()).connect(READER).await;
    let found = status(&reader, ANY).await;
    assert_eq!((found.verdict.as_str(), found.consumers), ("unknown", None));
    assert!(found.reason.unwrap().contains("standby"));
    let consumer =
        Consumer { session: &reader, id: "00000000-0000-0000-0000-000000000001".into(), name: "here" };
    let error = consumer.report(json!({ANY: [1, 1]}), "1 min").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25006");
}

#[tokio::test]
async fn verdict_is_unknown_for_a_term_after_a_crash_and_right_after_it() {
    let mut cluster = Cluster::builder().setting("integration_credentials.max_lease", "10s").start();
    let database = cluster.database().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    settle(&database).await;
    set(&admin, ANY, "old-value").await.unwrap();
    let reader = database.connect(READER).await;
    let id = {
        let holder = Consumer::new(&reader, "holder").await;
        holder.report(json!({ANY: [1, 1]}), "10 s").await.unwrap();
        holder.id
    };
    set(&admin, ANY, "new-value").await.unwrap();
    assert_eq!(status(&admin, ANY).await.verdict, "waiting");
    let crashed = Instant::now();
    cluster.stop(Shutdown::Immediate);
    cluster.start();
    let database = cluster.named_database(database.name());
    let (admin, reader) = (database.connect(ADMIN).await, database.connect(READER).await);
    let first = status(&admin, ANY).await;
    assert_eq!(first.verdict, "unknown");
    assert!(first.reason.unwrap().contains("not complete before"));
    // Who comes back within the term is waited for.
    let holder = Consumer { session: &reader, id, name: "holder" };
    loop {
        let found = status(&admin, ANY).await;
        if found.verdict == "waiting" {
            assert_eq!(names(&found.behind), ["holder"]);
            break;
        }
        assert_eq!(found.verdict, "unknown");
        holder.report(json!({ANY: [1, 1]}), "10 s").await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    assert!(crashed.elapsed() > Duration::from_secs(10));
    holder.report(json!({ANY: [2, 2]}), "10 s").await.unwrap();
    assert_eq!(status(&admin, ANY).await.verdict, "converged");
    assert_eq!(get(&reader, ANY).await.unwrap(), "new-value");
}

#[tokio::test]
async fn wrong_reports_are_refused_and_show_nothing() {
    let (database, _admin, reader) = rotating().await;
    let consumer = Consumer::new(&reader, "name").await;
    let canary = Canary::new();
    for held in [
        json!([]),
        json!(canary.as_str()),
        json!({ANY: 1}),
        json!({ANY: [1]}),
        json!({ANY: [2, 1]}),
        json!({ANY: [-1, 1]}),
        json!({ANY: [1, 2, 3]}),
        json!({ANY: [canary.as_str(), 1]}),
        json!({ANY: [1.5, 2]}),
        json!({"": [1, 1]}),
        json!({"k".repeat(256): [1, 1]}),
        json!({ANY: "x".repeat(100_000)}),
    ] {
        let error = assert_error(consumer.report(held, "1 min").await, ErrorCode::InvalidRequest);
        canary.assert_absent(&error);
    }
    for lease in ["-1 s", "301 s", "1 year"] {
        assert_error(consumer.report(json!({}), lease).await, ErrorCode::InvalidRequest);
    }
    let nameless = Consumer { name: "", ..consumer };
    assert_error(nameless.report(json!({}), "1 min").await, ErrorCode::InvalidRequest);
    let rows = "SELECT FROM integration_credentials.consumers";
    assert!(database.superuser().await.query(rows, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn leases_that_ran_out_are_swept_by_the_next_consumer() {
    let (database, _admin, reader) = rotating().await;
    for _ in 0..5 {
        Consumer::new(&reader, "gone").await.report(json!({ANY: [1, 1]}), "1 ms").await.unwrap();
    }
    sleep(Duration::from_millis(20)).await;
    Consumer::new(&reader, "here").await.report(json!({ANY: [2, 2]}), "1 min").await.unwrap();
    let rows = database
        .superuser()
        .await
        .query("SELECT name FROM integration_credentials.consumers", &[])
        .await
        .unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, &str>(0)).collect::<Vec<_>>(), ["here"]);
}
