//! Consumers that are not the library's: each keeps to the rules of a lease, or breaks one of them, over a
//! network that delays, loses and reorders, with a clock of its own.

use deadpool_postgres::Pool;
use fastrand::Rng;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// The rule that a consumer breaks, to show that this is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    Nothing,
    /// The lease counts from the answer.
    CountsFromTheAnswer,
    /// A value that was read before the last report is used after it.
    AcceptsWhatWasInFlight,
    /// The first use of a key is not reported before the value is used.
    UsesBeforeReporting,
}

/// The ways to the database.
#[derive(Clone)]
pub struct Ways {
    pub primary: Pool,
    pub standby: Option<Pool>,
}

/// A clock that runs faster or slower than others, and began at another time.
#[derive(Clone, Copy)]
pub struct Clock {
    began: Instant,
    rate: f64,
    offset: Duration,
}

impl Clock {
    /// At most this part faster or slower.
    pub fn random(random: &mut Rng, part: f64) -> Self {
        let rate = 1.0 + part * (random.f64() * 2.0 - 1.0);
        Self { began: Instant::now(), rate, offset: Duration::from_secs(random.u64(..1_000_000)) }
    }

    pub fn now(&self) -> Duration {
        self.offset + self.began.elapsed().mul_f64(self.rate)
    }
}

#[derive(Clone, Default)]
struct Use {
    /// Of the handles, each of which may be used.
    handles: Vec<i64>,
    /// The newest revision that is known.
    newest: i64,
    is_confirmed: bool,
}

struct State {
    id: u128,
    until: Option<Duration>,
    uses: BTreeMap<String, Use>,
}

pub struct Consumer {
    clock: Clock,
    lease: Duration,
    broken: Broken,
    keys: Vec<String>,
    state: Arc<Mutex<State>>,
    task: Option<JoinHandle<()>>,
}

const REPORT: &str =
    "SELECT integration_credentials.report_held_revisions($1::text::uuid, $2, $3, make_interval(secs => $4))";
const LIST: &str = "SELECT key, revision FROM integration_credentials.list_integrations($1)";

impl Consumer {
    pub fn start(ways: Ways, keys: Vec<String>, lease: Duration, broken: Broken, mut random: Rng) -> Self {
        // Less than what a consumer leaves unused of its lease.
        let clock = Clock::random(&mut random, 0.004);
        let state = State { id: random.u128(..), until: None, uses: BTreeMap::new() };
        let mut consumer =
            Self { clock, lease, broken, keys, state: Arc::new(Mutex::new(state)), task: None };
        let life = Life {
            consumer: Self {
                task: None,
                keys: consumer.keys.clone(),
                state: consumer.state.clone(),
                ..consumer
            },
            ways,
            random,
        };
        consumer.task = Some(tokio::spawn(life.live()));
        consumer
    }

    /// The oldest revision of a key that may be used at this moment.
    pub fn oldest(&self, key: &str) -> Option<i64> {
        let state = self.state.lock().unwrap();
        let is_running = state.until.is_some_and(|until| self.clock.now() < until);
        state.uses.get(key).filter(|_| is_running)?.handles.iter().min().copied()
    }
}

impl Drop for Consumer {
    /// Killed: nobody ends its lease.
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

struct Life {
    consumer: Consumer,
    ways: Ways,
    random: Rng,
}

impl Life {
    async fn live(mut self) {
        loop {
            let lease = self.consumer.lease;
            match self.random.u8(..20) {
                // Hangs, for longer than its lease at times.
                0 | 1 => sleep(lease.mul_f64(self.random.f64() * 1.5)).await,
                2..8 => {
                    self.learn().await;
                    self.let_go();
                }
                8..13 => self.use_one().await,
                _ => {
                    let _ = self.report().await;
                }
            }
            sleep(lease.mul_f64(self.random.f64() / 5.0)).await;
        }
    }

    fn is_running(&self, state: &State) -> bool {
        state.until.is_some_and(|until| self.consumer.clock.now() < until)
    }

    /// Lets go of its handles, all but those on the newest revision that it knows, or of them too. Then it
    /// may report the key no more, until it is used again.
    fn let_go(&mut self) {
        self.consumer.state.lock().unwrap().uses.retain(|_, used| {
            let newest = if self.random.u8(..3) == 0 { i64::MAX } else { used.newest };
            used.handles.retain(|revision| *revision >= newest);
            !used.handles.is_empty() || self.random.bool()
        });
    }

