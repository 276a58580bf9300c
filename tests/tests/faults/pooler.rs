//! A pooler in between: pgbouncer.

use crate::{
    load::Load,
    observers::{
        BY_NOTIFICATION, LIMIT, Observers, PATIENCE, VIGILANT, cache_options, patiently, print, settings,
    },
    pgbouncer::PgBouncer,
    scene::{Scene, pool},
};
use intcred::{CredentialCache, Error, EventKind, WatchOptions, Watcher};
use std::time::Duration;
use tests::Shutdown;
use tokio::time::{Instant, timeout};

const PAUSE: Duration = Duration::from_millis(2);

#[tokio::test(flavor = "multi_thread")]
async fn in_session_mode_everything_works_through_it() {
    let scene = Scene::new(40).await;
    let pgbouncer = PgBouncer::start(&scene.cluster, "session").await;
    let way = pgbouncer.reader(&scene.database);
    let mut observers = Observers::none(&scene);
    observers.watch("watcher", &way, BY_NOTIFICATION).await;
    observers.cache("cache", &way, BY_NOTIFICATION).await;
    observers.cache_over("cache over a pool", &way, pool(&way), BY_NOTIFICATION).await;
    let load = Load::start(&scene, &scene.admin(), PAUSE, fastrand::Rng::new());
    load.go_on(200).await;
    pgbouncer.stop().await;
    load.go_on(50).await;
    let _pgbouncer = PgBouncer::start(&scene.cluster, "session").await;
    let since = Instant::now();
    load.finish().await;
    observers.settle("PgBouncer in session mode, restarted", since, LIMIT, &scene.database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_transaction_mode_a_pool_may_go_through_it_and_who_watches_does_not() {
    let mut scene = Scene::new(40).await;
    let pgbouncer = PgBouncer::start(&scene.cluster, "transaction").await;
    let way = pgbouncer.reader(&scene.database);
    let mut observers = Observers::none(&scene);
    observers.cache_over("cache over a pool", &scene.reader(), pool(&way), BY_NOTIFICATION).await;
    let load = Load::start(&scene, &scene.admin(), PAUSE, fastrand::Rng::new());
    load.go_on(200).await;
    tokio::task::block_in_place(|| {
        scene.cluster.stop(Shutdown::Immediate);
        scene.cluster.start();
    });
    let since = Instant::now();
    load.go_on(20).await;
    load.finish().await;
    let what = "PgBouncer in transaction mode, server restarted";
    observers.settle(what, since, LIMIT, &scene.database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_transaction_mode_it_is_found_out_at_the_start_and_later() {
    let scene = Scene::new(1).await;
    let pgbouncer = PgBouncer::start(&scene.cluster, "transaction").await;
    let settings = settings(&pgbouncer.reader(&scene.database));
    let began = Instant::now();
    let watcher = patiently(async || Watcher::start(&settings, VIGILANT).await).await;
    assert!(matches!(watcher, Err(Error::NotificationsLost)), "{watcher:?}");
    let found_out = began.elapsed();
    let cache = patiently(async || CredentialCache::start(&settings, cache_options(VIGILANT)).await).await;
    assert!(matches!(cache, Err(Error::NotificationsLost)), "{cache:?}");
    pgbouncer.stop().await;

    // Somebody changes the mode of one that worked, and back again.
    let pgbouncer = PgBouncer::start(&scene.cluster, "session").await;
    let options = WatchOptions { initial: false, ..BY_NOTIFICATION };
    let mut watcher = patiently(async || Watcher::start(&settings, options).await).await.unwrap();
    let mut next = async || timeout(PATIENCE, watcher.recv()).await.expect("an event").unwrap().kind;
    assert!(matches!(next().await, EventKind::Synced { .. }));
    pgbouncer.stop().await;
    let pgbouncer = PgBouncer::start(&scene.cluster, "transaction").await;
    let lost = Error::NotificationsLost.to_string();
    loop {
        match next().await {
            EventKind::Disconnected { reason, .. } if reason == lost => break,
            EventKind::Disconnected { .. } => {}
            event => panic!("{event:?}"),
        }
    }
    pgbouncer.stop().await;
    let _pgbouncer = PgBouncer::start(&scene.cluster, "session").await;
    let since = Instant::now();
    assert!(matches!(next().await, EventKind::Reconnected { .. }));
    let back = since.elapsed();
    print(&format!(
        "PgBouncer in transaction mode: found out within {} ms, and listening {} ms after it is in session mode again",
        found_out.as_millis(),
        back.as_millis()
    ));
}
