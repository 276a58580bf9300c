//! A connection, and the task that drives it.

use crate::{
    Error, Settings,
    connect::connect,
    deadline::within,
    error::OLDEST_SERVER,
    transaction::{self, READ_PINNED, SESSION, SNAPSHOT, Sql, TransactionKind},
};
use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use tokio::{sync::oneshot, task::JoinHandle, time::sleep};
use tokio_postgres::{
    AsyncMessage, CancelToken, Row, Statement,
    types::{ToSql, Type},
};

/// For a superuser: whether the database has the extension, and a role that owns an object in its schema and
/// is no superuser. No row for other roles. The session's role decides, not the current one, which any
/// function can RESET.
///
/// Like every statement of this crate, the query does not depend on the `search_path`, which the database
/// owner can set: names and operators have their schema, parameters their type.
const FOR_SUPERUSER: &str = "\
    SELECT EXISTS (\
            SELECT FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_roles AS o ON o.oid OPERATOR(pg_catalog.=) e.extowner \
            JOIN pg_catalog.pg_depend AS d ON d.refobjid OPERATOR(pg_catalog.=) e.oid \
            JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) d.objid \
            WHERE e.extname OPERATOR(pg_catalog.=) 'integration_credentials'::pg_catalog.name AND o.rolsuper \
                AND n.nspname OPERATOR(pg_catalog.=) 'integration_credentials'::pg_catalog.name), \
        (SELECT r.rolname FROM pg_catalog.pg_roles AS r \
            WHERE NOT r.rolsuper AND r.oid OPERATOR(pg_catalog.=) ANY (\
                SELECT o.owner FROM pg_catalog.pg_namespace AS n CROSS JOIN LATERAL (\
                    SELECT n.nspowner \
                    UNION ALL SELECT p.proowner FROM pg_catalog.pg_proc AS p WHERE p.pronamespace OPERATOR(pg_catalog.=) n.oid \
                    UNION ALL SELECT c.relowner FROM pg_catalog.pg_class AS c WHERE c.relnamespace OPERATOR(pg_catalog.=) n.oid\
                ) AS o (owner) \
                WHERE n.nspname OPERATOR(pg_catalog.=) 'integration_credentials'::pg_catalog.name) \
            LIMIT 1) \
    FROM pg_catalog.pg_roles AS s WHERE s.rolname OPERATOR(pg_catalog.=) session_user AND s.rolsuper";

/// For the answers under way once nobody has the session any more.
const END: Duration = Duration::from_secs(1);

/// An argument of a statement, and its type.
pub(crate) type Argument<'a> = (&'a (dyn ToSql + Sync), Type);

pub(crate) struct Session {
    client: tokio_postgres::Client,
    driver: JoinHandle<()>,
    /// Dropped with the session.
    _in_use: oneshot::Sender<()>,
    /// Why the connection ended, for the calls in flight, whose own error does not say.
    end_reason: Arc<OnceLock<String>>,
    dbname: String,
    /// False for a superuser in a database without the extension, where any function of its name would be
    /// another role's.
    has_extension: bool,
    /// The statements that the server keeps for the session, once the session is known to keep its backend.
    plans: OnceLock<Mutex<HashMap<&'static str, Statement>>>,
}

