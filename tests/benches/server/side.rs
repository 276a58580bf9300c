//! What takes turns: something that is called again and again, and measured.

use crate::{cpu, pgbench::Pgbench, reencryption::Reencryption, rounds::Estimate, rows, stage};
use intcred::{CacheOptions, Changes, CredentialCache, Settings};
use serde_json::Value;
use std::{
    convert::Infallible,
    time::{Duration, Instant},
};
use tests::{ADMIN, Cluster, Database, OUTSIDER, READER, Session};
use tokio::time::{interval, sleep};
use tokio_postgres::types::ToSql;

/// One side of a comparison.
pub enum Side<'a> {
    /// Calls from clients.
    Pgbench(Pgbench<'a>),
    /// Calls from clients, while rows are reencrypted.
    Reencrypting(Pgbench<'a>, &'a Reencryption<'a>),
    /// Calls from clients, while consumers renew their leases.
    Beside(Pgbench<'a>, Renewals<'a>),
    /// A statement again and again, as a rule one with a loop of calls in it.
    Statement(Statement<'a>),
    /// The first call of each of many sessions.
    First(First<'a>),
    /// From a commit to its listener.
    Delivery(Delivery<'a>),
}

/// Before each delivery. A watcher reads at most every ten milliseconds: of credentials that are set one right after the
/// other, each waits for that, which is not what the delivery takes.
const IDLE: Duration = Duration::from_millis(15);

/// A statement. With a loop of calls in it, it shows what they cost without the way there and back.
pub struct Statement<'a> {
    pub cluster: &'a Cluster,
    pub session: Session,
    pub sql: String,
    /// A text for `$1`, if there is one.
    pub parameter: Option<String>,
    /// How many calls the statement makes.
    pub calls: u32,
}

/// The renewals of [`rows::CONSUMERS`], each every 15 s, from one session.
pub struct Renewals<'a> {
    pub database: &'a Database,
}

/// A call with which a session begins, as that of a function in the cloud does: what the session looks up, reads and plans
/// for the first time is in its time, and connecting is not.
pub struct First<'a> {
    pub cluster: &'a Cluster,
    pub database: &'a Database,
    pub role: &'static str,
    /// Takes a key, from 1 to 100, and perhaps a value.
    pub sql: &'static str,
    pub value: Option<String>,
}

/// From the moment that a client sends COMMIT to that in which another knows of it.
pub struct Delivery<'a> {
    pub cluster: &'a Cluster,
    pub database: &'a Database,
    /// Takes a key and a value.
    pub sql: &'static str,
    pub to: To,
}

/// Who is told.
#[derive(Clone, Copy)]
pub enum To {
    /// A session that listens on this channel.
    Listener(&'static str),
    /// A cache, which knows when it has the new value.
    Cache,
}

/// What a turn gave.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Calls in a second.
    pub rate: f64,
    /// CPU time of the whole server for a call, in microseconds.
    pub cpu: f64,
    /// Of a delivery: how long the median one took, in milliseconds.
    pub delivery: f64,
}

impl Sample {
    /// The median of each.
    pub fn median(samples: &[Self]) -> Self {
        let of = |part: fn(&Self) -> f64| Estimate::of(&samples.iter().map(part).collect::<Vec<_>>()).median;
        Self { rate: of(|it| it.rate), cpu: of(|it| it.cpu), delivery: of(|it| it.delivery) }
    }
}

impl Side<'_> {
    /// Has its turn.
    pub async fn measure(&self, seconds: u16) -> Sample {
        let cluster = match self {
            Side::Pgbench(side) | Side::Beside(side, _) | Side::Reencrypting(side, _) => side.cluster,
            Side::Statement(side) => side.cluster,
            Side::First(side) => side.cluster,
            Side::Delivery(side) => side.cluster,
        };
        let server = cluster.postmaster_pid();
        let before = cpu::of_tree(server).await;
        let (calls, rate, delivery) = match self {
            Side::Pgbench(side) => {
                let (calls, rate) = side.run(seconds).await;
                (calls, rate, f64::NAN)
            }
            Side::Reencrypting(side, reencryption) => {
                let (calls, rate) = reencryption.beside(side.run(seconds)).await;
                (calls, rate, f64::NAN)
            }
            Side::Beside(side, renewals) => tokio::select! {
                (calls, rate) = side.run(seconds) => (calls, rate, f64::NAN),
                never = renewals.go_on() => match never {},
            },
            Side::Statement(side) => {
                let (calls, rate) = side.run(seconds).await;
                (calls, rate, f64::NAN)
            }
            Side::First(side) => {
                let (calls, rate) = side.run(seconds).await;
                (calls, rate, f64::NAN)
            }
            Side::Delivery(side) => side.run(seconds).await,
        };
        let used = cpu::of_tree(server).await.saturating_sub(before);
        // At its loudest a server logs gigabytes, which the disk should not be busy with in the next turn.
        cluster.clear_log();
        Sample { rate, cpu: used.as_secs_f64() * 1e6 / calls, delivery }
    }
}

