//! Logical replication of all tables, as a database is moved by it: the subscriber gets there, stays in step, tells its
//! listeners, and can be written to afterwards.

use crate::audit_proof::{Kept, problems, sealed};
use crate::dump::{source, state};
use crate::helpers::calls::{ANY, enable, get, register, remove, revision, set};
use crate::helpers::fixture::until;
use integration_credentials_core::error::ErrorCode;
use serde_json::json;
use tests::{
    ADMIN, Canary, Cluster, Database, READER, SUPERUSER, Session, assert_error, installation::Installation,
    intcred, run,
};
use tokio::time::{Duration, sleep, timeout};

/// Two clusters with one keyring, and a database in each: what is published, and the subscriber.
struct Pair {
    _clusters: [Cluster; 2],
    publisher: Database,
    subscriber: Database,
    superuser: Session,
}

impl Pair {
    /// A publisher with something of everything, and a subscriber that has nothing but the extension.
    async fn new(canary: &Canary) -> Self {
        let builder = || {
            let builder = Cluster::builder().setting("wal_level", "logical").setting("fsync", "off");
            // A worker that starts again waits for so long, and five seconds by default.
            let builder = builder.setting("wal_retrieve_retry_interval", "200ms");
            builder.setting("max_prepared_transactions", "10")
        };
        let from = builder().start();
        let to = builder().keyring(from.keyring()).start();
        let publisher = source(&from, canary, None).await;
        let publish = "CREATE PUBLICATION everything FOR ALL TABLES";
        publisher.superuser().await.batch_execute(publish).await.unwrap();
        let subscriber = to.database().await;
        subscriber.set_org("acme").await;
        let superuser = subscriber.superuser().await;
        Self { _clusters: [from, to], publisher, subscriber, superuser }
    }

    async fn subscribe(&self, options: &str) {
        let dsn = self.publisher.dsn(SUPERUSER).replace('\'', "''");
        let subscribe =
            format!("CREATE SUBSCRIPTION all_of_it CONNECTION '{dsn}' PUBLICATION everything {options}");
        self.superuser.batch_execute(&subscribe).await.unwrap();
        let ready = "SELECT WHERE NOT EXISTS (SELECT FROM pg_subscription_rel WHERE srsubstate <> 'r')";
        until(&self.superuser, ready).await;
    }

    /// Waits until the subscriber has all that the publisher has.
    async fn in_step(&self) {
        let (mut expected, mut seen) = (String::new(), String::from("nothing"));
        let wait = async {
            while seen != expected {
                sleep(Duration::from_millis(20)).await;
                (expected, seen) = (state(&self.publisher).await, state(&self.subscriber).await);
            }
        };
        timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| panic!("not in step"));
    }
}

#[tokio::test]
async fn a_subscriber_of_all_tables_gets_there_and_stays_in_step() {
    let canary = Canary::new();
    let pair = Pair::new(&canary).await;
    // It remembers the catalog that the extension came with.
    let (reader, here) = (pair.subscriber.connect(READER).await, pair.subscriber.connect(ADMIN).await);
    for (key, code) in [("hubspot", ErrorCode::CredentialsNotSet), ("github", ErrorCode::CredentialsNotSet)] {
        assert_error(get(&reader, key).await, code);
    }
    pair.subscribe("").await;
    pair.in_step().await;
    assert_eq!(get(&reader, ANY).await.unwrap(), canary.as_str());
    assert_error(get(&reader, "hubspot").await, ErrorCode::IntegrationDisabled);
    for key in ["github", "stripe"] {
        assert_error(get(&reader, key).await, ErrorCode::IntegrationNotFound);
    }

    let admin = pair.publisher.connect(ADMIN).await;
    let unregister = "SELECT integration_credentials.admin_unregister_integration('salesforce', 'actor')";
    let changes = async || {
        set(&admin, ANY, "rotated").await.unwrap();
        set(&admin, "trustradius", "rotated-value").await.unwrap();
        remove(&admin, "trustradius").await.unwrap();
        enable(&admin, "hubspot", true).await.unwrap();
        register(&admin, "github", json!({"minLength": 1})).await.unwrap();
        admin.batch_execute(unregister).await.unwrap();
        register(&admin, "salesforce", json!({})).await.unwrap();
        admin.batch_execute(unregister).await.unwrap();
    };
    changes().await;
    register(&admin, "salesforce", json!({})).await.unwrap();
    pair.in_step().await;
    changes().await;
    pair.in_step().await;
    assert_eq!(get(&reader, ANY).await.unwrap(), "rotated");
    assert_error(get(&reader, "hubspot").await, ErrorCode::CredentialsNotSet);
    assert_error(get(&reader, "salesforce").await, ErrorCode::IntegrationNotFound);
    assert_eq!(revision(&here, ANY).await, 3);
    enable(&admin, ANY, false).await.unwrap();
    pair.in_step().await;
    assert_error(get(&reader, ANY).await, ErrorCode::IntegrationDisabled);
}

