//! The server is back, and has more logins to carry out than its clients have patience for. Postgres spends time
//! on each of them, even if the client has left. So clients that leave and come again must not keep everybody out.

use crate::{
    observers::{BY_NOTIFICATION, patiently, print, settings},
    proxy::Proxy,
    scene::Scene,
};
use deadpool_postgres::{Manager, Pool};
use intcred::{CacheOptions, CredentialCache, EventKind, Watcher};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::NoTls;

const LIMIT: Duration = Duration::from_secs(40);
/// Longer than the `connect_timeout` of a second, and than a fetch may take.
const LOGIN: Duration = Duration::from_millis(1200);
const RETRY: Duration = Duration::from_millis(20);

/// A server with one key, and a way to it.
async fn scene() -> (Scene, Proxy) {
    let scene = Scene::new(1).await;
    let proxy = scene.proxy().await;
    (scene, proxy)
}

/// Closes all connections and changes the key. From then on each login takes long. Returns how many connections
/// there were until `back` is over.
async fn connections(what: &str, scene: &Scene, proxy: &Proxy, back: impl Future<Output = ()>) -> usize {
    proxy.delay(LOGIN);
    let (before, since) = (proxy.accepted(), Instant::now());
    proxy.cut();
    scene.superuser().await.execute("SELECT change($1, 'set')", &[&scene.keys[0]]).await.unwrap();
    timeout(LIMIT, back).await.unwrap_or_else(|_| panic!("{what} is not back"));
    let connections = proxy.accepted() - before;
    print(&format!(
        "slow logins: {what} is back after {} ms, {connections} connections",
        since.elapsed().as_millis()
    ));
    connections
}

/// Callers ask all the time.
async fn has_new_value(cache: &CredentialCache, key: &str) {
    while !cache.get(key).await.is_ok_and(|credential| credential.revision() == 2) {
        sleep(RETRY).await;
    }
}

fn options() -> CacheOptions {
    CacheOptions { watch: BY_NOTIFICATION, timeout: Duration::from_secs(1), ..CacheOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_waits_for_longer_each_time() {
    let (scene, proxy) = scene().await;
    let settings = settings(&scene.over(&proxy));
    let mut watcher = patiently(async || Watcher::start(&settings, BY_NOTIFICATION).await).await.unwrap();
    let back =
        async { while !matches!(watcher.recv().await.unwrap().kind, EventKind::Reconnected { .. }) {} };
    assert!(connections("a watcher", &scene, &proxy, back).await <= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_has_one_login_at_a_time_for_each_connection() {
    let (scene, proxy) = scene().await;
    let settings = settings(&scene.over(&proxy));
    let cache = patiently(async || CredentialCache::start(&settings, options()).await).await.unwrap();
    patiently(async || cache.get(&scene.keys[0]).await).await.unwrap();
    let back = has_new_value(&cache, &scene.keys[0]);
    assert!(connections("a cache", &scene, &proxy, back).await <= 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_ends_the_login_that_it_began() {
    let (scene, proxy) = scene().await;
    let config = scene.over(&proxy).parse().unwrap();
    let pool = Pool::builder(Manager::new(config, NoTls)).max_size(1).build().unwrap();
    // Who watches is told at once.
    let settings = settings(&scene.reader());
    let start = async || CredentialCache::over_pool(&settings, pool.clone(), options()).await;
    let cache = patiently(start).await.unwrap();
    patiently(async || cache.get(&scene.keys[0]).await).await.unwrap();
    let back = has_new_value(&cache, &scene.keys[0]);
    assert!(connections("a pool", &scene, &proxy, back).await == 1);
}
