//! The primary is lost and its standby promoted.

use crate::{
    load::Load,
    observers::{BY_NOTIFICATION, LIMIT, Observers, PATIENCE, VIGILANT, eventually, patiently, settings},
    scene::{Scene, pool},
};
use intcred::{EventKind, Mode, WatchOptions, Watcher};
use std::time::Duration;
use tests::{ADMIN, Cluster, Database, READER, SUPERUSER, Session};
use tokio::time::{Instant, timeout};

const PAUSE: Duration = Duration::from_millis(2);

/// How `role` gets to whichever of the two it may use.
fn either(first: &Cluster, second: &Cluster, database: &Database, role: &str, which: &str) -> String {
    format!(
        "host={},{} port={},{} dbname={} user={role} target_session_attrs={which}",
        first.dir().display(),
        second.dir().display(),
        first.port(),
        second.port(),
        database.name()
    )
}

/// From now on, nothing is committed that the standby does not have, though it shows it a moment later.
async fn replicate(primary: &Session, standby: &Session) {
    set(standby, "recovery_min_apply_delay = '50ms'").await;
    set(primary, "synchronous_standby_names = '*'").await;
    let sync = "SELECT FROM pg_stat_replication WHERE sync_state = 'sync'";
    eventually("the standby is a synchronous one", async || {
        !primary.query(sync, &[]).await.unwrap().is_empty()
    })
    .await;
}

async fn promote(standby: &Session) {
    // A statement that waits for it may keep WAL from being replayed, which it waits for.
    standby.batch_execute("SELECT pg_promote(wait => false)").await.unwrap();
    eventually("the standby is promoted", async || {
        !standby.query_one("SELECT pg_is_in_recovery()", &[]).await.unwrap().get::<_, bool>(0)
    })
    .await;
}

async fn set(superuser: &Session, setting: &str) {
    superuser.batch_execute(&format!("ALTER SYSTEM SET {setting}")).await.unwrap();
    superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
}

async fn until(watcher: &mut Watcher, is_wanted: impl Fn(&EventKind) -> bool) {
    let wait = async { while !is_wanted(&watcher.recv().await.unwrap().kind) {} };
    timeout(PATIENCE, wait).await.expect("the event comes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_promoted() {
    let mut scene = Scene::new(40).await;
    let standby = tokio::task::block_in_place(|| scene.cluster.standby());
    let copy = standby.named_database(scene.database.name());
    replicate(&scene.superuser().await, &copy.connect(SUPERUSER).await).await;
    let primary = &scene.cluster;

    // Who needs the primary, and who takes what it gets: the standby, which it polls until that is promoted.
    let (write, any) = (
        either(primary, &standby, &copy, READER, "read-write"),
        either(&standby, primary, &copy, READER, "any"),
    );
    let mut observers = Observers::none(&scene);
    observers.watch("watcher", &write, BY_NOTIFICATION).await;
    observers.cache("cache", &write, BY_NOTIFICATION).await;
    observers.cache_over("cache over a pool", &write, pool(&write), BY_NOTIFICATION).await;
    observers.watch("watcher of the standby", &any, VIGILANT).await;
    observers.cache("cache of the standby", &any, VIGILANT).await;
    observers.cache_over("watches the primary, fetches from the standby", &write, pool(&any), VIGILANT).await;
    let options = WatchOptions { initial: false, ..VIGILANT };
    let mut poller = patiently(async || Watcher::start(&settings(&any), options).await).await.unwrap();
    assert_eq!(poller.mode(), Mode::Polling);

    let admin = either(primary, &standby, &copy, ADMIN, "read-write");
    let load = Load::start(&scene, &admin, PAUSE, fastrand::Rng::new());
    load.go_on(200).await;
    load.finish().await;
    observers.settle("beside a standby that lags by 50 ms", Instant::now(), LIMIT, &scene.database).await;

    let load = Load::start(&scene, &admin, PAUSE, fastrand::Rng::new());
    load.go_on(100).await;
    tokio::task::block_in_place(|| scene.cluster.kill_postmaster());
    promote(&copy.connect(SUPERUSER).await).await;
    let since = Instant::now();
    load.go_on(50).await;
    load.finish().await;
    observers.settle("standby promoted", since, LIMIT, &copy).await;
    until(&mut poller, |event| matches!(event, EventKind::Reconnected { mode: Mode::Listening })).await;
}
