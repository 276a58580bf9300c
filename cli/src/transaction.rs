//! A call and its transaction, of the kind that the call needs. What `default_transaction_isolation` and its like say
//! plays no part, and no setting of the session is touched, for the session may be a pool's or a service's.

use crate::backoff::Backoff;
use std::time::Duration;
use tokio::time::sleep;
use tokio_postgres::{
    Client, Error, Row,
    types::{ToSql, Type},
};

/// How often a call is made again that Postgres has rolled back for the sake of another.
const RETRIES: u32 = 3;
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(1);
/// `serialization_failure` and `deadlock_detected`
const ROLLED_BACK: [&str; 2] = ["40001", "40P01"];

/// What a call needs of its transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs(&'static str);

impl Needs {
    /// Statements that return text, for who has no session yet. One that fails leaves the transaction open.
    pub fn script(self, sql: &str) -> String {
        format!("{}; {sql}; COMMIT", self.0)
    }
}

/// Reads.
pub(crate) const READ: Needs = Needs("BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY");
/// Changes something.
pub(crate) const WRITE: Needs = Needs("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE");
/// Reads, and finds Postgres' own names whatever is in the way.
pub(crate) const READ_PINNED: Needs = Needs(
    "BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY; SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL standard_conforming_strings = on; SET LOCAL quote_all_identifiers = off",
);
/// The same for who changes something.
pub(crate) const WRITE_PINNED: Needs = Needs(
    "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE; SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL standard_conforming_strings = on; SET LOCAL quote_all_identifiers = off",
);

/// Runs a query in a transaction of its own, in one round trip.
pub(crate) async fn query(
    client: &Client,
    needs: Needs,
    sql: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<Row>, Error> {
    let mut retries = Retries::new();
    loop {
        match run(client, needs, client.query_typed(sql, parameters)).await {
            Err(error) if retries.may_follow(&error) => retries.wait().await,
            decided => return decided,
        }
    }
}

/// Runs statements without parameters, all of them in one transaction.
pub(crate) async fn batch(client: &Client, needs: Needs, sql: &str) -> Result<(), Error> {
    let mut retries = Retries::new();
    loop {
        match run(client, needs, client.batch_execute(sql)).await {
            Err(error) if retries.may_follow(&error) => retries.wait().await,
            decided => return decided,
        }
    }
}

/// The three are sent at once, in this order, and answered one after the other. COMMIT rolls back what has failed.
async fn run<T>(
    client: &Client,
    Needs(begin): Needs,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let (_begun, answer, ended) =
        tokio::join!(biased; client.batch_execute(begin), call, client.batch_execute("COMMIT"));
    // Where nothing may be written, as on a standby, BEGIN fails too. What the call itself says is clearer.
    let answer = answer?;
    ended?;
    Ok(answer)
}

/// Making a call again.
struct Retries {
    left: u32,
    backoff: Backoff,
}

impl Retries {
    const fn new() -> Self {
        Self { left: RETRIES, backoff: Backoff::new(FIRST_DELAY, LONGEST_DELAY) }
    }

    fn may_follow(&self, error: &Error) -> bool {
        self.left > 0 && error.code().is_some_and(|code| ROLLED_BACK.contains(&code.code()))
    }

    async fn wait(&mut self) {
        self.left = self.left.saturating_sub(1);
        sleep(self.backoff.next_delay()).await;
    }
}
