//! Each call in a transaction of its own, whatever `default_transaction_isolation` and `_read_only` say. No
//! setting of the session changes, because the session may belong to a pool; but for those of a watcher and a cache.

use crate::backoff::Backoff;
use std::time::Duration;
use tokio::time::sleep;
use tokio_postgres::{
    Client, Error, Row, Statement,
    types::{ToSql, Type},
};

/// The retries of a transaction that Postgres rolled back in favour of another.
const RETRIES: u32 = 3;
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(1);
/// `serialization_failure` and `deadlock_detected`
const ROLLED_BACK: [&str; 2] = ["40001", "40P01"];
/// `in_failed_sql_transaction`
const IN_FAILED_TRANSACTION: &str = "25P02";

/// The statements that begin a transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TransactionKind(&'static str);

impl TransactionKind {
    /// A script for the simple query protocol. A statement that fails leaves the transaction open.
    pub fn script(self, sql: &str) -> String {
        format!("{}; {sql}; COMMIT", self.0)
    }
}

/// For a session that belongs to nobody else: the defaults with which a statement alone is a transaction as below.
pub(crate) const SESSION: &str = "SET default_transaction_isolation = 'read committed'; \
    SET default_transaction_read_only = off; SET default_transaction_deferrable = off";
/// A read.
pub(crate) const READ: TransactionKind = TransactionKind("BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY");
/// A change.
pub(crate) const WRITE: TransactionKind = TransactionKind("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE");
/// A read whose names are Postgres' own, whatever the database owner has set.
pub(crate) const READ_PINNED: TransactionKind = TransactionKind(
    "BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY; SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL standard_conforming_strings = on; SET LOCAL quote_all_identifiers = off",
);
/// A change whose names are Postgres' own, whatever the database owner has set.
pub(crate) const WRITE_PINNED: TransactionKind = TransactionKind(
    "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE; SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL standard_conforming_strings = on; SET LOCAL quote_all_identifiers = off",
);
/// A read of one state of the database, by several queries whose names are Postgres' own.
pub(crate) const SNAPSHOT: &str =
    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL search_path = pg_catalog, pg_temp";
/// A read of the credentials after the transactions that have written one have ended. Waits for ten seconds.
pub(crate) const WRITE_SETTLED: TransactionKind = TransactionKind(
    "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE; SET LOCAL lock_timeout = '10s'; LOCK TABLE integration_credentials.configured_integrations, integration_credentials.aggregator_credentials IN SHARE MODE",
);

/// A statement. The text is constant, because tokio-postgres may log it.
#[derive(Clone)]
pub(crate) struct Sql {
    pub text: &'static str,
    /// Where the server keeps its plan. Then tokio-postgres may log the parameters, too.
    pub planned: Option<Statement>,
}

impl From<&'static str> for Sql {
    fn from(text: &'static str) -> Self {
        Self { text, planned: None }
    }
}

impl Sql {
    /// In a transaction of its own. A session that keeps plans has the defaults of [`SESSION`], so that the statement alone
    /// is such a transaction.
    async fn run(
        &self,
        client: &Client,
        kind: TransactionKind,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        let Some(planned) = &self.planned else {
            return run(client, kind, client.query_typed(self.text, parameters)).await;
        };
        let values: Vec<_> = parameters.iter().map(|(value, _)| *value).collect();
        client.query(planned, &values).await
    }
}

/// Runs a query in a transaction of its own, in one round trip.
pub(crate) async fn query(
    client: &Client,
    kind: TransactionKind,
    sql: &Sql,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<Row>, Error> {
    let mut retries = Retries::new();
    loop {
        match sql.run(client, kind, parameters).await {
            Err(error) if retries.may_retry(&error) => retries.wait().await,
            decided => return decided,
        }
    }
}

/// As [`query`], without a retry.
pub(crate) async fn query_once(
    client: &Client,
    kind: TransactionKind,
    sql: &Sql,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<Row>, Error> {
    sql.run(client, kind, parameters).await
}

/// Runs a statement once for each of `calls`, all in one transaction; each run returns one row. `on_row`
/// gets the number of rows so far. An error has the index of its call.
pub(crate) async fn each_row<const N: usize>(
    client: &Client,
    kind: TransactionKind,
    sql: &str,
    calls: &[[(&(dyn ToSql + Sync), Type); N]],
    mut on_row: impl FnMut(usize),
) -> Result<Vec<Row>, (Option<usize>, Error)> {
    let mut retries = Retries::new();
    loop {
        match attempt(client, kind, sql, calls, &mut on_row).await {
            Err((_, error)) if retries.may_retry(&error) => retries.wait().await,
            decided => return decided,
        }
    }
}

async fn attempt<const N: usize>(
    client: &Client,
    TransactionKind(begin): TransactionKind,
    sql: &str,
    calls: &[[(&(dyn ToSql + Sync), Type); N]],
    on_row: &mut impl FnMut(usize),
) -> Result<Vec<Row>, (Option<usize>, Error)> {
    let steps = async {
        // Not pipelined: without the transaction, each call would commit for itself.
        client.batch_execute(begin).await.map_err(|error| (None, error))?;
        let mut rows = Vec::with_capacity(calls.len());
        for (index, call) in calls.iter().enumerate() {
            rows.extend(client.query_typed(sql, call).await.map_err(|error| (Some(index), error))?);
            on_row(rows.len());
        }
        client.batch_execute("COMMIT").await.map_err(|error| (None, error))?;
        Ok(rows)
    };
    let ended = steps.await;
    if ended.is_err() {
        // An error of ROLLBACK is that of a lost connection, which rolls back as well.
        let _ = client.batch_execute("ROLLBACK").await;
    }
    ended
}

/// Runs statements without parameters, all of them in one transaction.
pub(crate) async fn batch(client: &Client, kind: TransactionKind, sql: &str) -> Result<(), Error> {
    let mut retries = Retries::new();
    loop {
        match run(client, kind, client.batch_execute(sql)).await {
            Err(error) if retries.may_retry(&error) => retries.wait().await,
            decided => return decided,
        }
    }
}

/// Pipelines BEGIN, the call and COMMIT, so that a call takes one round trip. After an error, COMMIT rolls
/// back.
async fn run<T>(
    client: &Client,
    TransactionKind(begin): TransactionKind,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let (opened, answer, ended) =
        tokio::join!(biased; client.batch_execute(begin), call, client.batch_execute("COMMIT"));
    // On a standby, BEGIN READ WRITE fails too, and the error of the call is clearer. But in a transaction that
    // has failed, the call says no more than that.
    let has_failed = |error: &Error| error.code().is_some_and(|code| code.code() == IN_FAILED_TRANSACTION);
    let answer = match (opened, answer) {
        (Err(cause), Err(error)) if has_failed(&error) => return Err(cause),
        (_, answer) => answer?,
    };
    ended?;
    Ok(answer)
}

/// The retries that are left, and their backoff.
struct Retries {
    left: u32,
    backoff: Backoff,
}

impl Retries {
    const fn new() -> Self {
        Self { left: RETRIES, backoff: Backoff::new(FIRST_DELAY, LONGEST_DELAY) }
    }

    fn may_retry(&self, error: &Error) -> bool {
        self.left > 0 && error.code().is_some_and(|code| ROLLED_BACK.contains(&code.code()))
    }

    async fn wait(&mut self) {
        self.left = self.left.saturating_sub(1);
        sleep(self.backoff.next_delay()).await;
    }
}
