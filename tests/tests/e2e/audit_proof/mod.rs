//! The audit log proves what it says: whatever is tampered with is found and named, and nothing else is.

mod kept;
mod restore;
mod tampering;
mod truth;

use crate::helpers::calls::{ANY, register, set};
use serde_json::{Value, json};
use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};
use tests::{ADMIN, Cluster, Database, Output, SUPERUSER, Session, intcred, run};
use tokio::time::sleep;

/// The rows that are in no block.
const UNSEALED: &str = "
    SELECT id FROM integration_credentials.webapp_org_admin_audit_log
    EXCEPT SELECT unnest(ids) FROM integration_credentials.audit_blocks";

pub async fn sealed(superuser: &Session) {
    let began = Instant::now();
    loop {
        let rows = superuser.query(UNSEALED, &[]).await.unwrap();
        if rows.is_empty() {
            return;
        }
        let ids = || rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>();
        assert!(began.elapsed() < Duration::from_mins(1), "in no block: {:?}", ids());
        sleep(Duration::from_millis(50)).await;
    }
}

/// A log of three blocks, with the ids 1 to 7, 8 to 10, and 11 to 12.
async fn three_blocks(cluster: &Cluster) -> Database {
    let database = cluster.database().await;
    let (admin, superuser) = (database.connect(ADMIN).await, database.superuser().await);
    // Holds the lock of the chain, so that no worker looks while the rows of a transaction become visible.
    let keeper = database.superuser().await;
    let keep = "BEGIN; SELECT integration_credentials.audit_prune('2000-01-01')";
    for (block, sets) in [(0, 6), (1, 3), (2, 2)] {
        admin.batch_execute("BEGIN").await.unwrap();
        if block == 0 {
            register(&admin, ANY, json!({})).await.unwrap();
        }
        for number in 0..sets {
            set(&admin, ANY, &format!("value-{block}-{number}")).await.unwrap();
        }
        keeper.batch_execute(keep).await.unwrap();
        admin.batch_execute("COMMIT").await.unwrap();
        keeper.batch_execute("COMMIT").await.unwrap();
        sealed(&superuser).await;
    }
    let ranges = "SELECT string_agg(format('%s to %s', first_id, last_id), ', ' ORDER BY number)
                  FROM integration_credentials.audit_blocks";
    let ranges: String = superuser.query_one(ranges, &[]).await.unwrap().get(0);
    assert_eq!(ranges, "1 to 7, 8 to 10, 11 to 12");
    database
}

/// `intcred audit` as a role.
async fn audit_as(database: &Database, role: &str, arguments: &[&str]) -> Output {
    run(intcred().args(["--dsn", &database.dsn(role), "audit"]).args(arguments), b"").await
}

async fn audit(database: &Database, arguments: &[&str]) -> Output {
    audit_as(database, SUPERUSER, arguments).await
}

/// A file that is kept outside of the database.
pub struct Kept {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Kept {
    fn new(content: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kept.json");
        fs::write(&path, content).unwrap();
        Self { _dir: dir, path }
    }

    /// The newest block.
    pub async fn head(database: &Database) -> Self {
        Self::new(&audit(database, &["head"]).await.success())
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(&self.path).unwrap()).unwrap()
    }
}

/// Verifies with a head. Returns the problems; without any, the exit status is 0.
pub async fn problems(database: &Database, head: &Kept) -> Vec<String> {
    let output = audit(database, &["verify", "--head", head.path()]).await;
    let lines = output.stdout.lines().filter_map(|line| line.strip_prefix("problem  "));
    let problems: Vec<_> = lines.map(str::to_owned).collect();
    assert_eq!(output.code, i32::from(!problems.is_empty()), "{output:?}");
    problems
}

#[track_caller]
fn assert_clean(output: &Output) {
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.starts_with("ok "), "{output:?}");
}
