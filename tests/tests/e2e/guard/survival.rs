//! Messages and statements that ended a session, or the whole server.

use crate::helpers::{
    calls::{ANY, register, set},
    fixture::{ASLEEP, until},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tests::{ADMIN, Canary, Cluster, OUTSIDER, Wire};
use tokio::time::{Duration, sleep};

const F: &str = "integration_credentials.admin_set_integration_credentials";

/// With each value replaced it would be longer than Postgres lets a text be.
#[tokio::test]
async fn a_message_that_repeats_a_value_past_the_longest_text_harms_nobody() {
    let cluster = Cluster::private();
    let database = cluster.database().await;
    let witness = database.superuser().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    admin.batch_execute("BEGIN").await.unwrap();
    set(&admin, ANY, "abcd").await.unwrap();
    // The text of the statement is the client's own affair: it does not have the value in one piece.
    for times in [10, 300_000, 110_000_000] {
        let raise = format!("DO $$ BEGIN RAISE LOG '% it was', repeat('ab' || 'cd ', {times}); END $$");
        admin.batch_execute(&raise).await.unwrap();
    }
    admin.batch_execute("COMMIT").await.unwrap();
    witness.batch_execute("SELECT 1").await.unwrap();
    let log = cluster.log();
    assert!(!log.contains("abcd"), "{}", log.chars().take(6000).collect::<String>());
    assert_eq!(log.matches("LOG:  <redacted").count(), 3, "{}", log.chars().take(3000).collect::<String>());
}

/// Where memory ends in the midst of what the guard does, the session is told, as it would be without the library. How many
/// calls fill the memory differs with the machine.
#[tokio::test]
async fn a_statement_that_takes_all_memory_gets_an_error() {
    let cluster = Cluster::builder().memory_kb(400_000).setting("fsync", "off").start();
    let database = cluster.database().await;
    let witness = database.superuser().await;
    // Two, so that neither is the one that was looked up last.
    let names = ["one", "two"].map(|name| format!("{name}_{}", "x".repeat(59 - name.len())));
    for name in &names {
        let create =
            format!("CREATE FUNCTION {name}(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'");
        witness.batch_execute(&create).await.unwrap();
    }
    let calls = names.map(|name| format!("{name}(1)")).join(",");
    let mut refused = 0;
    for thousands in [90, 100, 101, 102, 110, 130, 160, 200] {
        let list = vec![calls.as_str(); thousands * 1000].join(",");
        let mut wire = Wire::open(&database, OUTSIDER, &[]).await;
        let answer = wire.query(&format!("SELECT 1 WHERE false AND ARRAY[{list}] IS NULL")).await;
        assert!(!answer.is_lost, "{thousands},000 calls: {}", answer.messages);
        refused += usize::from(answer.sqlstate.as_deref() == Some("53200"));
        assert_eq!(wire.query("SELECT 1").await.sqlstate, None);
    }
    witness.batch_execute("SELECT 1").await.unwrap();
    assert!(refused > 2, "only {refused} statements have taken all memory");
    assert!(!cluster.log().contains("PANIC"));
}

#[tokio::test]
async fn the_report_of_a_crash_can_be_read_and_has_no_value() {
    let cluster = Cluster::private();
    let database = cluster.database().await;
    register(&database.connect(ADMIN).await, ANY, json!({})).await.unwrap();
    let canary = Canary::new();
    let mut wire = Wire::open(&database, ADMIN, &[]).await;
    let pid = wire.pid();
    let witness = database.superuser().await;
    let ends = async {
        until(&witness, ASLEEP).await;
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    };
    let statement = format!("SELECT {F}('{ANY}', '{canary}', 'me'), pg_sleep(60)");
    let (answer, ()) = tokio::join!(wire.query(&statement), ends);
    assert!(answer.is_lost);
    let report = format!(" (PID {pid}) was terminated by signal 9: Killed");
    let quoted = format!(": SELECT {F}(");
    let mut log = String::new();
    for _ in 0..1000 {
        log = cluster.log();
        if log.matches("database system is ready to accept connections").count() == 2 {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert!(log.contains(&report) && log.contains(&quoted), "{log}");
    assert!(canary.find(log.as_bytes()).is_empty(), "{log}");
}
