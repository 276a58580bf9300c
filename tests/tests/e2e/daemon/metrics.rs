//! `--metrics`: what Prometheus reads, and the two pages for probes.

use super::{Daemon, http};
use crate::{
    command_line::{assert_fails, database, eventually},
    helpers::calls::{ANY, enable, register, remove, set},
};
use nix::sys::signal::Signal::SIGTERM;
use serde_json::json;
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tests::{ADMIN, Cluster, READER, Shutdown, intcred, run};
use tokio::{net::TcpListener, net::TcpStream, time::Instant};

const METRICS: [&str; 2] = ["--metrics", "127.0.0.1:0"];

/// The lines by what stands before the number.
async fn measured(daemon: &Daemon) -> BTreeMap<String, f64> {
    let (status, text) = daemon.page("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.ends_with("# EOF\n"), "{text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let numbers = lines.map(|line| line.rsplit_once(' ').unwrap());
    numbers.map(|(name, number)| (name.to_owned(), number.parse().unwrap())).collect()
}

#[tokio::test]
async fn the_metrics_say_what_is_known_of_each_key() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    let odd = "a \"key\"\nof \\ two lines";
    for key in [odd, "gone", "off"] {
        register(&admin, key, json!({})).await.unwrap();
        set(&admin, key, "value").await.unwrap();
    }
    let daemon = Daemon::start(&database, &METRICS).await;
    let revision = |key: &str| format!(r#"intcred_revision{{org="{}",key="{key}"}}"#, database.name());
    let written = r#"a \"key\"\nof \\ two lines"#;
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();

    let before = measured(&daemon).await;
    let revisions = before.iter().filter(|(name, _)| name.starts_with("intcred_revision"));
    let expected = [(written, 1.0), ("gone", 1.0), ("off", 1.0)].map(|(key, number)| (revision(key), number));
    assert_eq!(revisions.map(|(name, number)| (name.clone(), *number)).collect::<Vec<_>>(), expected);
    assert!((now() - before["intcred_last_sync_timestamp_seconds"]).abs() < 60.0, "{before:?}");
    for (name, number) in [
        ("intcred_connected", 1.0),
        ("intcred_reconnects_total", 0.0),
        ("intcred_last_event_timestamp_seconds", 0.0),
    ] {
        assert!((before[name] - number).abs() < 0.5, "{name}: {before:?}");
    }

    set(&admin, odd, "value").await.unwrap();
    set(&admin, ANY, "value").await.unwrap();
    remove(&admin, "gone").await.unwrap();
    enable(&admin, "off", false).await.unwrap();
    daemon.measures(&format!("{} 2", revision(written))).await;
    daemon.measures(&format!("{} 1", revision(ANY))).await;
    daemon.measures(&format!("{} 1", revision("off"))).await;
    eventually("it is gone", async || !measured(&daemon).await.contains_key(&revision("gone"))).await;
    let after = measured(&daemon).await;
    assert!((now() - after["intcred_last_event_timestamp_seconds"]).abs() < 60.0, "{after:?}");
}

#[tokio::test]
async fn readiness_and_the_metrics_follow_the_connection() {
    let mut cluster = Cluster::private();
    let database = cluster.database().await;
    register(&database.connect(ADMIN).await, ANY, json!({})).await.unwrap();
    let daemon = Daemon::start(&database, &METRICS).await;
    assert_eq!(daemon.page("/healthz").await, (200, "alive\n".into()));
    assert_eq!(daemon.page("/readyz").await, (200, "following the changes\n".into()));

    cluster.stop(Shutdown::Fast);
    daemon.measures("intcred_connected 0").await;
    let (status, reason) = daemon.page("/readyz").await;
    assert!(status == 503 && reason.starts_with("disconnected: ") && reason.len() > 20, "{status} {reason}");
    assert_eq!(daemon.page("/healthz").await.0, 200);
    daemon.measures("intcred_reconnects_total 0").await;

    cluster.start();
    let superuser = database.superuser().await;
    set(&superuser, ANY, "value").await.unwrap();
    daemon.measures("intcred_reconnects_total 1").await;
    daemon.measures("intcred_connected 1").await;
    daemon.measures(&format!(r#"intcred_revision{{org="{}",key="any"}} 1"#, database.name())).await;
    assert_eq!(daemon.page("/readyz").await.0, 200);
}

#[tokio::test]
async fn it_is_alive_and_not_ready_and_can_be_ended_before_it_is_synced() {
    // It takes connections, and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dsn = format!("host=127.0.0.1 port={} user=u sslmode=disable", mute.local_addr().unwrap().port());
    let mut daemon = Daemon::spawn(&dsn, &METRICS, |_| {});
    assert_eq!(daemon.page("/healthz").await.0, 200);
    assert_eq!(daemon.page("/readyz").await, (503, "not synced yet\n".into()));
    daemon.measures("intcred_connected 0").await;
    daemon.signal(SIGTERM);
    assert_eq!(daemon.ended().await, 0);
}

#[tokio::test]
async fn only_pages_that_there_are_are_served_and_nobody_keeps_the_others_waiting() {
    let database = database().await;
    let daemon = Daemon::start(&database, &METRICS).await;
    let address = daemon.address().await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: test\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n", "405"),
        ("HEAD /readyz HTTP/1.1\r\nHost: test\r\n\r\n", "200"),
        ("GET /metrics HTTP/1.0\r\n\r\n", "200"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let answer = http(&address, request).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{request:?}: {answer}");
    }
    let answer = http(&address, "GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"), "{answer}");

    // More than are let in at once, and they say nothing.
    let started = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..80 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    assert_eq!(daemon.page("/healthz").await.0, 200);
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_wrong_usage() {
    let database = database().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (address, message) in [
        ("nonsense", "the address of --metrics is not IP:PORT; set"),
        ("127.0.0.1", "is not IP:PORT"),
        ("127.0.0.1:99999", "is not IP:PORT"),
        (&taken, "Address already in use"),
        ("192.0.2.1:0", "cannot serve metrics on 192.0.2.1:0"),
    ] {
        let mut command = intcred();
        command.args(["--dsn", &database.dsn(READER), "listen", "--metrics", address]);
        assert_fails(&run(&mut command, b"").await, 2, message);
    }
}