    /// Reads a key, and has a handle on it from now on.
    async fn use_one(&mut self) {
        let key = self.random.choice(&self.consumer.keys).unwrap().clone();
        let reports_late = self.consumer.broken == Broken::UsesBeforeReporting;
        let is_known = {
            let state = self.consumer.state.lock().unwrap();
            state.uses.get(&key).is_some_and(|used| used.is_confirmed) && self.is_running(&state)
        };
        if !is_known && !reports_late {
            self.consumer.state.lock().unwrap().uses.entry(key.clone()).or_default();
            if self.report().await.is_none() {
                return;
            }
        }
        let (ways, random) = (self.ways.clone(), self.random.fork());
        let asked = key.clone();
        let lease = self.consumer.lease;
        let is_slow = self.consumer.broken == Broken::AcceptsWhatWasInFlight;
        let reading = tokio::spawn(async move {
            let mut slowly = random.clone();
            let revision = read(ways, asked, lease, random).await;
            if is_slow {
                sleep(lease.mul_f64(slowly.f64())).await;
            }
            revision
        });
        // Meanwhile it reports, and may learn of a later revision.
        if is_slow || self.random.u8(..3) == 0 {
            self.learn().await;
            self.let_go();
            let _ = self.report().await;
        }
        let Ok(Some(revision)) = reading.await else { return };
        {
            let mut state = self.consumer.state.lock().unwrap();
            let used = state.uses.entry(key).or_default();
            let accepts = revision >= used.newest && used.is_confirmed;
            if accepts || is_slow || reports_late {
                used.newest = used.newest.max(revision);
                used.handles.push(revision);
            }
        }
        if is_slow {
            // So long that a busy machine sees it before the next report tells.
            sleep(lease / 2).await;
        }
    }

    /// Learns of the newest revisions, as by a notification.
    async fn learn(&mut self) {
        let Some(current) = list(&self.ways.primary, &self.consumer.keys).await else { return };
        for (key, used) in &mut self.consumer.state.lock().unwrap().uses {
            used.newest = used.newest.max(current.get(key).copied().unwrap_or_default());
        }
    }

    /// Reports, and returns whether the lease runs. The report may arrive late, and the answer may.
    async fn report(&mut self) -> Option<()> {
        let Self { consumer, .. } = self;
        let sent = consumer.clock.now();
        let (id, held, doubted, is_resumption) = {
            let mut state = consumer.state.lock().unwrap();
            let is_resumption = state.until.is_none_or(|until| sent >= until);
            let mut held = Map::new();
            let mut doubted = Vec::new();
            let reports_late = consumer.broken == Broken::UsesBeforeReporting;
            for (key, used) in &mut state.uses {
                used.is_confirmed &= !is_resumption;
                if !used.is_confirmed && reports_late && self.random.u8(..16) != 0 {
                    continue;
                }
                if !used.is_confirmed {
                    doubted.push(key.clone());
                }
                let oldest = used.handles.iter().min().copied().unwrap_or(used.newest);
                held.insert(key.clone(), json!([oldest.min(used.newest), used.newest]));
            }
            (state.id, held, doubted, is_resumption)
        };
        let lease = consumer.lease;
        let (pool, mut random) = (self.ways.primary.clone(), self.random.fork());
        let mut delays = [delay(&mut random, lease), delay(&mut random, lease)];
        if self.consumer.broken == Broken::CountsFromTheAnswer {
            // So that it shows soon.
            delays[1] = lease.mul_f64(0.4);
        }
        // Goes on by itself: what is under way arrives, whoever waits.
        let under_way = tokio::spawn(async move {
            sleep(delays[0]).await;
            let current = exchange(&pool, id, held, lease, doubted).await?;
            sleep(delays[1]).await;
            Some(current)
        });
        let answer = timeout(lease / 2, under_way).await.ok().and_then(Result::ok).flatten();
        let mut state = self.consumer.state.lock().unwrap();
        let Some(current) = answer else {
            // What was sent may arrive later than the next.
            state.id = self.random.u128(..);
            return None;
        };
        let now = self.consumer.clock.now();
        let counted_from = if self.consumer.broken == Broken::CountsFromTheAnswer { now } else { sent };
        let until = counted_from + lease.mul_f64(0.99);
        if now >= until || !is_resumption && !self.is_running(&state) {
            state.until = None;
            return None;
        }
        for (key, revision) in current {
            let used = state.uses.entry(key).or_default();
            used.newest = used.newest.max(revision);
            if is_resumption {
                used.handles.retain(|handle| *handle >= revision);
            }
            used.is_confirmed = true;
        }
        state.until = Some(until);
        Some(())
    }
}

/// Mostly short, and long at times.
fn delay(random: &mut Rng, lease: Duration) -> Duration {
    match random.u8(..12) {
        0 => lease.mul_f64(random.f64() * 0.8),
        1..4 => Duration::from_millis(random.u64(..20)),
        _ => Duration::ZERO,
    }
}

/// Reads the revision of a key, somewhere; the answer may come late.
async fn read(ways: Ways, key: String, lease: Duration, mut random: Rng) -> Option<i64> {
    let pool = ways.standby.filter(|_| random.bool()).unwrap_or(ways.primary);
    let revision = list(&pool, std::slice::from_ref(&key)).await?.remove(&key);
    sleep(delay(&mut random, lease)).await;
    revision
}

async fn list(pool: &Pool, keys: &[String]) -> Option<BTreeMap<String, i64>> {
    let client = pool.get().await.ok()?;
    let rows = client.query(LIST, &[&keys]).await.ok()?;
    Some(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Reports and, after the commit, reads the revisions of some keys.
async fn exchange(
    pool: &Pool,
    id: u128,
    held: Map<String, Value>,
    lease: Duration,
    keys: Vec<String>,
) -> Option<BTreeMap<String, i64>> {
    let client = pool.get().await.ok()?;
    let (id, held) = (format!("{id:032x}"), Value::Object(held));
    client.execute(REPORT, &[&id, &"simulated", &held, &lease.as_secs_f64()]).await.ok()?;
    let rows = client.query(LIST, &[&keys]).await.ok()?;
    Some(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
