//! The server ends, or a process of it, in every way there is.

use crate::{
    load::Load,
    observers::{LIMIT, Observers, eventually},
    scene::Scene,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::time::Duration;
use tests::{Cluster, Session, Shutdown};
use tokio::time::Instant;

/// Changes that are made while everybody comes back; they take some ms.
const AFTERWARDS: usize = 20;
const PAUSE: Duration = Duration::from_millis(2);

/// Under load, everybody agrees with a server that was gone for a moment.
async fn outlives(what: &str, end: impl FnOnce(&mut Cluster)) {
    let mut scene = Scene::new(40).await;
    let observers = Observers::direct(&scene).await;
    let load = Load::start(&scene, &scene.admin(), PAUSE, fastrand::Rng::new());
    load.go_on(200).await;
    tokio::task::block_in_place(|| {
        end(&mut scene.cluster);
        scene.cluster.start();
    });
    let since = Instant::now();
    load.go_on(AFTERWARDS).await;
    load.finish().await;
    observers.settle(what, since, LIMIT, &scene.database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_restart() {
    outlives("restart, fast", |cluster| cluster.stop(Shutdown::Fast)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immediate_restart() {
    outlives("restart, immediate", |cluster| cluster.stop(Shutdown::Immediate)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postmaster_killed() {
    outlives("kill -9 of the postmaster", Cluster::kill_postmaster).await;
}

/// Under load, everybody agrees with a server of which some processes are ended three times. `ended` tells whether any
/// were.
async fn outlives_ends(what: &str, ended: impl AsyncFn(&Session) -> bool) {
    let scene = Scene::new(40).await;
    let observers = Observers::direct(&scene).await;
    let load = Load::start(&scene, &scene.admin(), PAUSE, fastrand::Rng::new());
    let mut since = Instant::now();
    for _ in 0..3 {
        load.go_on(100).await;
        // They may be on their way back from the last time.
        eventually("some are ended", async || ended(&scene.superuser().await).await).await;
        since = Instant::now();
    }
    load.go_on(AFTERWARDS).await;
    load.finish().await;
    observers.settle(what, since, LIMIT, &scene.database).await;
}

/// Ends all other sessions of the database.
const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                         WHERE datname = current_database() AND pid <> pg_backend_pid()";

#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_of_watchers_terminated() {
    let watchers = format!("{TERMINATE} AND query LIKE 'SELECT o.org%'");
    let ended = async |superuser: &Session| !superuser.query(&watchers, &[]).await.unwrap().is_empty();
    outlives_ends("watchers terminated", ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_sessions_terminated() {
    let ended = async |superuser: &Session| superuser.query(TERMINATE, &[]).await.unwrap().len() > 4;
    outlives_ends("all sessions terminated", ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_killed() {
    let watcher = "SELECT pid FROM pg_stat_activity WHERE application_name = 'intcred' LIMIT 1";
    let ended = async |superuser: &Session| {
        let Some(row) = superuser.query_opt(watcher, &[]).await.unwrap() else { return false };
        if kill(Pid::from_raw(row.get(0)), Signal::SIGKILL).is_err() {
            return false;
        }
        // The server ends all sessions once it has noticed.
        eventually("the server notices", async || superuser.batch_execute("SELECT").await.is_err()).await;
        true
    };
    outlives_ends("kill -9 of a backend", ended).await;
}
