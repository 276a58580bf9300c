//! A session that listens, or polls, and reads the list.

use super::{
    Mode,
    dirty_keys::{DirtyKeys, Scope, channel},
    options::WatchOptions,
    pooler,
    snapshot::{KeyState, Listing},
};
use crate::{
    Error, Settings,
    catalog::Integration,
    deadline::within,
    lease::Access,
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

/// The pauses bound the load, because any role may send any number of notifications: one after each query,
/// and before the next query of the whole list so many times the duration of the last.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_FACTOR: u32 = 4;
/// Postgres' SQLSTATE for LISTEN on a standby.
const READ_ONLY: &str = "25006";

pub(super) struct Observer {
    session: Arc<Session>,
    dirty_keys: DirtyKeys,
    options: WatchOptions,
    mode: Mode,
    org: Option<Arc<str>>,
    /// The earliest time of the next query, and of the next query of the whole list.
    next_query: Instant,
    next_full_query: Instant,
    /// The time of the next heartbeat or poll.
    full_query_due: Instant,
}

impl Observer {
    /// Connects, listens, and reads the list, in this order, so that no change falls between the list and the
    /// first notification.
    pub async fn start(settings: &Settings, options: WatchOptions) -> Result<(Self, Listing), Error> {
        let (recorder, dirty_keys) = channel();
        let (probe_arrived, mut probes) = mpsc::channel(1);
        let session = Session::open(settings, move |message| match message {
            AsyncMessage::Notification(event) if event.channel() == CHANNEL => {
                recorder.record(event.payload());
            }
            // A probe of `pooler::check`; a second one adds nothing.
            AsyncMessage::Notification(_) => {
                let _ = probe_arrived.try_send(());
            }
            _ => {}
        })
        .await?;
        let now = Instant::now();
        let mut observer = Self {
            session: Arc::new(session),
            dirty_keys,
            options,
            mode: Mode::Listening,
            org: None,
            next_query: now,
            next_full_query: now,
            full_query_due: now,
        };
        match observer.begin(settings, &mut probes).await {
            Ok(listing) => Ok((observer, listing)),
            Err(error) => {
                // Not closed: the session may wait for an answer that never comes.
                observer.abort();
                Err(error)
            }
        }
    }

    async fn begin(
        &mut self,
        settings: &Settings,
        probes: &mut mpsc::Receiver<()>,
    ) -> Result<Listing, Error> {
        let limit = self.options.timeout;
        match within(limit, self.session.batch(READ, &format!("LISTEN {CHANNEL}"))).await? {
            Err(Error::Database { sqlstate, .. }) if sqlstate == READ_ONLY => self.mode = Mode::Polling,
            listening => listening?,
        }
        let is_pooled = within(limit, pooler::is_between(&self.session)).await??;
        if !is_pooled {
            within(limit, self.session.keep_plans()).await??;
        } else if self.mode == Mode::Listening {
            pooler::check(settings, &self.session, probes, limit).await?;
        }
        // Not while polling through a pooler: in transaction mode, the settings would apply to another client's
        // session.
        if !is_pooled || self.mode == Mode::Listening {
            self.set_timeouts().await?;
        }
        self.list(Scope::Whole).await
    }

    /// Overrides the timeouts of the role or the database: the session idles between rotations, and a
    /// statement may take as long as the watcher waits.
    async fn set_timeouts(&self) -> Result<(), Error> {
        let limit = self.options.timeout;
        // Within the range of the setting; 0 would mean no timeout.
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

    /// Waits for a notification, heartbeat or poll, and reads the keys that it concerns.
    pub async fn next_listing(&mut self) -> Result<Listing, Error> {
        let scope = match timeout_at(self.full_query_due, self.dirty_keys.wait()).await {
            Ok(false) => return Err(self.session.lost()),
            Ok(true) if Instant::now() < self.full_query_due => {
                sleep_until(self.next_query).await;
                let scope = self.dirty_keys.take();
                if scope == Scope::Whole {
                    sleep_until(self.next_full_query).await;
                }
                scope
            }
            Ok(true) | Err(_) => Scope::Whole,
        };
        let listing = self.list(scope).await?;
        if self.mode == Mode::Polling && !listing.is_standby {
            return Err(Error::Disconnected {
                reason: "the standby was promoted, and the watcher reconnects to listen".into(),
            });
        }
        Ok(listing)
    }

    async fn list(&mut self, scope: Scope) -> Result<Listing, Error> {
        let began = Instant::now();
        let listing = self.read(scope).await?;
        if self.org.as_ref().is_some_and(|org| *org != listing.org) {
            return Err(Error::Disconnected {
                reason: "the org of the session has changed, and the watcher reconnects for the new one"
                    .into(),
            });
        }
        let now = Instant::now();
        self.next_query = now + PAUSE;
        if listing.scope == Scope::Whole {
            self.next_full_query = now + began.elapsed() * PAUSE_FACTOR;
            self.full_query_due = now
                + match self.mode {
                    Mode::Listening => self.options.heartbeat,
                    Mode::Polling => self.options.poll,
                };
        }
        self.org = Some(listing.org.clone());
        self.dirty_keys.only_of(listing.org.clone());
        Ok(listing)
    }

    async fn read(&self, scope: Scope) -> Result<Listing, Error> {
        // LEFT JOIN returns one row at least, with the org, even for an empty list.
        let rows = match &scope {
            Scope::Whole => {
                let sql = "SELECT o.org, pg_catalog.pg_is_in_recovery(), l.* \
                           FROM integration_credentials.current_org() AS o (org) \
                           LEFT JOIN integration_credentials.list_integrations() AS l ON true";
                within(self.options.timeout, self.session.rows(READ, sql, &[])).await??
            }
            Scope::Keys(keys) => {
                let keys: Vec<_> = keys.iter().collect();
                let sql = "SELECT o.org, pg_catalog.pg_is_in_recovery(), l.* \
                           FROM integration_credentials.current_org() AS o (org) \
                           LEFT JOIN integration_credentials.list_integrations($1) AS l ON true";
                // An update of the extension may change the columns: Postgres then refuses the plan, and the watcher
                // reconnects.
                let rows = async {
                    let sql = self.session.planned(sql, &[Type::TEXT_ARRAY]).await?;
                    self.session.rows(READ, sql, &[(&keys, Type::TEXT_ARRAY)]).await
                };
                within(self.options.timeout, rows).await??
            }
        };
        let first =
            rows.first().ok_or_else(|| Error::Unexpected("current_org() returned no row".to_owned()))?;
        let org: &str = column(first, 0)?;
        let is_standby = column(first, 1)?;
        Ok(Listing { org: org.into(), scope, states: states(&rows)?, is_standby })
    }

    /// How the session reaches the database.
    pub fn access(&self) -> Access {
        match self.mode {
            Mode::Listening => Access::Listening(self.session.clone()),
            Mode::Polling => Access::Polling,
        }
    }

    /// Closes the connection, unless reports still go over it.
    pub async fn close(self) {
        if let Some(session) = Arc::into_inner(self.session) {
            session.close().await;
        }
    }

    pub fn abort(&self) {
        self.session.abort();
    }
}

/// The first column of the list, which is longer in a later version.
const LISTED: usize = 2;

fn states(rows: &[Row]) -> Result<BTreeMap<Arc<str>, KeyState>, Error> {
    let mut states = BTreeMap::new();
    for row in rows {
        if column::<Option<&str>>(row, LISTED)?.is_some() {
            let Integration { key, is_enabled, has_credentials, revision, updated_at, .. } =
                Integration::from_row(row, LISTED)?;
            let expires_at = match row.columns().iter().position(|column| column.name() == "expiresAt") {
                Some(position) => column(row, position)?,
                // The SQL of version 0.1.0.
                None => None,
            };
            let state = KeyState { revision, has_credentials, is_enabled, updated_at, expires_at };
            states.insert(key.into(), state);
        }
    }
    Ok(states)
}
