//! Reencryption: how many rows a second, and what it costs the calls beside it.

use crate::{
    comparison::{Comparison, compare},
    effort::Effort,
    rounds::Estimate,
    rows,
    side::Side,
    stage,
    table::{Figure, Row, Target},
};
use integration_credentials_core::{
    envelope::{Place, Purpose, encrypt},
    keyring::Keyring,
};
use std::{
    cell::Cell,
    fs,
    time::{Duration, Instant},
};
use tests::{Cluster, Database, Session};
use tokio::time::sleep;
use tokio_postgres::NoTls;

/// The org of the rows, which no call of the benchmark touches.
const ORG: &str = "reencrypted";

/// Rows that are reencrypted again and again, each time with a new key.
pub struct Reencryption<'a> {
    cluster: &'a Cluster,
    session: Session,
    watching: Session,
    /// How many rows were reencrypted.
    done: Cell<i64>,
}

impl<'a> Reencryption<'a> {
    /// Adds rows with a value of 64 bytes.
    pub async fn of(cluster: &'a Cluster, database: &Database, rows: u32) -> Self {
        let session = database.superuser().await;
        let keyring = Keyring::parse(&cluster.keyring()).expect("the keyring of the cluster");
        let value = stage::value(64);
        let insert = "INSERT INTO integration_credentials.configured_integrations (org_slug, integration_key, ciphertext)
                      SELECT $1, key, ciphertext FROM unnest($2::text[], $3::bytea[]) AS r (key, ciphertext)";
        for some in (0..rows).collect::<Vec<_>>().chunks(10_000) {
            let keys: Vec<_> = some.iter().map(|row| format!("{row:08}")).collect();
            let ciphertexts: Vec<_> = keys
                .iter()
                .map(|key| encrypt(&keyring, Place { purpose: Purpose::Credential, org: ORG, key }, &value))
                .map(|ciphertext| ciphertext.expect("a ciphertext"))
                .collect();
            session.execute(insert, &[&ORG, &keys, &ciphertexts]).await.expect("rows are added");
        }
        for settle in ["VACUUM ANALYZE", "CHECKPOINT"] {
            session.batch_execute(settle).await.expect("the rows are settled");
        }
        Self { cluster, session, watching: database.superuser().await, done: Cell::new(0) }
    }

    /// Has the server encrypt with a new key, and reencrypts with that key what was there. Returns how many rows.
    pub async fn run(&self) -> i64 {
        let mut keyring = Keyring::parse(&self.cluster.keyring()).expect("the keyring of the cluster");
        let new = keyring.add_key().expect("a key").to_owned();
        keyring.use_key(&new).expect("the key was added");
        let document = keyring.to_document().expect("a document");
        fs::write(self.cluster.keyring_file(), document.as_bytes()).expect("the keyring is written");
        self.cluster.reload();
        let row = self.session.query_one("CALL integration_credentials.reencrypt()", &[]).await;
        let result: serde_json::Value = row.expect("a reencryption").get(0);
        assert_eq!(result["unreadable"], 0, "{result}");
        let rows = result["rows"].as_i64().expect("a number of rows");
        self.done.set(self.done.get() + rows);
        rows
    }

    /// Runs one after the other, while something else is measured. A run begins by counting, at full speed, and that is
    /// over before.
    pub async fn beside<T>(&self, measured: impl Future<Output = T>) -> T {
        const BEGAN: &str =
            "SELECT coalesce(max(done), 0) > 0 FROM integration_credentials.reencrypt_progress";
        let measured = async {
            while !self.watching.query_one(BEGAN, &[]).await.expect("the progress").get::<_, bool>(0) {
                sleep(Duration::from_millis(10)).await;
            }
            measured.await
        };
        let runs = async {
            loop {
                self.run().await;
            }
        };
        let result = tokio::select! {
            result = measured => result,
            never = runs => never,
        };
        // The next run goes on with what this one leaves. Where this one has just ended, there is nothing to cancel.
        let _ = self.session.cancel_token().cancel_query(NoTls).await;
        let _ = self.session.batch_execute("").await;
        result
    }
}

/// Both figures.
pub async fn measure(effort: &Effort, cluster: &Cluster) -> Vec<Row> {
    let rows = if effort.full { 1_000_000 } else { 100_000 };
    let database = stage::database(cluster, stage::KEYS).await;
    stage::fill(&database, stage::KEYS).await;
    let reencryption = Reencryption::of(cluster, &database, rows).await;
    let mut rates = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        let done = reencryption.run().await;
        #[expect(clippy::cast_precision_loss, reason = "a million rows")]
        rates.push(done as f64 / began.elapsed().as_secs_f64());
    }
    let rate = Estimate::of(&rates).median;
    let measure = format!("reencrypt, {rows} rows");
    let mut report = vec![Row::single(measure, Figure::PerSecond, Some(Target::AtLeast(50_000.0)), rate)];

    let calls = || rows::calls(cluster, &database, rows::SET);
    let calls = [(); 2].map(|()| crate::pgbench::Pgbench { clients: 8, ..calls() });
    let [beside, alone] = calls;
    let sides = [Side::Reencrypting(beside, &reencryption), Side::Pgbench(alone)];
    let comparison = Comparison::of("set, 8 clients, while reencrypt runs", "ours, without it", [0, 1]);
    report.extend(compare(effort, &sides, vec![comparison.at_least(0.9).within(0.05)]).await);
    eprintln!("{} rows were reencrypted in all", reencryption.done.get());
    report
}
