//! The connections that credentials are fetched over: one connection, or a pool.

use super::store::Fetched;
#[cfg(feature = "pool")]
use crate::transaction;
use crate::{
    Error, Settings,
    deadline::within,
    session::{Session, column},
    transaction::READ,
    watcher::pooler,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::Mutex;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

pub(super) struct Source {
    connections: Connections,
    /// For the connection, and then again for the answer.
    limit: Duration,
}

enum Connections {
    /// Opened by the first fetch, and again after it broke. Concurrent fetches share the session, pipelined.
    Own { settings: Box<Settings>, session: Mutex<Option<Arc<Session>>> },
    #[cfg(feature = "pool")]
    Pool { pool: deadpool_postgres::Pool, dbname: String },
}

impl Source {
    pub fn own(mut settings: Settings, limit: Duration) -> Self {
        settings.connect_timeout.get_or_insert(limit);
        Self {
            connections: Connections::Own { settings: Box::new(settings), session: Mutex::default() },
            limit,
        }
    }

    #[cfg(feature = "pool")]
    pub fn pool(pool: deadpool_postgres::Pool, dbname: &str, limit: Duration) -> Self {
        Self { connections: Connections::Pool { pool, dbname: dbname.to_owned() }, limit }
    }

    /// Closes the own connection. A pool replaces broken connections itself.
    pub fn reconnect(&self) {
        // A fetch that holds the lock is connecting already.
        if let Connections::Own { session, .. } = &self.connections
            && let Ok(mut session) = session.try_lock()
            && let Some(session) = session.take()
        {
            session.abort();
        }
    }

    /// One credential.
    pub async fn fetch(&self, key: &str) -> Result<Fetched, Error> {
        let sql = "SELECT g.value, g.revision, g.\"updatedAt\", \
                   (SELECT integration_credentials.current_org()), $1 \
                   FROM integration_credentials.get_integration_credentials_with_revision($1) AS g";
        let rows = self.rows(sql, &[(&key, Type::TEXT)]).await?;
        rows.first().ok_or_else(|| Error::Unexpected("no row".to_owned())).and_then(fetched)
    }

    /// All credentials that can be read. For the others, [`Self::fetch`] returns the error.
    pub async fn fetch_all(&self) -> Result<Vec<Fetched>, Error> {
        let sql = "SELECT a.value, a.revision, a.\"updatedAt\", \
                   (SELECT integration_credentials.current_org()), a.key \
                   FROM integration_credentials.get_all_integration_credentials() AS a \
                   WHERE a.value IS NOT NULL";
        self.rows(sql, &[]).await?.iter().map(fetched).collect()
    }

    async fn open(&self, settings: &Settings) -> Result<Arc<Session>, Error> {
        let session = Session::open(settings, drop).await?;
        let prepared = async {
            if !pooler::is_between(&session).await? {
                session.keep_plans().await?;
            }
            Ok(())
        };
        match within(self.limit, prepared).await.unwrap_or_else(|late| Err(late.into())) {
            Ok(()) => Ok(Arc::new(session)),
            Err(error) => {
                // Not closed: the session may wait for an answer that never comes.
                session.abort();
                Err(error)
            }
        }
    }

    async fn rows(
        &self,
        sql: &'static str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        match &self.connections {
            Connections::Own { settings, session } => {
                let session = {
                    let mut shared = session.lock().await;
                    match shared.as_ref().filter(|session| !session.is_closed()) {
                        Some(session) => session.clone(),
                        None => shared.insert(self.open(settings).await?).clone(),
                    }
                };
                let types: Vec<_> = parameters.iter().map(|(_, of_type)| of_type.clone()).collect();
                let rows = async {
                    let sql = session.planned(sql, &types).await?;
                    session.rows(READ, sql, parameters).await
                };
                within(self.limit, rows).await.unwrap_or_else(|late| {
                    // The session may be dead, and the next fetch must not wait for it too.
                    session.abort();
                    Err(late.into())
                })
            }
            #[cfg(feature = "pool")]
            Connections::Pool { pool, dbname } => {
                let lost = |reason: &str| Error::Disconnected { reason: reason.to_owned() };
                let client = within(self.limit, pool.get()).await;
                let client = client.map_err(|late| lost(&format!("the pool: {late}")))?;
                let client = client.map_err(|error| match error {
                    deadpool_postgres::PoolError::Backend(error) => {
                        Error::of_login(&error, "the pool's server")
                    }
                    other => lost(&other.to_string()),
                })?;
                match within(self.limit, transaction::query(&client, READ, &sql.into(), parameters)).await {
                    Ok(rows) => rows.map_err(|error| Error::of_call(&error, dbname)),
                    Err(late) => {
                        // The connection may be dead, so it does not go back to the pool.
                        drop(deadpool_postgres::Object::take(client));
                        Err(late.into())
                    }
                }
            }
        }
    }
}

fn fetched(row: &Row) -> Result<Fetched, Error> {
    Ok(Fetched {
        value: column(row, 0)?,
        revision: column(row, 1)?,
        updated_at: column(row, 2)?,
        org: column(row, 3)?,
        key: column(row, 4)?,
    })
}
