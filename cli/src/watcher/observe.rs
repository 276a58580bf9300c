//! A session that listens for hints, or polls, and reads the list.

use super::{
    Mode,
    dirty_keys::{Hints, Scope, hints},
    options::WatchOptions,
    pooler,
    snapshot::{KeyState, Look},
};
use crate::{
    Error, Settings,
    catalog::Integration,
    deadline::within,
    session::{Session, column},
    transaction::READ,
};
use integration_credentials_core::event::CHANNEL;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_postgres::{AsyncMessage, Row, types::Type};

/// Any role may send notifications, and as many as it likes. So there is a pause after each look, and before the whole
/// list is looked at again one of so many times as long as that took.
const REST: Duration = Duration::from_millis(10);
const RESTS_PER_LIST: u32 = 4;
/// Postgres' SQLSTATE for LISTEN on a standby.
const READ_ONLY: &str = "25006";

pub(super) struct Observer {
    session: Session,
    hints: Hints,
    options: WatchOptions,
    mode: Mode,
    org: Option<Arc<str>>,
    /// When the next look may be, and the next at the whole list.
    rested: Instant,
    rested_for_all: Instant,
    /// When the whole list is to be looked at, whatever the hints say.
    due: Instant,
}

impl Observer {
    /// Connects, listens, and reads the list, in this order: what is read after LISTEN can be followed without a gap.
    pub async fn start(settings: &Settings, options: WatchOptions) -> Result<(Self, Look), Error> {
        let (notebook, hints) = hints();
        let (arrival, mut probes) = mpsc::channel(1);
        let session = Session::open(settings, move |message| match message {
            AsyncMessage::Notification(hint) if hint.channel() == CHANNEL => notebook.note(hint.payload()),
            // The one other channel that is listened to. A second one says no more than the first.
            AsyncMessage::Notification(_) => {
                let _ = arrival.try_send(());
            }
            _ => {}
        })
        .await?;
        let now = Instant::now();
        let mut observer = Self {
            session,
            hints,
            options,
            mode: Mode::Listening,
            org: None,
            rested: now,
            rested_for_all: now,
            due: now,
        };
        match observer.begin(settings, &mut probes).await {
            Ok(look) => Ok((observer, look)),
            Err(error) => {
                // It may wait for an answer that never comes.
                observer.abort();
                Err(error)
            }
        }
    }

    async fn begin(&mut self, settings: &Settings, probes: &mut mpsc::Receiver<()>) -> Result<Look, Error> {
        let limit = self.options.timeout;
        match within(limit, self.session.batch(READ, &format!("LISTEN {CHANNEL}"))).await? {
            Err(Error::Database { sqlstate, .. }) if sqlstate == READ_ONLY => self.mode = Mode::Polling,
            listening => listening?,
        }
        let is_pooled = within(limit, pooler::is_between(&self.session)).await??;
        if is_pooled && self.mode == Mode::Listening {
            pooler::check(settings, &self.session, probes, limit).await?;
        }
        // Else the next transaction may be on another's session, and this one somebody else's.
        if !is_pooled || self.mode == Mode::Listening {
            self.settle().await?;
        }
        self.look(Scope::Whole).await
    }

    /// Says how long the session may take, whatever its role or the database say: it idles for as long as nobody rotates,
    /// and nobody waits longer for an answer than the watcher does.
    async fn settle(&self) -> Result<(), Error> {
        let limit = self.options.timeout;
        // As much as Postgres takes; 0 would be without end.
        let milliseconds = limit.as_millis().clamp(1, i32::MAX.unsigned_abs().into());
        let settings = format!(
            "SET idle_session_timeout = 0; SET lock_timeout = 0; SET statement_timeout = {milliseconds}; \
             SET idle_in_transaction_session_timeout = {milliseconds}"
        );
        within(limit, self.session.batch(READ, &settings)).await?
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Looks once there is a hint, or when it is time to look without one.
    pub async fn next_look(&mut self) -> Result<Look, Error> {
        let scope = match timeout_at(self.due, self.hints.wait()).await {
            Ok(false) => return Err(self.session.lost()),
            Ok(true) if Instant::now() < self.due => {
                sleep_until(self.rested).await;
                let scope = self.hints.take();
                if scope == Scope::Whole {
                    sleep_until(self.rested_for_all).await;
                }
                scope
            }
            Ok(true) | Err(_) => Scope::Whole,
        };
        let look = self.look(scope).await?;
        if self.mode == Mode::Polling && !look.is_standby {
            return Err(Error::Disconnected {
                reason: "the standby was promoted: it can be listened to".into(),
            });
        }
        Ok(look)
    }

    async fn look(&mut self, scope: Scope) -> Result<Look, Error> {
        let began = Instant::now();
        let mut look = self.read(scope).await?;
        // The rest of what is known is then of another org.
        if look.scope != Scope::Whole && self.org.as_ref() != Some(&look.org) {
            look = self.read(Scope::Whole).await?;
        }
        let now = Instant::now();
        self.rested = now + REST;
        if look.scope == Scope::Whole {
            self.rested_for_all = now + began.elapsed() * RESTS_PER_LIST;
            self.due = now
                + match self.mode {
                    Mode::Listening => self.options.heartbeat,
                    Mode::Polling => self.options.poll,
                };
        }
        self.org = Some(look.org.clone());
        self.hints.only_of(look.org.clone());
        Ok(look)
    }

    async fn read(&self, scope: Scope) -> Result<Look, Error> {
        // One row at least, so that the org is known even where no key is.
        let rows = match &scope {
            Scope::Whole => {
                let sql = "SELECT l.*, o.org, pg_catalog.pg_is_in_recovery() \
                           FROM integration_credentials.current_org() AS o (org) \
                           LEFT JOIN integration_credentials.list_integrations() AS l ON true";
                within(self.options.timeout, self.session.rows(READ, sql, &[])).await??
            }
            Scope::Keys(keys) => {
                let keys: Vec<_> = keys.iter().collect();
                let sql = "SELECT l.*, o.org, pg_catalog.pg_is_in_recovery() \
                           FROM integration_credentials.current_org() AS o (org) \
                           LEFT JOIN integration_credentials.list_integrations($1) AS l ON true";
                within(self.options.timeout, self.session.rows(READ, sql, &[(&keys, Type::TEXT_ARRAY)]))
                    .await??
            }
        };
        let first = rows.first().ok_or_else(|| Error::Unexpected("no org".to_owned()))?;
        let org: &str = column(first, Integration::COLUMNS)?;
        let is_standby = column(first, Integration::COLUMNS + 1)?;
        Ok(Look { org: org.into(), scope, states: states(&rows)?, is_standby })
    }

    pub async fn close(self) {
        self.session.close().await;
    }

    pub fn abort(&self) {
        self.session.abort();
    }
}

fn states(rows: &[Row]) -> Result<BTreeMap<Arc<str>, KeyState>, Error> {
    let mut states = BTreeMap::new();
    for row in rows {
        if column::<Option<&str>>(row, 0)?.is_some() {
            let Integration { key, is_enabled, has_credentials, revision, updated_at, .. } =
                Integration::from_row(row, 0)?;
            states.insert(key.into(), KeyState { revision, has_credentials, is_enabled, updated_at });
        }
    }
    Ok(states)
}
