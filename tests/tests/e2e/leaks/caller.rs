//! A session that makes a call, step by step, and keeps what it hears.

use super::{call::Call, ways::Step};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, TryStreamExt};
use intcred::{Client, Secret, Settings};
use serde_json::Value;
use std::pin::pin;
use tests::{Database, Session, Wire};
use tokio_postgres::{
    Row, SimpleQueryMessage, Statement,
    error::{DbError, ErrorPosition},
    types::{Format, IsNull, ToSql, Type, to_sql_checked},
};

/// A session, or two: the library opens its own, and so does who is to replicate.
pub struct Caller {
    database: Database,
    role: String,
    session: Session,
    library: Option<Client>,
    replication: Option<Wire>,
    /// What was prepared stays so.
    statement: Option<Statement>,
    /// Every part of every notice and error.
    pub messages: String,
    /// What the statements returned.
    pub rows: String,
}

/// Why a call did not succeed.
#[derive(Debug)]
pub enum Failed {
    /// An error with this SQLSTATE.
    Refused(String),
    /// The connection broke.
    Lost,
}

impl Caller {
    pub async fn new(database: &Database, role: &str) -> Self {
        Self {
            database: database.clone(),
            role: role.to_owned(),
            session: database.connect(role).await,
            library: None,
            replication: None,
            statement: None,
            messages: String::new(),
            rows: String::new(),
        }
    }

    /// Takes a step.
    pub async fn take(&mut self, step: Step, call: &Call<'_>) -> Result<(), Failed> {
        let taken = match step {
            Step::LibrarySet | Step::LibrarySetPlain => self.by_library(step, call).await,
            Step::Replication(sql) => self.by_replication(&sql).await,
            step => self.by_driver(step).await,
        };
        self.messages.extend(self.session.notices().iter().map(parts));
        match taken {
            Ok(rows) => self.rows += &rows,
            Err((failed, message)) => {
                self.messages += &message;
                return Err(failed);
            }
        }
        Ok(())
    }

