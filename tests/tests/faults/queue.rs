//! What stands between a commit and its listeners: the queue, which a sleeping listener holds up, and the process that
//! sends.

use crate::{
    load::Load,
    observers::{BY_NOTIFICATION, LIMIT, Observers, eventually},
    scene::Scene,
};
use intcred::EventKind;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::time::Duration;
use tests::{READER, Session};
use tokio::time::Instant;

const PAUSE: Duration = Duration::from_millis(1);
/// From so many sessions on, the process sends.
const CROWD: usize = 20;

/// How much of the queue is not read by everybody yet.
async fn unread(superuser: &Session) -> f64 {
    superuser.query_one("SELECT pg_notification_queue_usage()", &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_sleeps_while_the_queue_grows() {
    let scene = Scene::new(40).await;
    let superuser = scene.superuser().await;
    let dsn = format!("{} application_name=sleeper", scene.reader());
    let mut sleepers = Observers::none(&scene);
    sleepers.watch("watcher that slept", &dsn, BY_NOTIFICATION).await;
    let observers = Observers::direct(&scene).await;
    let asleep = "SELECT pid FROM pg_stat_activity WHERE application_name = 'sleeper' AND state = 'idle'";
    let is_one = async || superuser.query(asleep, &[]).await.unwrap().len() == 1;
    eventually("the watcher has one session", is_one).await;
    let pid = Pid::from_raw(superuser.query_one(asleep, &[]).await.unwrap().get(0));
    kill(pid, Signal::SIGSTOP).unwrap();

    let load = Load::start(&scene, &scene.admin(), PAUSE, fastrand::Rng::new());
    load.go_on(1000).await;
    let before = unread(&superuser).await;
    load.go_on(1000).await;
    load.finish().await;
    assert!(unread(&superuser).await > before, "the queue does not grow");
    let since = Instant::now();
    observers.settle("beside a listener that sleeps", since, LIMIT, &scene.database).await;

    kill(pid, Signal::SIGCONT).unwrap();
    let since = Instant::now();
    sleepers.settle("a listener that slept", since, LIMIT, &scene.database).await;
    let told = sleepers.told("watcher that slept");
    assert!(!told.iter().any(|event| matches!(event, EventKind::Disconnected { .. })), "it has reconnected");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_is_terminated_again_and_again() {
    let scene = Scene::new(40).await;
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(scene.database.connect(READER).await);
    }
    let observers = Observers::direct(&scene).await;
    let load = Load::start(&scene, &scene.admin(), Duration::ZERO, fastrand::Rng::new());
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE backend_type = 'integration_credentials notifier'";
    let mut terminated = 0;
    while terminated < 5 {
        load.go_on(fastrand::usize(1..20)).await;
        // The postmaster of Postgres 15 may sleep through the end of a process; who connects wakes it.
        let superuser = scene.superuser().await;
        terminated += superuser.query(terminate, &[]).await.unwrap().len();
    }
    load.go_on(20).await;
    load.finish().await;
    let since = Instant::now();
    observers.settle("notifier terminated five times", since, LIMIT, &scene.database).await;
}
