//! The connection to the primary that reports go over: the watcher's, or one of their own where the watcher
//! polls a standby or cannot follow.

use crate::{Error, Settings, session::Session, settings::SessionAttrs};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::watch;

/// How the watcher reaches the database.
#[derive(Clone, Default)]
pub(crate) enum Access {
    /// By this session, to the primary.
    Listening(Arc<Session>),
    /// By a session to a standby.
    Polling,
    /// By none, since this error: the watcher opens another session.
    Reconnecting(Error),
    /// By none, although the server answers; or by none, after a session to a standby.
    #[default]
    Disconnected,
}

impl Access {
    /// The watcher has lost its session.
    pub fn lose(&mut self, lost: &Error) {
        *self = match self {
            Self::Listening(_) => Self::Reconnecting(lost.clone()),
            _ => Self::Disconnected,
        };
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listening(_) => "Listening",
            Self::Polling => "Polling",
            Self::Reconnecting(_) => "Reconnecting",
            Self::Disconnected => "Disconnected",
        })
    }
}

pub(crate) struct Primary {
    watcher: watch::Receiver<Access>,
    /// For a connection of its own: the same servers, of which one must be the primary.
    settings: Settings,
    own: Option<Arc<Session>>,
}

impl Primary {
    pub fn new(mut settings: Settings, watcher: watch::Receiver<Access>, limit: Duration) -> Self {
        settings.session_attrs = SessionAttrs::ReadWrite;
        settings.connect_timeout.get_or_insert(limit);
        Self { watcher, settings, own: None }
    }

    pub async fn session(&mut self) -> Result<Arc<Session>, Error> {
        loop {
            let access = self.watcher.borrow_and_update().clone();
            match access {
                Access::Listening(session) => {
                    self.own = None;
                    // Closed: the watcher is about to find out.
                    return if session.is_closed() { Err(session.lost()) } else { Ok(session) };
                }
                // A second login for each client doubles the work of a server that has restarted.
                Access::Reconnecting(lost) => return Err(lost),
                Access::Polling | Access::Disconnected => {}
            }
            if let Some(session) = self.own.as_ref().filter(|session| !session.is_closed()) {
                return Ok(session.clone());
            }
            let opened = tokio::select! {
                opened = Session::open(&self.settings, drop) => opened,
                () = changed(&mut self.watcher) => continue,
            };
            self.settings.count_attempt(opened.is_ok());
            return Ok(self.own.insert(Arc::new(opened?)).clone());
        }
    }

    /// Waits until the watcher has another session, or will have none.
    pub async fn changed(&mut self) {
        changed(&mut self.watcher).await;
    }

    /// Whether the settings name no primary: their only server is a standby.
    pub fn is_unreachable(&self) -> bool {
        self.settings.targets.len() == 1 && matches!(*self.watcher.borrow(), Access::Polling)
    }
}

async fn changed(watcher: &mut watch::Receiver<Access>) {
    loop {
        if watcher.changed().await.is_err() {
            // The watcher has ended.
            std::future::pending::<()>().await;
        }
        if !matches!(*watcher.borrow_and_update(), Access::Reconnecting(_)) {
            return;
        }
    }
}
