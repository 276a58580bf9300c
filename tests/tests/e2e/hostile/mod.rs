//! Texts that are made to break what reads them, sent by roles that can do no more than connect. Whatever is logged goes
//! through the hook that seeks secrets in it, in the backend of whoever sent it: neither may that end the server, nor take
//! much more of anything than the same text takes where there is nothing to seek.
//!
//! | module | concept |
//! | --- | --- |
//! | [`texts`] | what the texts are made of |
//! | [`places`] | where they may stand |

mod places;
mod texts;

use fastrand::Rng;
use places::Place;
use std::{
    env,
    fs::File,
    io::{BufReader, Write, stdout},
    time::{Duration, Instant},
};
use tests::{
    Builder, Cluster, Database, OUTSIDER, Session, Wire,
    backend::{cpu_time, peak_memory},
};
use texts::{Kind, kinds};
use tokio::time::timeout;

/// A function that takes a secret, and a name that is as long and means nothing.
const OURS: &str = "admin_set_integration_credentials";
const NOBODYS: &str = "admin_got_integration_credentials";

/// Whose stack is as small as Postgres lets it be.
const SHALLOW: &str = "shallow";

const MB: usize = 1 << 20;
/// By how much a measurement may be off.
const TIME_SLACK: Duration = Duration::from_millis(30);
const MEMORY_SLACK: u64 = 4 << 20;
/// Longer than it takes a busy machine to log a text.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_text_takes_no_server_down_and_little_more_than_any_other() {
    let server = Server::start(Cluster::builder()).await;
    server.survives(OUTSIDER, 300_000).await;
    for kind in kinds() {
        for place in [Place::Statement, Place::Quoted] {
            server.compare(place, kind, MB).await;
        }
    }
    let mixed = kinds().last().unwrap();
    for place in Place::ALL {
        server.compare(place, mixed, 1000).await;
        server.compare(place, mixed, MB).await;
    }
    for kind in ["dollar quotes, each with a tag of its own", "calls in calls", mixed.name] {
        let kind = kinds().find(|it| it.name == kind).unwrap();
        server.compare(Place::Statement, kind, 16 * MB).await;
        server.compare(Place::Quoted, kind, 16 * MB).await;
    }
    server.is_well().await;
}

#[tokio::test]
async fn nor_where_memory_and_stack_are_short() {
    let server = Server::start(Cluster::builder().memory_kb(2_500_000)).await;
    server.survives(OUTSIDER, 400_000).await;
    server.survives(SHALLOW, 100_000).await;
    for name in ["calls in calls", "DO in DO", "a bit of everything"] {
        let kind = kinds().find(|it| it.name == name).unwrap();
        for role in [OUTSIDER, SHALLOW] {
            server.send(role, Place::Quoted, kind.name, &(kind.write)(OURS, 16 * MB)).await;
            server.send(role, Place::Statement, kind.name, &(kind.write)(OURS, 16 * MB)).await;
        }
    }
    server.is_well().await;
}

#[tokio::test]
async fn a_statement_with_such_a_text_ends_when_it_is_told_to() {
    let server = Server::start(Cluster::builder()).await;
    for kind in kinds() {
        let text = (kind.write)(OURS, 2 * MB).replace('\'', "''");
        let sleep = format!("SELECT pg_sleep(60), '{text}'");

        let mut wire = server.open(OUTSIDER).await;
        wire.query("SET statement_timeout = '100ms'").await;
        let answer = timeout(PATIENCE, wire.query(&sleep)).await;
        let answer = answer.unwrap_or_else(|_| panic!("{}: statement_timeout is passed over", kind.name));
        assert_eq!(answer.sqlstate.as_deref(), Some("57014"), "{}", kind.name);

        let mut wire = server.open(OUTSIDER).await;
        let pid = wire.pid();
        let terminate = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let terminate = "SELECT pg_terminate_backend($1)";
            server.witness.execute(terminate, &[&pid]).await.unwrap();
        };
        let ended = async { tokio::join!(wire.query(&sleep), terminate).0 };
        let answer = timeout(PATIENCE, ended).await;
        let answer = answer.unwrap_or_else(|_| panic!("{}: pg_terminate_backend is passed over", kind.name));
        assert_eq!(answer.sqlstate.as_deref(), Some("57P01"), "{}", kind.name);

        // The error is there at once; what is left is to log it.
        let mut wire = server.open(OUTSIDER).await;
        let pid = wire.pid();
        let quoted = async { Place::Quoted.send(&mut wire, &text).await };
        assert!(timeout(PATIENCE, quoted).await.is_ok(), "{}: an error is logged for seconds", kind.name);
        drop(wire);
        server.ends(pid, kind.name).await;
    }
    server.is_well().await;
}