    async fn by_driver(&mut self, step: Step) -> Result<String, (Failed, String)> {
        let session = &self.session;
        let rows = match step {
            Step::Simple(sql) => session.simple_query(&sql).await.map(|rows| simple(&rows)),
            Step::Parse(sql) => match session.prepare(&sql).await {
                Ok(statement) => {
                    self.statement = Some(statement);
                    Ok(String::new())
                }
                Err(error) => Err(error),
            },
            Step::Execute => {
                let statement = self.statement.as_ref().expect("a statement was parsed");
                session.query(statement, &[]).await.map(|rows| json(&rows))
            }
            Step::Query(sql) => session.query_typed(&sql, &[]).await.map(|rows| json(&rows)),
            Step::CopyOut(sql) => match session.copy_out(&sql).await {
                Ok(stream) => stream
                    .try_collect::<Vec<_>>()
                    .await
                    .map(|chunks| String::from_utf8_lossy(&chunks.concat()).into_owned()),
                Err(error) => Err(error),
            },
            Step::CopyIn { sql, rows } => match session.copy_in(&sql).await {
                Ok(sink) => {
                    let mut sink = pin!(sink);
                    match sink.send(Bytes::from(rows)).await {
                        Ok(()) => sink.finish().await.map(|_| String::new()),
                        Err(error) => Err(error),
                    }
                }
                Err(error) => Err(error),
            },
            Step::ByName(sql) => {
                let name = "SELECT name FROM pg_prepared_statements WHERE NOT from_sql";
                match session.simple_query(name).await {
                    Ok(rows) => session.simple_query(&sql.replace("{name}", simple(&rows).trim())).await,
                    error => error,
                }
                .map(|rows| simple(&rows))
            }
            Step::Bind { sql, value, format, r#type } => {
                let parameter = Parameter(&value, format);
                session.query_typed(&sql, &[(&parameter, r#type)]).await.map(|rows| json(&rows))
            }
            Step::Try(sql) => {
                Ok(session.simple_query(sql).await.map(|rows| simple(&rows)).unwrap_or_default())
            }
            Step::LibrarySet | Step::LibrarySetPlain | Step::Replication(_) => {
                unreachable!("not the driver's")
            }
        };
        rows.map_err(|error| {
            let failed = error.code().map_or(Failed::Lost, |code| Failed::Refused(code.code().to_owned()));
            (failed, format!("{error:?}\n{}", error.as_db_error().map(parts).unwrap_or_default()))
        })
    }

    async fn by_replication(&mut self, sql: &str) -> Result<String, (Failed, String)> {
        if self.replication.is_none() {
            let parameters = [("replication", "database")];
            self.replication = Some(Wire::open(&self.database, &self.role, &parameters).await);
        }
        let answer = self.replication.as_mut().expect("it is open").query(sql).await;
        match answer.sqlstate {
            Some(sqlstate) => Err((Failed::Refused(sqlstate), answer.messages)),
            None if answer.is_lost => Err((Failed::Lost, answer.messages)),
            None => {
                self.messages += &answer.messages;
                Ok(String::from_utf8_lossy(&answer.rows).into_owned())
            }
        }
    }

    async fn by_library(&mut self, step: Step, call: &Call<'_>) -> Result<String, (Failed, String)> {
        let settings = Settings::resolve(Some(&self.database.dsn(&self.role))).unwrap();
        let client = loop {
            match Client::connect(&settings, |_| ()).await {
                // The time limit is for the call; on a busy machine, a query of the connection may meet it.
                Err(intcred::Error::Database { sqlstate, .. }) if sqlstate == "57014" => {}
                connected => break connected.unwrap(),
            }
        };
        let client = self.library.insert(client);
        let secret = Secret::new(call.value.to_owned());
        let receipt = match step {
            Step::LibrarySet => client.set(call.key, &secret, "actor").await,
            _ => client.set_plain(call.key, &secret, "actor").await,
        };
        receipt.map(|receipt| format!("{receipt:?} {secret:?}")).map_err(|error| {
            let failed = match &error {
                intcred::Error::Refused { code, .. } => Failed::Refused(code.sqlstate().to_owned()),
                intcred::Error::Database { sqlstate, .. } => Failed::Refused(sqlstate.clone()),
                _ => Failed::Lost,
            };
            (failed, format!("{error:?} {error} {:?} {secret:?}", error.hint()))
        })
    }

    /// What this session, and no other, is shown of itself.
    pub async fn own_views(&mut self) -> String {
        const VIEWS: &str = "SELECT 'pg_prepared_statements ' || v FROM pg_prepared_statements v
            UNION ALL SELECT 'pg_cursors ' || v FROM pg_cursors v
            UNION ALL SELECT 'pg_backend_memory_contexts ' || v FROM pg_backend_memory_contexts v";
        let mut rows = self.session.simple_query(VIEWS).await;
        if rows.as_ref().is_err_and(tokio_postgres::Error::is_closed) {
            return String::new();
        }
        if rows.is_err() {
            // The transaction of a cursor that failed.
            self.session.batch_execute("ROLLBACK").await.unwrap();
            rows = self.session.simple_query(VIEWS).await;
        }
        simple(&rows.unwrap())
    }
}

/// All that an error or a notice says. (`Debug` has it too, and escapes it, which takes a third of the test's time.)
fn parts(error: &DbError) -> String {
    let query = error.position().and_then(|position| match position {
        ErrorPosition::Internal { query, .. } => Some(query.as_str()),
        ErrorPosition::Original(_) => None,
    });
    let parts = [
        Some(error.message()),
        error.detail(),
        error.hint(),
        error.where_(),
        query,
        error.column(),
        error.constraint(),
    ];
    parts.into_iter().flatten().flat_map(|part| [part, "\n"]).collect()
}

fn simple(answer: &[SimpleQueryMessage]) -> String {
    let rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.flat_map(|row| (0..row.len()).map(|column| format!("{}\n", row.get(column).unwrap_or_default())))
        .collect()
}

fn json(rows: &[Row]) -> String {
    rows.iter().map(|row| row.get::<_, Value>(0).to_string()).collect::<Vec<_>>().join("\n")
}

/// Bytes that are sent as they are, whatever the type.
#[derive(Debug)]
struct Parameter<'a>(&'a [u8], Format);

impl ToSql for Parameter<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        match self.1 {
            Format::Text => Format::Text,
            Format::Binary => Format::Binary,
        }
    }

    to_sql_checked!();
}