#[tokio::test]
async fn each_side_keeps_its_own_reads() {
    let pair = Pair::new(&Canary::new()).await;
    pair.subscribe("").await;
    pair.in_step().await;
    let table = "integration_credentials.credential_reads";
    let publisher = pair.publisher.superuser().await;
    let sides = [(&pair.publisher, &publisher, 2), (&pair.subscriber, &pair.superuser, 1)];
    // The same key and role, in either order.
    for round in 1..=2 {
        for (database, superuser, times) in sides {
            let reader = database.connect(READER).await;
            for _ in 0..times {
                get(&reader, ANY).await.unwrap();
            }
            let written =
                format!("SELECT FROM {table} HAVING count(*) = 1 AND sum(reads) = {}", round * times);
            until(superuser, &written).await;
        }
    }
    // What is replicated after all of that has passed by it.
    set(&pair.publisher.connect(ADMIN).await, ANY, "rotated").await.unwrap();
    pair.in_step().await;
    let reads = format!("SELECT sum(reads)::bigint FROM {table}");
    assert_eq!(pair.superuser.query_one(&reads, &[]).await.unwrap().get::<_, i64>(0), 2);
}

/// Takes the notifications that are still on their way.
async fn rest(listener: &mut Session) {
    sleep(Duration::from_millis(300)).await;
    listener.batch_execute("SELECT").await.unwrap();
    listener.notifications();
}

