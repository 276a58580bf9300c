//! The primary is lost and its standby promoted.

use crate::{
    load::Load,
    observers::{BY_NOTIFICATION, Observers, VIGILANT, settings},
    scene::{Scene, pool},
};
use intcred::{EventKind, Mode, WatchOptions, Watcher};
use std::time::Duration;
use tests::{ADMIN, Cluster, Database, READER, SUPERUSER, Session};
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(30);
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

/// From now on, nothing is committed that the standby does not have.
async fn wait_for_standby(superuser: &Session) {
    superuser.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await.unwrap();
    superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let sync = "SELECT FROM pg_stat_replication WHERE sync_state = 'sync'";
    while superuser.query(sync, &[]).await.unwrap().is_empty() {
        sleep(Duration::from_millis(20)).await;
    }
}

async fn until(watcher: &mut Watcher, is_wanted: impl Fn(&EventKind) -> bool) {
    let wait = async { while !is_wanted(&watcher.recv().await.unwrap().kind) {} };
    timeout(PATIENCE, wait).await.expect("the event comes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_promoted() {
    let mut scene = Scene::new(40).await;
    let standby = tokio::task::block_in_place(|| scene.cluster.standby());
    wait_for_standby(&scene.superuser().await).await;
    let copy = standby.named_database(scene.database.name());
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
    let mut poller = Watcher::start(&settings(&any), options).await.unwrap();
    assert_eq!(poller.mode(), Mode::Polling);

    let load = Load::start(
        &scene,
        &either(primary, &standby, &copy, ADMIN, "read-write"),
        PAUSE,
        fastrand::Rng::new(),
    );
    load.go_on(200).await;
    tokio::task::block_in_place(|| scene.cluster.kill_postmaster());
    let promoted = copy.connect(SUPERUSER).await;
    promoted.batch_execute("SELECT pg_promote()").await.unwrap();
    let since = Instant::now();
    load.go_on(50).await;
    load.finish().await;
    observers.settle("standby promoted", since, LIMIT, &copy).await;
    until(&mut poller, |event| matches!(event, EventKind::Reconnected { mode: Mode::Listening })).await;
}
