//! Fan-out: how long many listeners take to know of a rotation, and what that costs the server. `make bench-fanout` prints a
//! table of Markdown.
//!
//! `FANOUT` has the settings, as `KIND:COUNT` separated by commas: `listeners`, sessions that do no more than LISTEN;
//! `caches`, with two connections each; `pooled`, caches that fetch over one pool.

use deadpool_postgres::{Manager, Pool};
use futures_util::{
    StreamExt,
    future::join_all,
    stream::{self, FuturesUnordered},
};
use intcred::{CacheOptions, Changes, CredentialCache, Settings};
use std::{
    env, fs,
    path::PathBuf,
    time::{Duration, Instant},
};
use tests::{ADMIN, Cluster, Database, OUTSIDER, READER, Session};
use tokio::time::{sleep, timeout};
use tokio_postgres::NoTls;

const SETTINGS: &str =
    "listeners:1000,pooled:1000,caches:1000,pooled:2000,caches:2000,listeners:5000,pooled:5000";
/// Of the catalog; one of them is rotated.
const INTEGRATIONS: u32 = 100;
const KEY: &str = "1";
const POOL: usize = 16;
const ROTATIONS: u32 = 7;
/// Between two rotations, so that each finds the caches at rest.
const PAUSE: Duration = Duration::from_secs(2);
/// The caches renew their leases and read the list every 15 seconds.
const IDLE: Duration = Duration::from_secs(15);
/// For all to be back after a restart.
const PATIENCE: Duration = Duration::from_mins(5);
const RETRY: Duration = Duration::from_millis(50);
/// Connections that are opened at a time.
const AT_ONCE: usize = 32;

// Servers and caches share the processors, as caches of one service do.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!(
        "| | connections | start | half know | all know | server, a rotation | clients, a rotation | server, idle | a backend | restart |"
    );
    println!("|---|{}", " ---: |".repeat(9));
    let settings = env::var("FANOUT").ok().filter(|settings| !settings.is_empty());
    for setting in settings.as_deref().unwrap_or(SETTINGS).split(',') {
        let (kind, count) = setting.split_once(':').expect("KIND:COUNT");
        let count: usize = count.parse().expect("a number");
        // A cluster for each: thousands of sessions take their time to end.
        let connections = count * if kind == "caches" { 2 } else { 1 } + 100;
        let mut cluster = Cluster::builder()
            .setting("max_connections", &connections.to_string())
            .setting("shared_buffers", "256MB")
            .setting("autovacuum", "off")
            .setting("log_connections", "on")
            .start();
        println!("{}", measure(&mut cluster, kind, count).await);
    }
}

async fn measure(cluster: &mut Cluster, kind: &str, count: usize) -> String {
    let database = database(cluster).await;
    let admin = database.connect(ADMIN).await;
    let pool = pool(&database);
    let began = Instant::now();
    let mut listeners: Vec<Listener> = stream::iter(0..count)
        .map(|_| Listener::start(kind, &database, &pool))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let start = began.elapsed();

    let server = Processes::of(cluster);
    let clients = || used(&PathBuf::from("/proc/self/schedstat"));
    sleep(PAUSE).await;
    let (mut half, mut all) = (Vec::new(), Vec::new());
    let (mut by_server, mut by_clients) = (Vec::new(), Vec::new());
    for rotation in 0..ROTATIONS {
        let before = (server.used(), clients());
        admin.batch_execute("BEGIN").await.expect("BEGIN");
        rotate(&admin, rotation).await;
        let committing = Instant::now();
        let know = known(&mut listeners, committing);
        let (committed, times) = tokio::join!(admin.batch_execute("COMMIT"), know);
        committed.expect("COMMIT");
        half.push(times[times.len() / 2]);
        all.push(times[times.len() - 1]);
        // What comes after: the leases.
        sleep(PAUSE).await;
        by_server.push(server.used().saturating_sub(before.0));
        by_clients.push(clients().saturating_sub(before.1));
    }
    let before = server.used();
    sleep(IDLE).await;
    let idle = server.used().saturating_sub(before).as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    let milliseconds = |times: Vec<Duration>| format!("{:.1} ms", median(times).as_secs_f64() * 1e3);
    let memory = server.memory();
    let restart =
        if kind == "listeners" { "-".to_owned() } else { restart(cluster, &database, &mut listeners).await };
    format!(
        "| {count} {kind} | {} | {:.1} s | {} | {} | {} | {} | {idle:.0} % | {memory:.1} MB | {restart} |",
        server.0.len(),
        start.as_secs_f64(),
        milliseconds(half),
        milliseconds(all),
        milliseconds(by_server),
        milliseconds(by_clients),
    )
}

async fn rotate(admin: &Session, number: u32) {
    let set = "SELECT integration_credentials.admin_set_integration_credentials($1, $2, 'bench')";
    admin.query(set, &[&KEY, &format!("tok_{number}")]).await.expect("the call succeeds");
}