/// For as long as one likes: any text anywhere.
#[tokio::test]
#[ignore = "takes minutes: make soak"]
async fn no_text_at_all_takes_a_server_down() {
    let minutes = env::var("SOAK_MINUTES").map_or(5, |minutes| minutes.parse().expect("minutes, a number"));
    let seed =
        env::var("SOAK_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    print(&format!("hostile texts: SOAK_SEED={seed}"));
    let mut random = Rng::with_seed(seed);
    let server = Server::start(Cluster::builder()).await;
    let all: Vec<_> = kinds().collect();
    let end = Instant::now() + Duration::from_mins(minutes);
    let mut count = 0;
    while Instant::now() < end {
        let place = Place::ALL[random.usize(..Place::ALL.len())];
        let kind = all[random.usize(..all.len())];
        // As many small ones as large ones.
        let bytes = 1 << random.u32(10..24);
        if random.bool() {
            server.compare(place, kind, bytes).await;
        } else {
            let seed = random.u64(..);
            let text = texts::of_everything(OURS, bytes, seed);
            server.send(OUTSIDER, place, &format!("a bit of everything, seed {seed}"), &text).await;
        }
        count += 1;
    }
    server.is_well().await;
    print(&format!("hostile texts: {count} of them"));
}

/// A server that logs all that it gets, and the superuser's session, which a crash would end.
struct Server {
    cluster: Cluster,
    database: Database,
    witness: Session,
}

/// What a text took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    time: Duration,
    memory: u64,
}

impl Server {
    async fn start(builder: Builder) -> Self {
        let cluster = builder
            .setting("fsync", "off")
            .setting("log_statement", "all")
            .setting("log_min_duration_statement", "0")
            .setting("log_min_messages", "log")
            .setting("log_parameter_max_length_on_error", "-1")
            .start();
        let database = cluster.database().await;
        let witness = database.superuser().await;
        let shallow =
            format!("CREATE ROLE {SHALLOW} LOGIN; ALTER ROLE {SHALLOW} SET max_stack_depth = '100kB'");
        witness.batch_execute(&shallow).await.unwrap();
        Self { cluster, database, witness }
    }

    /// A new session. There is none to be had from a server that recovers from a crash.
    async fn open(&self, role: &str) -> Wire {
        Wire::open(&self.database, role, &[]).await
    }

    /// Sends every kind of text to every place.
    async fn survives(&self, role: &str, bytes: usize) {
        for kind in kinds() {
            let text = (kind.write)(OURS, bytes);
            for place in Place::ALL {
                self.send(role, place, kind.name, &text).await;
            }
        }
    }

    /// Sends a text by a session of its own, which must live on, and returns what it took.
    async fn send(&self, role: &str, place: Place, what: &str, text: &str) -> Cost {
        let mut wire = self.open(role).await;
        let before = cpu_time(wire.pid());
        let answer = timeout(PATIENCE, place.send(&mut wire, text)).await;
        let answer =
            answer.unwrap_or_else(|_| panic!("{what}, {} bytes, {place:?}: takes for ever", text.len()));
        assert!(
            !answer.is_lost && !self.witness.is_closed(),
            "{what}, {} bytes, {place:?}, as {role}: the server is gone: {}\n{}",
            text.len(),
            answer.messages.chars().take(300).collect::<String>(),
            self.signals().join("\n")
        );
        Cost { time: cpu_time(wire.pid()).saturating_sub(before), memory: peak_memory(wire.pid()) }
    }

    /// Compares what a text takes with what the same text takes that does not name one of our functions.
    async fn compare(&self, place: Place, kind: &Kind, bytes: usize) {
        const TRIES: usize = 3;
        let mut seen = Vec::new();
        for _ in 0..TRIES {
            let ours = self.send(OUTSIDER, place, kind.name, &(kind.write)(OURS, bytes)).await;
            let theirs = self.send(OUTSIDER, place, kind.name, &(kind.write)(NOBODYS, bytes)).await;
            let more = u64::try_from(bytes).unwrap() * 8 + MEMORY_SLACK;
            if ours.memory <= theirs.memory + more && ours.time <= theirs.time * 3 + TIME_SLACK {
                return;
            }
            seen.push((ours, theirs));
        }
        panic!("{}, {bytes} bytes, {place:?}: with our name, and without: {seen:?}", kind.name);
    }

    /// Waits for the end of a session.
    async fn ends(&self, pid: i32, what: &str) {
        let alive = "SELECT FROM pg_stat_activity WHERE pid = $1";
        let ended = async {
            while !self.witness.query(alive, &[&pid]).await.unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, ended).await.unwrap_or_else(|_| panic!("{what}: the session does not end"));
    }

    /// No process of the server has been ended by a signal.
    async fn is_well(&self) {
        self.witness
            .batch_execute("SELECT 1")
            .await
            .expect("the session that was there from the start lives");
        assert_eq!(self.signals(), [""; 0]);
    }

    /// What the postmaster says of processes that were ended. The log may be long.
    fn signals(&self) -> Vec<String> {
        let file = File::open(self.cluster.data_dir().join("server.log")).expect("the log opens");
        let needles = aho_corasick::AhoCorasick::new([
            "was terminated by signal",
            "terminating any other active server processes",
        ])
        .expect("two needles");
        let found = needles.stream_find_iter(BufReader::with_capacity(MB, file));
        found.map(|hit| format!("at byte {} of the log", hit.expect("the log is read").start())).collect()
    }
}

/// Past the test runner, which shows only what failed.
fn print(line: &str) {
    stdout().write_all(format!("{line}\n").as_bytes()).expect("standard output is open");
}
