//! A connection, and the task that drives it.

use crate::{
    Error, Settings,
    connect::connect,
    deadline::within,
    error::OLDEST_SERVER,
    transaction::{self, Needs, READ_PINNED},
};
use std::{
    future::poll_fn,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::{
    AsyncMessage, CancelToken, Row,
    types::{ToSql, Type},
};

/// For a superuser: whether the database has the extension, and who owns something in its schema and is no superuser. Like
/// every statement of this crate it finds nothing by the `search_path`, which is the database owner's to set: names and
/// operators say their schema, parameters their type. What counts is the session's role: a role that the owner has set for
/// the database can be left by any function.
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

pub(crate) struct Session {
    client: tokio_postgres::Client,
    driver: JoinHandle<()>,
    /// Why the connection ended; calls in flight learn only that it did.
    lost: Arc<OnceLock<String>>,
    dbname: String,
    /// Whether our names mean our functions: for a superuser, who would run anything.
    may_call: bool,
}

impl Session {
    /// Connects to the first of the targets that answers. `on_message` gets notices and notifications, in the task
    /// that drives the connection, and is dropped when the connection ends.
    pub async fn open(
        settings: &Settings,
        mut on_message: impl FnMut(AsyncMessage) + Send + 'static,
    ) -> Result<Self, Error> {
        let (client, mut connection) = connect(settings).await?;
        check_version(connection.parameter("server_version").unwrap_or_default())?;
        let lost = Arc::new(OnceLock::new());
        let driver = tokio::spawn({
            let lost = lost.clone();
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
                            // Calls in flight fail when `connection` is dropped, so they find the reason in place.
                            return drop(lost.set(reason));
                        }
                    }
                }
            }
        });
        let mut session = Self { client, driver, lost, dbname: settings.dbname().to_owned(), may_call: true };
        session.refuse_foreign_schema(settings.connect_timeout).await?;
        Ok(session)
    }

    /// Goes no further where a superuser would run what somebody else calls by our names: the owner of a database that does
    /// not have the extension may make a schema of its name, at any moment.
    async fn refuse_foreign_schema(&mut self, limit: Option<Duration>) -> Result<(), Error> {
        let found = self.rows(READ_PINNED, FOR_SUPERUSER, &[]);
        let found = within(limit, found).await??;
        let Some(row) = found.first() else { return Ok(()) };
        if let Some(owner) = column(row, 1)? {
            return Err(Error::ForeignSchema { database: self.dbname.clone(), owner });
        }
        self.may_call = column(row, 0)?;
        Ok(())
    }

    /// Refuses a superuser's call where nothing of ours is there to be called.
    fn require_extension(&self) -> Result<(), Error> {
        if self.may_call {
            return Ok(());
        }
        Err(Error::ExtensionMissing {
            database: self.dbname.clone(),
            message: "no extension integration_credentials of a superuser's is there".to_owned(),
        })
    }

    /// Runs a query. Its text must be constant, for it may be logged; parameters never are, because their types are
    /// given and the statement need not be prepared.
    pub async fn rows(
        &self,
        needs: Needs,
        sql: &'static str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        if names_ours(sql) {
            self.require_extension()?;
        }
        transaction::query(&self.client, needs, sql, parameters).await.map_err(|error| self.explain(&error))
    }

    /// Runs a query that returns one row.
    pub async fn row(
        &self,
        needs: Needs,
        sql: &'static str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Row, Error> {
        let mut rows = self.rows(needs, sql, parameters).await?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(Error::Unexpected("not exactly one row".to_owned())),
        }
    }

    /// Runs statements without parameters, several of them in one transaction.
    pub async fn batch(&self, needs: Needs, sql: &str) -> Result<(), Error> {
        transaction::batch(&self.client, needs, sql).await.map_err(|error| self.explain(&error))
    }

    /// Runs a script that begins and ends its transactions itself.
    pub async fn script(&self, sql: &str) -> Result<(), Error> {
        self.client.batch_execute(sql).await.map_err(|error| self.explain(&error))
    }

    /// What a request to cancel is made of.
    pub fn cancel_token(&self) -> CancelToken {
        self.client.cancel_token()
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Why the connection ended.
    pub fn lost(&self) -> Error {
        let reason = self.lost.get().map_or("connection closed", String::as_str);
        Error::Disconnected { reason: reason.to_owned() }
    }

    /// Takes leave of the server.
    pub async fn close(self) {
        drop(self.client);
        // A server that is gone can't be said goodbye to.
        let _ = timeout(Duration::from_secs(1), self.driver).await;
    }

    /// Drops a connection that no longer answers.
    pub fn abort(&self) {
        self.driver.abort();
    }

    fn explain(&self, error: &tokio_postgres::Error) -> Error {
        if error.is_closed() { self.lost() } else { Error::of_call(error, &self.dbname) }
    }
}

/// Whether a statement names something in the extension's schema, and not only one of its settings, which stands in quotes.
fn names_ours(sql: &str) -> bool {
    sql.match_indices("integration_credentials.").any(|(at, _)| !sql[..at].ends_with('\''))
}

/// A column of a row; the error says which one is not as agreed.
pub(crate) fn column<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    index: usize,
) -> Result<T, Error> {
    row.try_get(index).map_err(|_| {
        let name = row.columns().get(index).map_or("?", tokio_postgres::Column::name);
        Error::Unexpected(format!("column {name} is not of the agreed type"))
    })
}

fn check_version(version: &str) -> Result<(), Error> {
    let major = version.split(|next: char| !next.is_ascii_digit()).next().unwrap_or_default();
    match major.parse::<u32>() {
        Ok(major) if major < OLDEST_SERVER => Err(Error::ServerTooOld { version: version.to_owned() }),
        // A pooler need not say its version; the first call will tell.
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