/// When each knows of a rotation, in order.
async fn known(listeners: &mut [Listener], since: Instant) -> Vec<Duration> {
    let each = listeners.iter_mut().map(async |listener| {
        listener.next().await;
        since.elapsed()
    });
    let mut times = join_all(each).await;
    times.sort_unstable();
    times
}

/// All come back at once, after a rotation that none of them was told of.
async fn restart(cluster: &mut Cluster, database: &Database, listeners: &mut [Listener]) -> String {
    cluster.restart();
    let (since, before) = (Instant::now(), logins(cluster));
    rotate(&database.connect(ADMIN).await, ROTATIONS).await;
    let all = listeners.len();
    let mut coming: FuturesUnordered<_> = listeners.iter_mut().map(Listener::next).collect();
    let mut back = 0;
    while back < all {
        if timeout(PATIENCE.saturating_sub(since.elapsed()), coming.next()).await.is_err() {
            return format!("{back} after {} s", PATIENCE.as_secs());
        }
        back += 1;
    }
    drop(coming);
    let logins = logins(cluster) - before;
    format!("{:.1} s, {logins} logins", since.elapsed().as_secs_f64())
}

/// How many the server has carried out so far, those of clients that had left included.
fn logins(cluster: &Cluster) -> usize {
    cluster.log().matches("connection authorized").count()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

async fn database(cluster: &Cluster) -> Database {
    let database = cluster.database().await;
    let fill = format!(
        "SELECT integration_credentials.admin_register_integration(n::text, 'Integration ' || n, 'bench'),
                integration_credentials.admin_set_integration_credentials(n::text, 'tok_' || n, 'bench')
         FROM generate_series(1, {INTEGRATIONS}) AS n"
    );
    database.superuser().await.batch_execute(&fill).await.expect("the catalog is filled");
    database
}

fn pool(database: &Database) -> Pool {
    let config = database.dsn(READER).parse().expect("the DSN is right");
    let pool = Pool::builder(Manager::new(config, NoTls)).max_size(POOL);
    pool.build().expect("a pool")
}

enum Listener {
    Session(Session),
    Cache(CredentialCache, Changes),
}

impl Listener {
    async fn start(kind: &str, database: &Database, pool: &Pool) -> Self {
        if kind == "listeners" {
            let session = database.connect(OUTSIDER).await;
            session.batch_execute("LISTEN integration_credentials").await.expect("LISTEN");
            return Self::Session(session);
        }
        let settings = Settings::resolve(Some(&database.dsn(READER))).expect("the DSN is right");
        let options = CacheOptions::default();
        let cache = match kind {
            "caches" => CredentialCache::start(&settings, options).await,
            "pooled" => CredentialCache::over_pool(&settings, pool.clone(), options).await,
            other => panic!("there is no kind {other}"),
        };
        let cache = cache.expect("a cache");
        cache.get(KEY).await.expect("it is set");
        let changes = cache.changes();
        Self::Cache(cache, changes)
    }

    /// Waits for the notification; a cache, until it has the new value.
    async fn next(&mut self) {
        match self {
            Self::Session(session) => drop(session.next_notification().await),
            Self::Cache(cache, changes) => {
                while changes.recv().await.key != KEY {}
                // After a restart, the server may be too busy to answer in time.
                while cache.get(KEY).await.is_err() {
                    sleep(RETRY).await;
                }
            }
        }
    }
}

/// The processes of a server.
struct Processes(Vec<PathBuf>);

impl Processes {
    fn of(cluster: &Cluster) -> Self {
        let postmaster = cluster.postmaster_pid();
        let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"));
        let children = children.expect("it runs");
        Self(children.split_ascii_whitespace().map(|pid| format!("/proc/{pid}").into()).collect())
    }

    fn used(&self) -> Duration {
        self.0.iter().map(|process| used(&process.join("schedstat"))).sum()
    }

    /// Megabytes that the median process has for itself, with its page tables.
    fn memory(&self) -> f64 {
        let kilobytes = |file: PathBuf, names: &[&str]| -> u32 {
            let text = fs::read_to_string(file).unwrap_or_default();
            let fields = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
            fields.filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u32>().ok()).sum()
        };
        let own = |process: &PathBuf| {
            kilobytes(process.join("smaps_rollup"), &["Private_Clean:", "Private_Dirty:"])
                + kilobytes(process.join("status"), &["VmPTE:"])
        };
        let mut all: Vec<_> = self.0.iter().map(own).collect();
        all.sort_unstable();
        f64::from(all[all.len() / 2]) / 1000.0
    }
}

/// The CPU time of a process, to the nanosecond; those of `stat` are of 10 ms.
fn used(schedstat: &PathBuf) -> Duration {
    let text = fs::read_to_string(schedstat).unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|used| used.parse().ok()).unwrap_or_default())
}
