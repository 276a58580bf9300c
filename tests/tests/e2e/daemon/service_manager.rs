//! What systemd is told: readiness, the state, signs of life, and the end.

use super::Daemon;
use crate::command_line::{PATIENCE, database};
use nix::sys::signal::Signal::SIGTERM;
use std::{path::Path, process::Stdio};
use tests::{Cluster, Database, READER, Shutdown, intcred, run};
use tokio::{
    net::UnixDatagram,
    time::{Duration, Instant, timeout},
};

/// The next datagram, as its lines.
async fn next(manager: &UnixDatagram) -> Vec<String> {
    let mut buffer = [0; 4096];
    let length = timeout(PATIENCE, manager.recv(&mut buffer)).await.expect("it tells nothing").unwrap();
    std::str::from_utf8(&buffer[..length]).unwrap().lines().map(str::to_owned).collect()
}

/// The next one that is not a sign of life.
async fn news(manager: &UnixDatagram) -> Vec<String> {
    loop {
        let told = next(manager).await;
        if told != ["WATCHDOG=1"] {
            return told;
        }
    }
}

async fn start(database: &Database, socket: &Path) -> Daemon {
    Daemon::start_with(database, READER, &[], |command| {
        command.env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", "400000");
    })
    .await
}

#[tokio::test]
async fn the_service_manager_learns_how_the_daemon_stands() {
    let mut cluster = Cluster::private();
    let database = cluster.database().await;
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    let mut daemon = start(&database, &socket).await;
    // Nothing comes before it.
    assert_eq!(news(&manager).await, ["STATUS=following the changes", "READY=1"]);
    for _ in 0..3 {
        let asked = Instant::now();
        assert_eq!(next(&manager).await, ["WATCHDOG=1"]);
        assert!(asked.elapsed() < Duration::from_secs(20));
    }
    cluster.stop(Shutdown::Fast);
    let told = news(&manager).await;
    assert!(told.len() == 1 && told[0].starts_with("STATUS=disconnected: "), "{told:?}");
    // Waiting for the server it is as alive as ever.
    assert_eq!(next(&manager).await, ["WATCHDOG=1"]);
    cluster.start();
    assert_eq!(news(&manager).await, ["STATUS=following the changes"]);
    daemon.signal(SIGTERM);
    assert_eq!(news(&manager).await, ["STATUS=stopping", "STOPPING=1"]);
    assert_eq!(daemon.ended().await, 0);
}

#[tokio::test]
async fn it_is_not_ready_before_it_is_synced() {
    let database = database().await;
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    let mut command = intcred();
    command.args(["--dsn", &database.dsn(READER), "port=1", "listen"]).env("NOTIFY_SOCKET", &socket);
    assert_ne!(run(&mut command, b"").await.code, 0);
    assert!(manager.try_recv(&mut [0; 10]).is_err(), "it told something");
}

#[tokio::test]
async fn without_a_watchdog_there_are_no_signs_of_life_and_a_deaf_manager_does_no_harm() {
    let database = database().await;
    let mut daemon = Daemon::start_with(&database, READER, &[], |command| {
        command.env("NOTIFY_SOCKET", "/nonexistent").stdin(Stdio::null());
    })
    .await;
    daemon.tells("intcred: warning: cannot notify the service manager: ").await;
    daemon.signal(SIGTERM);
    assert_eq!(daemon.ended().await, 0);
}
