//! Everything at random, and several things at a time. `SOAK_SEED` repeats the choice of the faults, though not the
//! moment that each takes effect; `SOAK_MINUTES` says how long.

use crate::{
    load::Load,
    observers::{Observers, VIGILANT, print},
    proxy::{Proxy, Way},
    scene::{Scene, pool},
};
use fastrand::Rng;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{env, time::Duration};
use tests::{Cluster, SUPERUSER, Shutdown};
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};
use tokio_postgres::{Client, NoTls};

/// Then the observers are new ones, as services are now and then: who lost its connection again and again waits for
/// longer and longer.
const ROUND: Duration = Duration::from_secs(10);
/// Longer than the longest of those waits within a round.
const LIMIT: Duration = Duration::from_secs(90);

struct Plan {
    keys: usize,
    /// At least so many changes, over at least this time.
    changes: u32,
    time: Duration,
    /// Of each admin, after each change.
    pause: Duration,
}

#[tokio::test(flavor = "multi_thread")]
async fn in_short() {
    run(Plan { keys: 50, changes: 1000, time: ROUND, pause: Duration::from_millis(5) }).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make soak"]
async fn ten_thousand_rotations() {
    let minutes = env::var("SOAK_MINUTES").map_or(5, |minutes| minutes.parse().expect("minutes, a number"));
    let (changes, time) = (10_000, Duration::from_mins(minutes));
    run(Plan { keys: 200, changes, time, pause: Load::pause_for(changes, time) }).await;
}

async fn run(plan: Plan) {
    let seed =
        env::var("SOAK_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    print(&format!("everything at random: SOAK_SEED={seed}"));
    let mut random = Rng::with_seed(seed);
    let mut scene = Scene::new(plan.keys).await;
    let (began, mut changes, mut number) = (Instant::now(), 0, 0);
    while changes < plan.changes as usize || began.elapsed() < plan.time {
        number += 1;
        changes += round(&mut scene, &plan, &mut random, number).await;
    }
    print(&format!(
        "everything at random: {changes} changes in {number} rounds, {} s",
        began.elapsed().as_secs()
    ));
}

/// Some faults, after which everybody agrees. Returns how many changes were made.
async fn round(scene: &mut Scene, plan: &Plan, random: &mut Rng, number: u32) -> usize {
    let proxy = scene.proxy().await;
    let way = scene.over(&proxy);
    let mut observers = Observers::direct(scene).await;
    observers.watch("watcher over the proxy", &way, VIGILANT).await;
    observers.cache("cache over the proxy", &way, VIGILANT).await;
    observers.cache_over("watches over the proxy", &way, pool(&scene.reader()), VIGILANT).await;
    let load = Load::start(scene, &scene.admin(), plan.pause, random.fork());

    let end = Instant::now() + ROUND;
    let mut faults = Vec::new();
    while Instant::now() < end {
        sleep(Duration::from_millis(random.u64(..1500))).await;
        let fault = FAULTS[random.usize(..FAULTS.len())];
        let began = Instant::now();
        fault.happen(&mut scene.cluster, &proxy, &scene.database.dsn(SUPERUSER), random).await;
        // Shown if the test fails.
        println!("round {number}: {fault:?}, which took {} ms", began.elapsed().as_millis());
        faults.push(fault);
    }
    proxy.resume();
    let since = Instant::now();
    load.go_on(20).await;
    let changes = load.finish().await;
    let what = format!("everything at random, round {number} with {} faults", faults.len());
    observers.settle(&what, since, LIMIT, &scene.database).await;
    changes
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Stop(Shutdown),
    KillPostmaster,
    KillBackend,
    TerminateOne,
    TerminateAll,
    TerminateNotifier,
    Cut,
    Stall(Way),
    Resume,
}

const FAULTS: &[Fault] = &[
    Fault::Stop(Shutdown::Fast),
    Fault::Stop(Shutdown::Immediate),
    Fault::KillPostmaster,
    Fault::KillBackend,
    Fault::TerminateOne,
    Fault::TerminateAll,
    Fault::TerminateNotifier,
    Fault::Cut,
    Fault::Stall(Way::Both),
    Fault::Stall(Way::ToServer),
    Fault::Stall(Way::ToClient),
    // As often as the network falls silent.
    Fault::Resume,
    Fault::Resume,
    Fault::Resume,
];

const NOTIFIER: &str =
    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'integration_credentials notifier'";
const SESSIONS: &str = "SELECT pid FROM pg_stat_activity
                        WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY pid";

impl Fault {
    async fn happen(self, cluster: &mut Cluster, proxy: &Proxy, superuser: &str, random: &mut Rng) {
        match self {
            Self::Stop(mode) => block_in_place(|| {
                cluster.stop(mode);
                cluster.start();
            }),
            Self::KillPostmaster => block_in_place(|| {
                cluster.kill_postmaster();
                cluster.start();
            }),
            Self::KillBackend => {
                signal(random.choice(processes(superuser, SESSIONS).await), Signal::SIGKILL);
            }
            Self::TerminateOne => {
                signal(random.choice(processes(superuser, SESSIONS).await), Signal::SIGTERM);
            }
            Self::TerminateAll => signal(processes(superuser, SESSIONS).await, Signal::SIGTERM),
            Self::TerminateNotifier => signal(processes(superuser, NOTIFIER).await, Signal::SIGTERM),
            Self::Cut => proxy.cut(),
            Self::Stall(way) => proxy.stall(way),
            Self::Resume => proxy.resume(),
        }
    }
}

/// The process ids that the query finds; none, if the session ends before.
async fn processes(superuser: &str, query: &str) -> Vec<i32> {
    let rows = connect(superuser).await.query(query, &[]).await.unwrap_or_default();
    rows.iter().map(|row| row.get(0)).collect()
}

/// What `pg_terminate_backend` does is the same signal. A process may have ended by itself meanwhile.
fn signal(processes: impl IntoIterator<Item = i32>, signal: Signal) {
    for process in processes {
        let _ = kill(Pid::from_raw(process), signal);
    }
}

/// Waits for the server, which may be recovering from the last fault.
async fn connect(dsn: &str) -> Client {
    loop {
        if let Ok((client, connection)) = tokio_postgres::connect(dsn, NoTls).await {
            tokio::spawn(connection);
            return client;
        }
        sleep(Duration::from_millis(20)).await;
    }
}
