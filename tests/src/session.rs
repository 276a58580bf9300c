//! A connection, with the notices and notifications it received.

use std::{
    future::poll_fn,
    ops::{Deref, DerefMut},
    time::Duration,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};
use tokio_postgres::{AsyncMessage, Client, NoTls, Notification, error::DbError};

/// Longer than a notification ever takes on a busy machine. Postgres 15 may take a minute to start the notifier
/// again.
const PATIENCE: Duration = Duration::from_mins(2);

/// A client, with the notices and notifications of the server.
pub struct Session {
    client: Client,
    notices: UnboundedReceiver<DbError>,
    notifications: UnboundedReceiver<Notification>,
}

impl Session {
    /// Connects.
    pub async fn open(dsn: &str) -> Self {
        let (client, mut connection) = tokio_postgres::connect(dsn, NoTls)
            .await
            .unwrap_or_else(|error| panic!("cannot connect with {dsn}: {error:?}"));
        let (notice, notices) = unbounded_channel();
        let (notification, notifications) = unbounded_channel();
        tokio::spawn(async move {
            // Ends with the connection; the client reports an error. A receiver is dropped with its session.
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    AsyncMessage::Notice(it) => drop(notice.send(it)),
                    AsyncMessage::Notification(it) => drop(notification.send(it)),
                    _ => {}
                }
            }
        });
        Self { client, notices, notifications }
    }

    /// The process that serves it.
    pub async fn pid(&self) -> i32 {
        self.query_one("SELECT pg_backend_pid()", &[]).await.expect("the session is still there").get(0)
    }

    /// The notices since the last call. A statement's own are there when it has returned.
    pub fn notices(&mut self) -> Vec<DbError> {
        received(&mut self.notices)
    }

    /// The notifications since the last call. What was committed before this session's last statement is
    /// among them.
    pub fn notifications(&mut self) -> Vec<Notification> {
        received(&mut self.notifications)
    }

    /// Waits for a notification.
    pub async fn next_notification(&mut self) -> Notification {
        let next = timeout(PATIENCE, self.notifications.recv()).await.expect("no notification came");
        next.expect("the connection ended")
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

fn received<T>(channel: &mut UnboundedReceiver<T>) -> Vec<T> {
    std::iter::from_fn(|| channel.try_recv().ok()).collect()
}
