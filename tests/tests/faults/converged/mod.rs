//! Whenever `rotation_status` calls a rotation converged, no consumer can use the old value.
//!
//! | module | concept |
//! | --- | --- |
//! | `simulated` | consumers that keep to the rules of a lease, or break one |
//! | `cached` | the library's caches, with callers who keep their handles |
//! | `rotations` | changes of all keys, by an admin |

mod cached;
mod rotations;
mod simulated;

use crate::{
    observers::print,
    proxy::{Proxy, Way},
    scene::{Scene, pool_of},
};
use cached::Cached;
use fastrand::Rng;
use rotations::Rotations;
use simulated::{Broken, Consumer, Ways};
use std::{collections::BTreeSet, env, time::Duration};
use tests::{Cluster, Database, READER, SUPERUSER};
use tokio::{
    task::block_in_place,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{Client, NoTls};

const LEASE: Duration = Duration::from_secs(1);
const STATUS: &str = "SELECT key, revision, verdict FROM integration_credentials.rotation_status(NULL)";

struct Plan {
    keys: usize,
    rotations: usize,
    simulated: usize,
    broken: Broken,
    /// Whether there are caches, too, and the server crashes.
    is_full: bool,
    /// At most.
    time: Duration,
}

/// What came of it.
struct Outcome {
    /// A verdict that was wrong.
    found: Option<String>,
    /// The revisions that were called converged.
    converged: usize,
    rotations: usize,
}

fn seed() -> u64 {
    env::var("SOAK_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_verdict_is_wrong() {
    let (rotations, time) = (200, Duration::from_mins(1));
    let plan = Plan { keys: 30, rotations, simulated: 100, broken: Broken::Nothing, is_full: true, time };
    let outcome = run(&plan, seed()).await;
    assert_eq!(outcome.found, None);
    assert!(outcome.converged > 30, "only {} verdicts", outcome.converged);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make soak"]
async fn no_verdict_of_ten_thousand_rotations_is_wrong() {
    let (rotations, time) = (10_000, Duration::from_hours(1));
    let plan = Plan { keys: 100, rotations, simulated: 300, broken: Broken::Nothing, is_full: true, time };
    let outcome = run(&plan, seed()).await;
    assert_eq!(outcome.found, None);
    assert!(outcome.rotations >= 10_000 && outcome.converged > 1000, "only {} verdicts", outcome.converged);
}

/// The same, with consumers that break a rule: the wrong verdict must be found. That takes seconds as a rule, and chance
/// decides: 90 s were once not enough.
async fn finds(broken: Broken) {
    let (rotations, time) = (usize::MAX, Duration::from_mins(10));
    let plan = Plan { keys: 10, rotations, simulated: 40, broken, is_full: false, time };
    let outcome = run(&plan, seed()).await;
    assert!(outcome.found.is_some(), "{broken:?} is not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_counts_from_the_answer_is_found() {
    finds(Broken::CountsFromTheAnswer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_answer_from_before_the_report_is_found() {
    finds(Broken::AcceptsWhatWasInFlight).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_use_without_a_report_is_found() {
    finds(Broken::UsesBeforeReporting).await;
}

/// Rotates, breaks, and judges each verdict, until one is wrong or the plan is done.
async fn run(plan: &Plan, seed: u64) -> Outcome {
    print(&format!("verdicts, {:?}: SOAK_SEED={seed}", plan.broken));
    let mut random = Rng::with_seed(seed);
    let mut scene = Scene::with(plan.keys, &[("integration_credentials.max_lease", "1s")]).await;
    let standby = block_in_place(|| scene.cluster.standby());
    let copy = standby.named_database(scene.database.name());
    let proxy = scene.proxy().await;
    let mut consumers = Consumers::start(&scene, &copy, &standby, &proxy, plan, &mut random).await;
    let rotations = Rotations::start(&scene.database, &scene.keys, random.fork());

    let superuser = scene.database.dsn(SUPERUSER);
    let began = Instant::now();
    let mut outcome = Outcome { found: None, converged: 0, rotations: 0 };
    let mut called = BTreeSet::new();
    let mut next_fault = Instant::now() + LEASE;
    let mut session = None;
    while outcome.found.is_none() && began.elapsed() < plan.time && rotations.done() < plan.rotations {
        if Instant::now() >= next_fault {
            next_fault = Instant::now() + LEASE.mul_f64(random.f64());
            break_something(&mut scene.cluster, &proxy, &mut consumers, plan, &mut random);
        }
        outcome.found = judge(&superuser, &mut session, &consumers, &mut called).await;
    }
    outcome.converged = called.len();
    outcome.rotations = rotations.done();
    print(&format!(
        "verdicts, {:?}: {} of {} rotations were called converged, {} reads of caches, {} s{}",
        plan.broken,
        outcome.converged,
        outcome.rotations,
        consumers.cached.iter().map(Cached::reads).sum::<usize>(),
        began.elapsed().as_secs(),
        outcome.found.as_deref().map_or_else(String::new, |found| format!(": {found}")),
    ));
    proxy.resume();
    outcome
}

/// Everybody who uses values.
struct Consumers {
    ways: Ways,
    keys: Vec<String>,
    simulated: Vec<Consumer>,
    cached: Vec<Cached>,
    broken: Broken,
}

impl Consumers {
    async fn start(
        scene: &Scene,
        copy: &Database,
        standby: &Cluster,
        proxy: &Proxy,
        plan: &Plan,
        random: &mut Rng,
    ) -> Self {
        let ways =
            Ways { primary: pool_of(&scene.reader(), 16), standby: Some(pool_of(&copy.dsn(READER), 4)) };
        let mut consumers = Self {
            ways,
            keys: scene.keys.clone(),
            simulated: Vec::new(),
            cached: Vec::new(),
            broken: plan.broken,
        };
        for _ in 0..plan.simulated {
            let consumer = consumers.simulate(random);
            consumers.simulated.push(consumer);
        }
        // Watches and fetches from the standby, and reports to the primary.
        let by_standby = format!(
            "host={},{} port={},{} dbname={} user={READER} target_session_attrs=any",
            standby.dir().display(),
            scene.cluster.dir().display(),
            standby.port(),
            scene.cluster.port(),
            copy.name()
        );
        let dsns = [scene.reader(), scene.reader(), scene.over(proxy), scene.over(proxy), by_standby];
        for dsn in dsns.iter().filter(|_| plan.is_full) {
            consumers.cached.push(Cached::start(dsn, LEASE, &scene.keys, random.fork()).await);
        }
        consumers
    }

    fn simulate(&self, random: &mut Rng) -> Consumer {
        let keys: Vec<_> = (0..2).map(|_| random.choice(&self.keys).unwrap().clone()).collect();
        Consumer::start(self.ways.clone(), keys, LEASE, self.broken, random.fork())
    }

    /// Who can use an older value at this moment.
    fn violation(&self, key: &str, revision: i64) -> Option<String> {
        let is_older = |oldest: &i64| *oldest < revision;
        let simulated = self.simulated.iter().find_map(|one| one.oldest(key).filter(is_older));
        let cached = self.cached.iter().find_map(|one| one.oldest(key).filter(is_older));
        let (who, used) = match (simulated, cached) {
            (Some(used), _) => ("a simulated consumer", used),
            (_, Some(used)) => ("a cache", used),
            _ => return None,
        };
        Some(format!("{key} was called converged at revision {revision}, and {who} can use {used}"))
    }
}

/// Asks for the verdicts, and judges them at once.
async fn judge(
    dsn: &str,
    session: &mut Option<Client>,
    consumers: &Consumers,
    seen: &mut BTreeSet<(String, i64)>,
) -> Option<String> {
    if session.is_none() {
        let Ok((client, connection)) = tokio_postgres::connect(dsn, NoTls).await else {
            sleep(Duration::from_millis(20)).await;
            return None;
        };
        tokio::spawn(connection);
        *session = Some(client);
    }
    let asked = timeout(Duration::from_secs(5), session.as_ref()?.query(STATUS, &[])).await;
    let Ok(Ok(rows)) = asked else {
        if let Ok(Err(error)) = &asked {
            assert!(
                error.as_db_error().is_none_or(|error| error.code().code().starts_with("57P")),
                "{error:?}"
            );
        }
        *session = None;
        return None;
    };
    for row in &rows {
        let (key, revision, verdict): (String, i64, &str) = (row.get(0), row.get(1), row.get(2));
        if verdict != "converged" {
            continue;
        }
        if let Some(found) = consumers.violation(&key, revision) {
            return Some(found);
        }
        // The first revision was no rotation.
        if revision > 1 {
            seen.insert((key, revision));
        }
    }
    None
}

fn break_something(
    cluster: &mut Cluster,
    proxy: &Proxy,
    consumers: &mut Consumers,
    plan: &Plan,
    random: &mut Rng,
) {
    match random.u8(..24) {
        0 if plan.is_full => block_in_place(|| {
            cluster.kill_postmaster();
            cluster.start();
        }),
        1..4 => proxy.cut(),
        4..6 => proxy.stall(Way::Both),
        6..8 => proxy.stall(Way::ToServer),
        8..10 => proxy.stall(Way::ToClient),
        10..16 => proxy.resume(),
        // Killed, and another in its place.
        _ => {
            let other = consumers.simulate(random);
            if let Some(place) = consumers.simulated.get_mut(random.usize(..plan.simulated)) {
                *place = other;
            }
        }
    }
}
