//! A session that listens for hints and reads the list.

use super::snapshot::{Snapshot, State};
use crate::{
    Error, Settings,
    catalog::Integration,
    session::{Session, column},
};
use integration_credentials_core::event::{self, CHANNEL};
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{Instant, sleep_until, timeout},
};
use tokio_postgres::AsyncMessage;

/// Any role may send notifications, and as many as it likes; this is how often they are heeded.
const REST: Duration = Duration::from_millis(50);

pub(super) struct Observer {
    session: Session,
    /// Holds at most one hint, for one look answers them all. Closed when the connection ends.
    hints: mpsc::Receiver<()>,
    org: Arc<OnceLock<String>>,
    timeout: Duration,
    looked: Instant,
}

impl Observer {
    /// Connects and listens. Only what is read after this can be followed without a gap.
    pub async fn start(settings: &Settings, limit: Duration) -> Result<Self, Error> {
        let (sender, hints) = mpsc::channel(1);
        let org = Arc::new(OnceLock::new());
        let watched = org.clone();
        let session = Session::open(settings, move |message| {
            if let AsyncMessage::Notification(notification) = message
                && notification.channel() == CHANNEL
                && may_concern(notification.payload(), watched.get())
            {
                // Full: a hint is waiting already. Closed: nobody is left to take one.
                let (Ok(()) | Err(TrySendError::Full(()) | TrySendError::Closed(()))) = sender.try_send(());
            }
        })
        .await?;
        let observer = Self { session, hints, org, timeout: limit, looked: Instant::now() };
        observer.in_time(observer.session.batch(&format!("LISTEN {CHANNEL}"))).await?;
        Ok(observer)
    }

    /// Reads the list once there is a hint, or after `heartbeat` without one.
    pub async fn next_look(&mut self, heartbeat: Duration) -> Result<Snapshot, Error> {
        match timeout(heartbeat, self.hints.recv()).await {
            Ok(None) => return Err(self.session.lost()),
            Ok(Some(())) => sleep_until(self.looked + REST).await,
            Err(_) => {}
        }
        self.look().await
    }

    /// Reads the list.
    pub async fn look(&mut self) -> Result<Snapshot, Error> {
        self.looked = Instant::now();
        // One row at least, so that the org is known even where the catalog is empty.
        let sql = "SELECT l.*, o.org FROM integration_credentials.current_org() AS o (org) \
                   LEFT JOIN integration_credentials.list_integrations() AS l ON true";
        let rows = self.in_time(self.session.rows(sql, &[])).await?;
        let first = rows.first().ok_or_else(|| Error::Unexpected("no org".to_owned()))?;
        let org: String = column(first, Integration::COLUMNS)?;
        let mut states = BTreeMap::new();
        for row in &rows {
            if column::<Option<&str>>(row, 0)?.is_some() {
                let Integration { key, is_enabled, has_credentials, revision, updated_at, .. } =
                    Integration::from_row(row, 0)?;
                states.insert(key, State { revision, has_credentials, is_enabled, updated_at });
            }
        }
        self.org.get_or_init(|| org.clone());
        Ok(Snapshot { org, states })
    }

    pub async fn close(self) {
        self.session.close().await;
    }

    pub fn abort(&self) {
        self.session.abort();
    }

    async fn in_time<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        timeout(self.timeout, answer).await.unwrap_or_else(|_| {
            Err(Error::Disconnected { reason: format!("no answer within {} s", self.timeout.as_secs()) })
        })
    }
}

/// Whether a notification may be about the org that is watched. What it says is not relied on for anything else.
fn may_concern(payload: &str, watched: Option<&String>) -> bool {
    match (event::Event::parse(payload), watched) {
        (Ok(event), Some(org)) => event.org == *org,
        // Not known yet, or of a form that a later version sends.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_orgs_events_are_passed_over() {
        let acme = &"acme".to_owned();
        let event = r#"{"v":1,"org":"acme","key":"k","revision":1,"op":"set"}"#;
        assert!(may_concern(event, Some(acme)));
        assert!(may_concern(event, None));
        assert!(!may_concern(&event.replace("acme", "other"), Some(acme)));
        assert!(may_concern(&event.replace("\"v\":1", "\"v\":2"), Some(acme)));
        assert!(may_concern("hello", Some(acme)));
    }
}
