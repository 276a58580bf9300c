//! The cost of the cache: a read from memory, the memory of 10,000 credentials, and a resync of all of them.
//!
//! `cargo bench -p intcred --bench cache`, with the extension installed; the benchmark starts a server.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a benchmark, and no library")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use intcred::{CacheOptions, Credential, CredentialCache, EventKind, Settings, WatchOptions, Watcher};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::HashMap,
    hint::black_box,
    pin::pin,
    sync::{
        Arc, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};
use tests::{Cluster, Database, READER};
use tokio::runtime::Runtime;

const KEYS: usize = 10_000;

/// Counts the bytes allocated.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps to the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A database with many credentials of 64 bytes.
async fn database(cluster: &Cluster) -> Database {
    let database = cluster.database().await;
    let fill = format!(
        "SELECT integration_credentials.admin_register_integration('k' || n, 'K', 'bench'),
                integration_credentials.admin_set_integration_credentials('k' || n, repeat('x', 64), 'bench')
         FROM generate_series(1, {KEYS}) AS n"
    );
    database.superuser().await.batch_execute(&fill).await.unwrap();
    database
}

/// A read that panics unless it is from memory.
fn read(cache: &CredentialCache, key: &str) -> Credential {
    match pin!(cache.get(key)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(credential)) => credential,
        other => panic!("not from memory: {other:?}"),
    }
}

fn reads(criterion: &mut Criterion, cache: &CredentialCache) {
    let mut group = criterion.benchmark_group("cached get of 64 bytes");
    group.sample_size(50).measurement_time(Duration::from_secs(3));
    group.bench_function("1 thread", |bencher| {
        bencher.iter(|| black_box(read(cache, black_box("k7777")).expose().unwrap().len()));
    });
    // A service without the library, measured on the same machine at the same time.
    let plain: RwLock<HashMap<String, Arc<str>>> =
        RwLock::new((1..=KEYS).map(|n| (format!("k{n}"), "x".repeat(64).into())).collect());
    group.bench_function("1 thread, RwLock<HashMap<String, Arc<str>>> to compare", |bencher| {
        bencher.iter(|| black_box(plain.read().unwrap().get(black_box("k7777")).cloned().unwrap().len()));
    });
    let threads = 16;
    group.throughput(Throughput::Elements(threads));
    group.bench_function("16 threads, one key", |bencher| {
        bencher.iter_custom(|iterations| {
            let began = Instant::now();
            thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        for _ in 0..iterations {
                            black_box(read(cache, black_box("k7777")).expose().unwrap().len());
                        }
                    });
                }
            });
            began.elapsed()
        });
    });
    group.finish();
}

/// Measures how long watcher and cache take to catch up, after all keys changed during an outage.
async fn resync(database: &Database, settings: &Settings, cache: &CredentialCache) {
    let superuser = database.superuser().await;
    let mut watcher = Watcher::start(settings, WatchOptions::default()).await.unwrap();
    watcher.recv().await.unwrap();
    let silently = "UPDATE integration_credentials.configured_integrations SET revision = 2";
    superuser.batch_execute(silently).await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'intcred'";
    superuser.query(end, &[]).await.unwrap();
    let began = Instant::now();
    let mut changed = 0;
    while changed < KEYS {
        if let EventKind::Changed { revision: 2, .. } = watcher.recv().await.unwrap().kind {
            changed += 1;
        }
    }
    let known = began.elapsed();
    while cache.get(&format!("k{KEYS}")).await.unwrap().revision() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("{KEYS} keys, all changed, from a lost connection on, with a backoff of up to 100 ms:");
    println!("    until the watcher has reported all   {known:?}");
    println!("    until the cache returns the last key {:?}", began.elapsed());
}

fn cache(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let cluster = Cluster::builder().setting("fsync", "off").start();
    let database = runtime.block_on(database(&cluster));
    let settings = Settings::resolve(Some(&database.dsn(READER))).unwrap();

    let before = ALLOCATED.load(Ordering::Relaxed);
    let began = Instant::now();
    let cache = runtime.block_on(CredentialCache::start(&settings, CacheOptions::default())).unwrap();
    let started = began.elapsed();
    let began = Instant::now();
    let warmed = runtime.block_on(cache.warm()).unwrap();
    println!("start with {KEYS} keys {started:?}, warm() of {warmed} {:?}", began.elapsed());
    let bytes = ALLOCATED.load(Ordering::Relaxed) - before;
    println!("memory {bytes} bytes, {} for each credential of 64 bytes", bytes / KEYS);

    reads(criterion, &cache);
    runtime.block_on(resync(&database, &settings, &cache));
}

criterion_group!(benches, cache);
criterion_main!(benches);
