//! The connections that credentials are fetched over: one connection, or a pool.

use super::{own::Own, store::Fetched};
use crate::{Error, Settings, deadline::within, session::column, transaction::READ};
#[cfg(feature = "pool")]
use crate::{settings::LONGEST_LOGIN, transaction};
#[cfg(feature = "pool")]
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
#[cfg(feature = "pool")]
use tokio::sync::Semaphore;
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
    /// Concurrent fetches share the session, pipelined.
    Own(Box<Own>),
    #[cfg(feature = "pool")]
    Pool {
        pool: deadpool_postgres::Pool,
        dbname: String,
        /// One for each connection of the pool. Taken while a task waits for a connection that no fetch waits for.
        left: Arc<Semaphore>,
    },
}

impl Source {
    pub fn own(settings: Settings, limit: Duration, runtime: Handle) -> Self {
        Self { connections: Connections::Own(Box::new(Own::new(settings, limit, runtime))), limit }
    }

    #[cfg(feature = "pool")]
    pub fn pool(pool: deadpool_postgres::Pool, dbname: &str, limit: Duration) -> Self {
        let left = Arc::new(Semaphore::new(pool.status().max_size));
        Self { connections: Connections::Pool { pool, dbname: dbname.to_owned(), left }, limit }
    }

    /// Closes the own connection. A pool replaces broken connections itself.
    pub fn reconnect(&self) {
        match &self.connections {
            Connections::Own(own) => own.close(),
            #[cfg(feature = "pool")]
            Connections::Pool { .. } => {}
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

    async fn rows(
        &self,
        sql: &'static str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        match &self.connections {
            Connections::Own(own) => {
                let session = own.session().await?;
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
            Connections::Pool { pool, dbname, left } => {
                let lost = |reason: &str| Error::Disconnected { reason: reason.to_owned() };
                let pool = pool.clone();
                let mut getting = Box::pin(async move { pool.get().await });
                let client = match within(self.limit, &mut getting).await {
                    Ok(client) => client,
                    Err(late) => {
                        // The pool may be logging in; as in `own`, the login goes on. A server that has accepted
                        // the connection may be silent for good.
                        if let Ok(left) = left.clone().try_acquire_owned() {
                            tokio::spawn(async move { drop((within(LONGEST_LOGIN, getting).await, left)) });
                        }
                        return Err(lost(&format!("the pool: {late}")));
                    }
                };
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

#[cfg(all(test, feature = "pool"))]
mod tests {
    use super::*;
    use deadpool_postgres::{Manager, Pool};
    use std::{iter, net::TcpListener};
    use tokio::time::sleep;
    use tokio_postgres::NoTls;

    #[tokio::test(start_paused = true)]
    async fn slot_of_a_pool_is_free_again_when_its_login_is_never_answered() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        silent.set_nonblocking(true).unwrap();
        let mut logins = Vec::new();
        // The clock of the runtime is ahead of the kernel, which may still be at it.
        let mut accepted = |expected: usize| {
            for _ in 0..10_000 {
                logins.extend(iter::from_fn(|| silent.accept().ok()));
                if logins.len() >= expected {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            logins.len()
        };
        let dsn = format!("host=127.0.0.1 port={} user=u", silent.local_addr().unwrap().port());
        let pool = Pool::builder(Manager::new(dsn.parse().unwrap(), NoTls)).max_size(1).build().unwrap();
        let source = Source::pool(pool, "u", Duration::from_secs(5));
        for _ in 0..2 {
            let error = source.fetch("k").await.err().unwrap().to_string();
            assert!(error.contains("the pool: no answer within 5 s"), "{error}");
            assert_eq!(accepted(1), 1, "the login goes on");
        }
        sleep(LONGEST_LOGIN).await;
        drop(source.fetch("k").await);
        assert_eq!(accepted(2), 2);
    }
}
