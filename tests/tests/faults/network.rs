//! The network carries nothing for a while, or closes what is open, without the server or anybody else to blame.

use crate::{
    load::Load,
    observers::{BY_NOTIFICATION, LIMIT, Observers, VIGILANT, eventually, patiently, settings},
    proxy::{Proxy, Way},
    scene::{Scene, pool},
};
use intcred::{CacheOptions, CredentialCache, EventKind};
use std::{fs, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// Longer than it takes the vigilant to find out, and their fetches to give up.
const OUTAGE: Duration = Duration::from_millis(2500);
const PAUSE: Duration = Duration::from_millis(5);
/// Connections, of a pool at least one: the watcher's, two of the first cache and two of the second, and one of each other.
const OVER_THE_PROXY: usize = 7;

/// Under load, everybody agrees with a server that was out of reach of some for a moment. The admins always reach it.
async fn outlives(what: &str, out_of_reach: impl AsyncFn(&Proxy, &Observers)) {
    let scene = Scene::new(40).await;
    let proxy = scene.proxy().await;
    let way = scene.over(&proxy);
    let mut observers = Observers::direct(&scene).await;
    observers.watch("watcher over the proxy", &way, VIGILANT).await;
    observers.cache("cache over the proxy", &way, VIGILANT).await;
    observers.cache_over("cache over the proxy, with a pool", &way, pool(&way), VIGILANT).await;
    // Two that lose one of their connections and keep the other.
    observers.cache_over("watches over the proxy", &way, pool(&scene.reader()), VIGILANT).await;
    observers.cache_over("fetches over the proxy", &scene.reader(), pool(&way), BY_NOTIFICATION).await;
    let load = Load::start(&scene, &scene.admin(), PAUSE, fastrand::Rng::new());
    load.go_on(100).await;
    eventually("all go over the proxy", async || proxy.accepted() >= OVER_THE_PROXY).await;
    out_of_reach(&proxy, &observers).await;
    let since = Instant::now();
    load.finish().await;
    observers.settle(what, since, LIMIT, &scene.database).await;
    assert!(is_told(&observers, "watcher over the proxy") && !is_told(&observers, "watcher"));
}

/// Whether a watcher has noticed that the server is out of reach.
fn is_told(observers: &Observers, name: &str) -> bool {
    observers.told(name).iter().any(|event| matches!(event, EventKind::Disconnected { .. }))
}

async fn outlives_stall(what: &str, way: Way) {
    let stall = async |proxy: &Proxy, observers: &Observers| {
        proxy.stall(way);
        sleep(OUTAGE).await;
        eventually("the silence is noticed", async || is_told(observers, "watcher over the proxy")).await;
        proxy.resume();
    };
    outlives(what, stall).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_both_ways() {
    outlives_stall("network silent", Way::Both).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_towards_the_server() {
    outlives_stall("network half-open, silent towards the server", Way::ToServer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_towards_the_client() {
    outlives_stall("network half-open, silent towards the client", Way::ToClient).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut() {
    let cut = async |proxy: &Proxy, _: &Observers| {
        for _ in 0..5 {
            proxy.cut();
            sleep(Duration::from_millis(100)).await;
        }
    };
    outlives("connections cut five times", cut).await;
}

/// How many connections of this machine to a port are open, as the client sees them.
fn connected_to(port: u16) -> usize {
    let port = format!(":{port:04X}");
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    let is_open = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[2].ends_with(&port) && fields[3] == "01"
    };
    sockets.lines().filter(is_open).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_that_is_dropped_in_silence_closes_its_connections() {
    let scene = Scene::new(2).await;
    let proxy = scene.proxy().await;
    let options = CacheOptions { timeout: Duration::from_secs(1), ..CacheOptions::default() };
    let settings = settings(&scene.over(&proxy));
    let cache = patiently(async || CredentialCache::start(&settings, options.clone()).await).await.unwrap();
    patiently(async || cache.get(&scene.keys[0]).await).await.unwrap();
    let both = async || connected_to(proxy.port()) == 2;
    eventually("the watcher has a connection, and fetches have another", both).await;
    // What the client sends is taken, and never answered.
    proxy.stall(Way::ToClient);
    let unanswered = timeout(Duration::from_millis(200), cache.get(&scene.keys[1])).await;
    assert!(!matches!(unanswered, Ok(Ok(_))));
    drop(cache);
    eventually("the connections are closed", async || connected_to(proxy.port()) == 0).await;
}