impl Renewals<'_> {
    async fn go_on(&self) -> Infallible {
        let session = self.database.connect(READER).await;
        let renew = "SELECT integration_credentials.report_held_revisions(
            ('00000000-0000-4000-8000-' || lpad($1::int::text, 12, '0'))::uuid, 'bench', $2, '5 min')";
        let renew = session.prepare(renew).await.expect("the statement is correct");
        let held: Value = serde_json::from_str(&rows::held()).expect("it is JSON");
        let mut pause = interval(Duration::from_secs(15) / rows::CONSUMERS);
        loop {
            for consumer in 1..=i32::try_from(rows::CONSUMERS).expect("few consumers") {
                pause.tick().await;
                session.query_one(&renew, &[&consumer, &held]).await.expect("the lease is renewed");
            }
        }
    }
}

impl Statement<'_> {
    async fn run(&self, seconds: u16) -> (f64, f64) {
        let statement = self.session.prepare(&self.sql).await.expect("the statement is correct");
        let parameter = self.parameter.as_ref().map(|text| text as &(dyn ToSql + Sync));
        let (began, mut calls) = (Instant::now(), 0.0);
        while began.elapsed() < Duration::from_secs(seconds.into()) {
            self.session.query(&statement, parameter.as_slice()).await.expect("the calls succeed");
            calls += f64::from(self.calls);
        }
        (calls, calls / began.elapsed().as_secs_f64())
    }
}

impl First<'_> {
    async fn run(&self, seconds: u16) -> (f64, f64) {
        let (began, mut calls, mut taken) = (Instant::now(), 0.0, Duration::ZERO);
        for key in (1..=100).cycle().take_while(|_| began.elapsed() < Duration::from_secs(seconds.into())) {
            let key = key.to_string();
            let texts = [Some(&key), self.value.as_ref()];
            let parameters: Vec<_> =
                texts.iter().flatten().map(|text| *text as &(dyn ToSql + Sync)).collect();
            let session = self.database.connect(self.role).await;
            let first = Instant::now();
            session.query(self.sql, &parameters).await.expect("the call succeeds");
            taken += first.elapsed();
            calls += 1.0;
        }
        (calls, calls / taken.as_secs_f64())
    }
}

impl Delivery<'_> {
    async fn run(&self, seconds: u16) -> (f64, f64, f64) {
        // The only one that there is: all are told of every commit.
        let mut receiver = Receiver::start(self.database, self.to).await;
        let sender = self.database.connect(ADMIN).await;
        let call = sender.prepare(self.sql).await.expect("the statement is correct");
        let value = stage::value(64);
        let (began, mut times) = (Instant::now(), Vec::new());
        for key in (1..=100).cycle().take_while(|_| began.elapsed() < Duration::from_secs(seconds.into())) {
            let key = key.to_string();
            receiver.prepare(&key).await;
            sleep(IDLE).await;
            sender.batch_execute("BEGIN").await.expect("BEGIN");
            sender.query(&call, &[&key, &value]).await.expect("the call succeeds");
            let sent = Instant::now();
            let known = async {
                receiver.next(&key).await;
                sent.elapsed().as_secs_f64() * 1e3
            };
            let (committed, time) = tokio::join!(sender.batch_execute("COMMIT"), known);
            committed.expect("COMMIT");
            times.push(time);
        }
        times.sort_by(f64::total_cmp);
        let calls = f64::from(u32::try_from(times.len()).expect("few calls"));
        (calls, calls / began.elapsed().as_secs_f64(), times[times.len() / 2])
    }
}

enum Receiver {
    Listener(Session),
    Cache(CredentialCache, Changes),
}

impl Receiver {
    async fn start(database: &Database, to: To) -> Self {
        match to {
            To::Listener(channel) => {
                let listener = database.connect(OUTSIDER).await;
                listener.batch_execute(&format!("LISTEN {channel}")).await.expect("LISTEN");
                Self::Listener(listener)
            }
            To::Cache => {
                let settings = Settings::resolve(Some(&database.dsn(READER))).expect("the DSN is right");
                let cache =
                    CredentialCache::start(&settings, CacheOptions::default()).await.expect("a cache");
                let changes = cache.changes();
                Self::Cache(cache, changes)
            }
        }
    }

    /// Only what is in use is fetched anew by itself. And after each look a cache pauses for 10 ms: rotations are rarer.
    async fn prepare(&self, key: &str) {
        if let Self::Cache(cache, _) = self {
            cache.get(key).await.expect("it is set");
            sleep(Duration::from_millis(15)).await;
        }
    }

    /// Waits until the change has come; a cache, until it has the new value.
    async fn next(&mut self, key: &str) {
        match self {
            Self::Listener(listener) => drop(listener.next_notification().await),
            Self::Cache(cache, changes) => {
                while changes.recv().await.key != key {}
                cache.get(key).await.expect("it is set");
            }
        }
    }
}