#[tokio::test]
async fn a_replicated_change_is_announced_once_it_can_be_seen() {
    let pair = Pair::new(&Canary::new()).await;
    let mut listener = pair.subscriber.superuser().await;
    listener.batch_execute("LISTEN integration_credentials").await.unwrap();
    let resync = async |listener: &mut Session| {
        let notification = listener.next_notification().await;
        assert_eq!(notification.payload(), r#"{"v":1,"op":"resync"}"#);
    };
    pair.subscribe("WITH (two_phase = true)").await;
    // The tables were copied.
    resync(&mut listener).await;
    pair.in_step().await;
    rest(&mut listener).await;

    let (admin, reader) = (pair.publisher.connect(ADMIN).await, pair.subscriber.connect(READER).await);
    // Another change, such as the copy or an audit block, may be announced before this one.
    let shown = async |listener: &mut Session, value: &str| {
        loop {
            resync(listener).await;
            if get(&reader, ANY).await.is_ok_and(|shown| shown == value) {
                break;
            }
        }
    };
    for how in ["adaptive", "transaction"] {
        let notify = format!("ALTER SYSTEM SET integration_credentials.notify = '{how}'");
        pair.superuser.batch_execute(&notify).await.unwrap();
        pair.superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        sleep(Duration::from_millis(500)).await;
        set(&admin, ANY, how).await.unwrap();
        shown(&mut listener, how).await;
        enable(&admin, ANY, false).await.unwrap();
        loop {
            resync(&mut listener).await;
            if let Err(error) = get(&reader, ANY).await {
                assert_error(Err::<(), _>(error), ErrorCode::IntegrationDisabled);
                break;
            }
        }
        enable(&admin, ANY, true).await.unwrap();
        shown(&mut listener, how).await;
        rest(&mut listener).await;
        // Of many rows, one word.
        admin.batch_execute("BEGIN").await.unwrap();
        for _ in 0..10 {
            set(&admin, ANY, how).await.unwrap();
        }
        admin.batch_execute("COMMIT").await.unwrap();
        resync(&mut listener).await;
        sleep(Duration::from_millis(300)).await;
        listener.batch_execute("SELECT").await.unwrap();
        assert!(listener.notifications().is_empty());
    }

    // A plain NOTIFY cannot be prepared, on either side.
    pair.superuser.batch_execute("ALTER SYSTEM RESET integration_credentials.notify").await.unwrap();
    pair.superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    sleep(Duration::from_millis(500)).await;
    let prepared = async |listener: &mut Session, value: &str| {
        admin.batch_execute("BEGIN").await.unwrap();
        set(&admin, ANY, value).await.unwrap();
        admin.batch_execute("PREPARE TRANSACTION 'p'").await.unwrap();
        until(&pair.superuser, "SELECT FROM pg_prepared_xacts").await;
        sleep(Duration::from_millis(300)).await;
        assert_ne!(get(&reader, ANY).await.unwrap(), value, "it has not committed");
        // While a transaction is prepared, every commit of an apply worker is announced: that of an audit block, too.
        listener.batch_execute("SELECT").await.unwrap();
        listener.notifications();
        admin.batch_execute("COMMIT PREPARED 'p'").await.unwrap();
        shown(listener, value).await;
    };
    prepared(&mut listener, "prepared").await;

    // Since 16, one worker may prepare a large transaction, and another commit it.
    if Installation::find().major() >= 16 {
        let publisher = pair.publisher.superuser().await;
        let immediate = "ALTER SYSTEM SET debug_logical_replication_streaming = immediate";
        publisher.batch_execute(immediate).await.unwrap();
        publisher.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        let parallel = "ALTER SUBSCRIPTION all_of_it SET (streaming = parallel)";
        pair.superuser.batch_execute(parallel).await.unwrap();
        for value in ["by two workers", "and again"] {
            prepared(&mut listener, value).await;
        }
        let worker = "SELECT FROM pg_stat_subscription WHERE worker_type = 'parallel apply'";
        if Installation::find().major() >= 17 {
            until(&pair.superuser, worker).await;
        }
    }
}

#[tokio::test]
async fn after_a_cutover_the_doctor_gives_the_logs_their_next_ids() {
    let pair = Pair::new(&Canary::new()).await;
    pair.subscribe("").await;
    pair.in_step().await;
    pair.superuser.batch_execute("DROP SUBSCRIPTION all_of_it").await.unwrap();
    let admin = pair.subscriber.connect(ADMIN).await;
    let taken = set(&admin, ANY, "value").await.unwrap_err();
    assert_eq!(taken.code().unwrap().code(), "23505", "{taken:?}");
    let doctor = async |arguments: &[&str]| {
        let dsn = pair.subscriber.dsn(SUPERUSER);
        run(intcred().args(["--dsn", &dsn, "doctor"]).args(arguments), b"").await
    };
    let found = doctor(&[]).await;
    assert_eq!(found.stdout.matches("\nproblem  ids ").count(), 2, "{found:?}");
    doctor(&["--fix", "--yes"]).await;
    for _ in 0..2 {
        set(&admin, ANY, "value").await.unwrap();
    }
    let found = doctor(&[]).await;
    assert!(found.stdout.contains("\nok       ids "), "{found:?}");
}

/// The publisher's blocks arrive with its rows, and the subscriber makes none of its own until the cutover.
#[tokio::test]
async fn a_subscriber_has_the_publishers_chain_and_goes_on_with_it() {
    let pair = Pair::new(&Canary::new()).await;
    pair.subscribe("").await;
    let admin = pair.publisher.connect(ADMIN).await;
    set(&admin, ANY, "one").await.unwrap();
    let publisher = pair.publisher.superuser().await;
    sealed(&publisher).await;
    let head = Kept::head(&pair.publisher).await;
    pair.in_step().await;
    sealed(&pair.superuser).await;
    assert_eq!(problems(&pair.subscriber, &head).await, [""; 0], "while it follows");
    let blocks = "SELECT string_agg(header, '' ORDER BY number) FROM integration_credentials.audit_blocks";
    let of = async |superuser: &Session| superuser.query_one(blocks, &[]).await.unwrap().get::<_, String>(0);
    assert_eq!(of(&pair.superuser).await, of(&publisher).await);

    pair.superuser.batch_execute("DROP SUBSCRIPTION all_of_it").await.unwrap();
    let dsn = pair.subscriber.dsn(SUPERUSER);
    run(intcred().args(["--dsn", &dsn, "doctor", "--fix", "--yes"]), b"").await;
    set(&pair.subscriber.connect(ADMIN).await, ANY, "two").await.unwrap();
    sealed(&pair.superuser).await;
    assert_eq!(problems(&pair.subscriber, &head).await, [""; 0], "on its own");
    assert_ne!(of(&pair.superuser).await, of(&publisher).await);
}
