//! The connection to the primary that reports go over: the watcher's, or one of their own while the watcher
//! has none, or polls a standby.

use crate::{Error, Settings, deadline::within, session::Session, settings::SessionAttrs};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::watch;

/// How the watcher reaches the database.
#[derive(Clone, Default)]
pub(crate) enum Access {
    /// By this session, to the primary.
    Listening(Arc<Session>),
    /// By a session to a standby.
    Polling,
    #[default]
    Disconnected,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listening(_) => "Listening",
            Self::Polling => "Polling",
            Self::Disconnected => "Disconnected",
        })
    }
}

pub(crate) struct Primary {
    watcher: watch::Receiver<Access>,
    /// For a connection of its own: the same servers, of which one must be the primary.
    settings: Settings,
    own: Option<Arc<Session>>,
    limit: Duration,
}

impl Primary {
    pub fn new(mut settings: Settings, watcher: watch::Receiver<Access>, limit: Duration) -> Self {
        settings.session_attrs = SessionAttrs::ReadWrite;
        settings.connect_timeout.get_or_insert(limit);
        Self { watcher, settings, own: None, limit }
    }

    pub async fn session(&mut self) -> Result<Arc<Session>, Error> {
        let access = self.watcher.borrow_and_update().clone();
        if let Access::Listening(session) = access
            && !session.is_closed()
        {
            self.own = None;
            return Ok(session);
        }
        if let Some(session) = self.own.as_ref().filter(|session| !session.is_closed()) {
            return Ok(session.clone());
        }
        let session = Arc::new(within(self.limit, Session::open(&self.settings, drop)).await??);
        Ok(self.own.insert(session).clone())
    }

    /// Waits until the watcher has another session.
    pub async fn changed(&mut self) {
        if self.watcher.changed().await.is_err() {
            // The watcher has ended.
            std::future::pending::<()>().await;
        }
    }

    /// Whether the settings name no primary: their only server is a standby.
    pub fn is_unreachable(&self) -> bool {
        self.settings.targets.len() == 1 && matches!(*self.watcher.borrow(), Access::Polling)
    }
}
