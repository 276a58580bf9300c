//! A connection without a driver, for things that drivers do not offer: a replication session, or a name of a
//! megabyte.

use crate::Database;
use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::{
    IsNull,
    message::{
        backend::{ErrorFields, Message},
        frontend,
    },
};
use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

/// The connection.
pub struct Wire {
    stream: UnixStream,
    received: BytesMut,
    pid: i32,
}

/// The answer of the server to one request.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// All the fields of all errors and notices.
    pub messages: String,
    /// All the columns of all rows, as they are sent.
    pub rows: Vec<u8>,
    /// The SQLSTATE of the last error.
    pub sqlstate: Option<String>,
    /// Whether the connection ended.
    pub is_lost: bool,
}

/// A statement of the extended protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statement<'a> {
    /// The name under which it is prepared; empty for none.
    pub name: &'a str,
    /// Its text; None: it is prepared already.
    pub sql: Option<&'a str>,
    /// Its parameters, as text.
    pub parameters: &'a [&'a str],
}

impl Wire {
    /// Connects as `role`, with more parameters in the startup packet.
    pub async fn open(database: &Database, role: &str, parameters: &[(&str, &str)]) -> Self {
        let stream = UnixStream::connect(database.socket()).await.expect("the server listens");
        let mut wire = Self { stream, received: BytesMut::new(), pid: 0 };
        let usual = [("user", role), ("database", database.name()), ("client_encoding", "UTF8")];
        let all = usual.into_iter().chain(parameters.iter().copied());
        let answer = wire.ask(|message| frontend::startup_message(all, message)).await;
        assert!(wire.pid != 0, "cannot connect as {role}: {}", answer.messages);
        wire
    }

    /// The process of the server that answers.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Runs one or more statements by the simple protocol.
    pub async fn query(&mut self, sql: &str) -> Answer {
        self.ask(|message| frontend::query(sql, message)).await
    }

    /// Runs a statement by the extended protocol.
    pub async fn run(&mut self, statement: Statement<'_>) -> Answer {
        let Statement { name, sql, parameters } = statement;
        self.ask(|message| {
            if let Some(sql) = sql {
                frontend::parse(name, sql, [], message)?;
            }
            let write = |parameter: &&str, value: &mut BytesMut| {
                value.extend_from_slice(parameter.as_bytes());
                Ok(IsNull::No)
            };
            frontend::bind("", name, [], parameters, write, [], message)
                .map_err(|_| io::Error::other("the parameters are too long"))?;
            frontend::execute("", 0, message)?;
            frontend::sync(message);
            Ok(())
        })
        .await
    }

    /// Sends a request, and reads the whole answer.
    async fn ask(&mut self, write: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Answer {
        let mut message = BytesMut::new();
        write(&mut message).expect("a message that can be sent");
        let mut answer = Answer::default();
        // The server may have ended the session; its reason is still to be read.
        let sent = self.stream.write_all(&message).await;
        loop {
            match Message::parse(&mut self.received).expect("the server speaks the protocol") {
                None => {
                    let read = self.stream.read_buf(&mut self.received).await;
                    if read.is_err() || read.is_ok_and(|bytes| bytes == 0) {
                        answer.is_lost = true;
                        return answer;
                    }
                }
                Some(Message::ReadyForQuery(_)) => {
                    sent.expect("the server reads on");
                    return answer;
                }
                Some(Message::BackendKeyData(key)) => self.pid = key.process_id(),
                Some(Message::DataRow(row)) => answer.rows.extend_from_slice(row.buffer()),
                Some(Message::CopyData(data)) => answer.rows.extend_from_slice(data.data()),
                Some(Message::NoticeResponse(notice)) => drop(answer.hear(notice.fields())),
                Some(Message::ErrorResponse(error)) => answer.sqlstate = answer.hear(error.fields()),
                Some(_) => {}
            }
        }
    }
}

impl Answer {
    /// Collects the fields of a message, and returns its SQLSTATE.
    fn hear(&mut self, mut fields: ErrorFields<'_>) -> Option<String> {
        let mut sqlstate = None;
        while let Some(field) = fields.next().expect("the server speaks the protocol") {
            let text = String::from_utf8_lossy(field.value_bytes());
            if field.type_() == b'C' {
                sqlstate = Some(text.clone().into_owned());
            }
            self.messages += &text;
            self.messages.push('\n');
        }
        sqlstate
    }
}