impl Session {
    /// Connects to the first suitable target. `on_message` gets notices and notifications in the task that
    /// drives the connection, and is dropped when the connection ends.
    pub async fn open(
        settings: &Settings,
        mut on_message: impl FnMut(AsyncMessage) + Send + 'static,
    ) -> Result<Self, Error> {
        let (client, mut connection) = connect(settings).await?;
        check_version(connection.parameter("server_version").unwrap_or_default())?;
        let end_reason = Arc::new(OnceLock::new());
        let (in_use, ended) = oneshot::channel::<()>();
        let drive = {
            let end_reason = end_reason.clone();
            let dbname = settings.dbname().to_owned();
            async move {
                while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                    match message {
                        Ok(message) => on_message(message),
                        Err(error) => {
                            let reason = match Error::of_call(&error, &dbname) {
                                Error::Disconnected { reason } => reason,
                                other => other.to_string(),
                            };
                            // Before `connection` is dropped, which fails the calls in flight.
                            return drop(end_reason.set(reason));
                        }
                    }
                }
            }
        };
        let driver = tokio::spawn(async move {
            tokio::select! {
                () = drive => {}
                // tokio-postgres says goodbye after the last answer, which a lost server never gives.
                () = async { let _ = ended.await; sleep(END).await } => {}
            }
        });
        let mut session = Self {
            client,
            driver,
            _in_use: in_use,
            end_reason,
            dbname: settings.dbname().to_owned(),
            has_extension: true,
            plans: OnceLock::new(),
        };
        session.refuse_foreign_schema(settings.login_timeout()).await?;
        Ok(session)
    }

    /// Protects a superuser from calling functions of another role: the owner of a database without the
    /// extension can create a schema of its name at any moment.
    async fn refuse_foreign_schema(&mut self, limit: Option<Duration>) -> Result<(), Error> {
        let found = self.rows(READ_PINNED, FOR_SUPERUSER, &[]);
        let found = within(limit, found).await??;
        let Some(row) = found.first() else { return Ok(()) };
        if let Some(owner) = column(row, 1)? {
            return Err(Error::ForeignSchema { database: self.dbname.clone(), owner });
        }
        self.has_extension = column(row, 0)?;
        Ok(())
    }

    /// Refuses a superuser's call in a database without the extension.
    fn require_extension(&self) -> Result<(), Error> {
        if self.has_extension {
            return Ok(());
        }
        Err(Error::ExtensionMissing {
            database: self.dbname.clone(),
            message: "there is no extension integration_credentials that a superuser owns".to_owned(),
        })
    }

    /// No pooler gives the session another backend between two transactions: from now on, the server may keep settings
    /// and plans.
    pub async fn keep_plans(&self) -> Result<(), Error> {
        self.script(SESSION).await?;
        // Set already: all the same.
        let _ = self.plans.set(Mutex::default());
        Ok(())
    }

    /// A statement that is parsed and planned once, where the server may keep plans. For parameters that are no secret:
    /// tokio-postgres may log them.
    pub async fn planned(&self, text: &'static str, types: &[Type]) -> Result<Sql, Error> {
        let Some(plans) = self.plans.get() else { return Ok(text.into()) };
        let kept = || plans.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept().get(text).cloned();
        let planned = if let Some(planned) = known {
            planned
        } else {
            self.require_extension()?;
            let planned = self.client.prepare_typed(text, types).await;
            let planned = planned.map_err(|error| self.to_error(&error))?;
            kept().insert(text, planned.clone());
            planned
        };
        Ok(Sql { text, planned: Some(planned) })
    }

    /// Runs a query. tokio-postgres does not log the parameters of a text: their types are given, so the statement is
    /// not prepared.
    pub async fn rows(
        &self,
        kind: TransactionKind,
        sql: impl Into<Sql>,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        let sql = sql.into();
        if names_extension(sql.text) {
            self.require_extension()?;
        }
        transaction::query(&self.client, kind, &sql, parameters).await.map_err(|error| self.to_error(&error))
    }

    /// As [`Self::rows`], without the retry of a transaction that Postgres rolled back.
    pub async fn rows_once(
        &self,
        kind: TransactionKind,
        sql: impl Into<Sql>,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        let sql = sql.into();
        if names_extension(sql.text) {
            self.require_extension()?;
        }
        transaction::query_once(&self.client, kind, &sql, parameters)
            .await
            .map_err(|error| self.to_error(&error))
    }

    /// Runs a query that returns one row.
    pub async fn row(
        &self,
        kind: TransactionKind,
        sql: &'static str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Row, Error> {
        let mut rows = self.rows(kind, sql, parameters).await?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(Error::Unexpected("a query did not return exactly one row".to_owned())),
        }
    }

    /// Begins a transaction that reads one state of the database, for [`Self::rows_within`].
    pub async fn begin_snapshot(&self) -> Result<(), Error> {
        self.require_extension()?;
        self.script(SNAPSHOT).await
    }

    /// Runs a query within the transaction that is open.
    pub async fn rows_within(
        &self,
        sql: &'static str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        self.client.query_typed(sql, parameters).await.map_err(|error| self.to_error(&error))
    }

    /// Ends the transaction of [`Self::begin_snapshot`].
    pub async fn end_snapshot(&self) -> Result<(), Error> {
        self.script("COMMIT").await
    }

    /// Runs a statement once for each of `calls`, all in one transaction; each run returns one row.
    /// `on_row` gets the number of rows so far. An error has the index of the call that failed, unless the
    /// transaction as a whole did.
    pub async fn each_row<const N: usize>(
        &self,
        kind: TransactionKind,
        sql: &'static str,
        calls: &[[Argument<'_>; N]],
        on_row: impl FnMut(usize),
    ) -> Result<Vec<Row>, (Option<usize>, Error)> {
        self.require_extension().map_err(|error| (None, error))?;
        transaction::each_row(&self.client, kind, sql, calls, on_row)
            .await
            .map_err(|(index, error)| (index, self.to_error(&error)))
    }

    /// Runs statements without parameters, all in one transaction.
    pub async fn batch(&self, kind: TransactionKind, sql: &str) -> Result<(), Error> {
        transaction::batch(&self.client, kind, sql).await.map_err(|error| self.to_error(&error))
    }

    /// Runs a script with transactions of its own.
    pub async fn script(&self, sql: &str) -> Result<(), Error> {
        self.client.batch_execute(sql).await.map_err(|error| self.to_error(&error))
    }

    /// Calls a procedure with transactions of its own, which returns one row.
    pub async fn procedure(
        &self,
        sql: &'static str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Row, Error> {
        self.require_extension()?;
        let rows = self.client.query_typed(sql, parameters).await.map_err(|error| self.to_error(&error))?;
        rows.into_iter()
            .next()
            .ok_or_else(|| Error::Unexpected("a procedure did not return its row".to_owned()))
    }

    pub fn cancel_token(&self) -> CancelToken {
        self.client.cancel_token()
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Why the connection ended.
    pub fn lost(&self) -> Error {
        let reason = self.end_reason.get().map_or("connection closed", String::as_str);
        Error::Disconnected { reason: reason.to_owned() }
    }

    /// Closes the connection, and waits for at most a second. So does dropping the session, without waiting.
    pub async fn close(self) {
        let Self { client, driver, _in_use: in_use, .. } = self;
        drop((client, in_use));
        // Fails only while the runtime shuts down.
        let _ = driver.await;
    }

    /// Drops the connection without waiting.
    pub fn abort(&self) {
        self.driver.abort();
    }

    fn to_error(&self, error: &tokio_postgres::Error) -> Error {
        if error.is_closed() { self.lost() } else { Error::of_call(error, &self.dbname) }
    }
}

/// Whether a statement names an object in the extension's schema. A setting of the extension has a quote
/// before its name.
fn names_extension(sql: &str) -> bool {
    sql.match_indices("integration_credentials.").any(|(at, _)| !sql[..at].ends_with('\''))
}

/// A column of a row; the error names a column of an unexpected type.
pub(crate) fn column<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    index: usize,
) -> Result<T, Error> {
    row.try_get(index).map_err(|_| {
        let name = row.columns().get(index).map_or("?", tokio_postgres::Column::name);
        Error::Unexpected(format!("the column {name} has another type"))
    })
}

fn check_version(version: &str) -> Result<(), Error> {
    let major = version.split(|next: char| !next.is_ascii_digit()).next().unwrap_or_default();
    match major.parse::<u32>() {
        Ok(major) if major < OLDEST_SERVER => Err(Error::ServerTooOld { version: version.to_owned() }),
        // A pooler need not report a version; then the first call fails.
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_recognised() {
        for version in ["14.12 (Debian 14.12-1)", "9.6.24"] {
            assert!(check_version(version).is_err());
        }
        for version in ["15.20 (Debian 15.20-0+deb12u1)", "18beta1", "19devel", ""] {
            assert!(check_version(version).is_ok());
        }
    }
}
