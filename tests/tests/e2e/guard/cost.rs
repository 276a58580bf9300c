//! What a text costs on a server with the library and its default settings, beside a server without the library.

use std::time::Duration;
use tests::backend::{cpu_time, peak_memory};
use tests::{Cluster, Database, SUPERUSER, Wire};

/// By how much a measurement may be off.
const TIME_SLACK: Duration = Duration::from_millis(100);
const MEMORY_SLACK: u64 = 4 << 20;
const TRIES: usize = 3;

const NAME: &str = "admin_set_integration_credentials";

#[derive(Clone, Copy, Debug)]
struct Cost {
    time: Duration,
    memory: u64,
}

/// The two servers.
struct Pair {
    ours: (Cluster, Database),
    stock: (Cluster, Database),
}

impl Pair {
    async fn start() -> Self {
        let ours = Cluster::builder().setting("fsync", "off").start();
        let stock = Cluster::builder().without_preload().without_keyring().setting("fsync", "off").start();
        let (of_ours, of_stock) = (ours.database().await, stock.empty_database().await);
        Self { ours: (ours, of_ours), stock: (stock, of_stock) }
    }

    /// Panics if a text costs more than three times what it costs without the library.
    async fn compare(&self, what: &str, before: &str, text: &str) {
        let mut seen = Vec::new();
        for _ in 0..TRIES {
            let ours = cost(&self.ours.1, before, text).await;
            let stock = cost(&self.stock.1, before, text).await;
            let copies = u64::try_from(text.len()).unwrap() * 8;
            if ours.time <= stock.time * 3 + TIME_SLACK && ours.memory <= stock.memory + copies + MEMORY_SLACK
            {
                return;
            }
            seen.push((ours, stock));
        }
        panic!("{what}, {} bytes: with the library, and without: {seen:?}", text.len());
    }
}

/// What a text costs a session of its own, which has run `before`.
async fn cost(database: &Database, before: &str, text: &str) -> Cost {
    let mut wire = Wire::open(database, SUPERUSER, &[]).await;
    let answer = wire.query(before).await;
    assert_eq!(answer.sqlstate, None, "{}", answer.messages);
    let earlier = cpu_time(wire.pid());
    let answer = wire.query(text).await;
    assert_eq!((answer.sqlstate, answer.is_lost), (None, false), "{}", answer.messages);
    Cost { time: cpu_time(wire.pid()).saturating_sub(earlier), memory: peak_memory(wire.pid()) }
}

#[tokio::test]
async fn a_text_of_many_statements_costs_little_more_than_without_the_library() {
    const TABLE: &str = "CREATE TEMP TABLE t (a int, b text)";
    let servers = Pair::start().await;
    let insert = |literal: &str| format!("INSERT INTO t VALUES (1, '{literal}');");
    for (what, literal) in [
        ("underscores", "some text of it_s own"),
        ("backslashes", r"some\ text of it_s own"),
        ("escapes", r"some \\x5f text of it_s own"),
        ("unicode", "some text U&\"of it_s own"),
        ("a name", NAME),
    ] {
        servers.compare(what, TABLE, &insert(literal).repeat(10_000)).await;
    }
    for filler in ["x", "_", "\\", "&", "'\n"] {
        let comment = filler.repeat(1_000_000 / filler.len());
        let text = format!("{}/*{comment}*/ SELECT 1", "SELECT 1;".repeat(500));
        servers.compare(&format!("a long comment of {filler:?}"), "", &text).await;
    }
}

#[tokio::test]
async fn a_long_statement_with_many_messages_costs_little_more_than_without_the_library() {
    let servers = Pair::start().await;
    for (what, pad) in [
        ("words", "x".repeat(200_000)),
        ("a backslash", format!("\\ {}", "x".repeat(200_000))),
        ("underscores", "_".repeat(200_000)),
        ("a name", format!("{NAME} {}", "x".repeat(200_000))),
    ] {
        let text = format!(
            "DO $$ BEGIN
                FOR i IN 1..1000 LOOP RAISE WARNING 'x'; END LOOP;
                PERFORM length('{pad}');
             END $$"
        );
        servers.compare(what, "SET client_min_messages = error", &text).await;
    }
}

#[tokio::test]
async fn a_function_that_names_a_call_keeps_no_memory_of_each_of_its_runs() {
    let servers = Pair::start().await;
    let create = format!(
        "CREATE OR REPLACE FUNCTION f(i int) RETURNS int LANGUAGE sql AS $f$
            SELECT 1; SELECT $1 /* 'a value' {NAME} {} */
         $f$",
        "z".repeat(10_000)
    );
    let text = "SELECT count(f(i)) FROM generate_series(1, 20000) AS i";
    let ours = cost(&servers.ours.1, &create, text).await;
    let stock = cost(&servers.stock.1, &create, text).await;
    assert!(ours.memory <= stock.memory + MEMORY_SLACK, "with the library, and without: {ours:?}, {stock:?}");
}
