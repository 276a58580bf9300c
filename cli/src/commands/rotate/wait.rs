//! Waiting until every consumer uses the new value.

use crate::{
    cli_error::CliError,
    commands::status::{names, verdict},
    context::connect,
    terminal::Progress,
};
use intcred::{
    Behind, Client, Convergence, Error, RotationState, RotationStatus, Settings, internal::Backoff,
};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// The pause between two looks at the consumers.
const PAUSE: Duration = Duration::from_millis(250);
/// Before another attempt to reach the server.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

pub struct Wait<'a> {
    pub settings: &'a Settings,
    pub key: &'a str,
    /// The revision that every consumer is to use.
    pub revision: i64,
    pub deadline: Option<Instant>,
}

impl Wait<'_> {
    /// Waits until the server says `converged`. Returns its answer.
    pub async fn run(&self) -> Result<RotationStatus, CliError> {
        let mut last = None;
        let mut progress = Progress::new();
        let waiting = self.follow(&mut progress, &mut last);
        let ended = match self.deadline {
            None => Some(waiting.await),
            Some(deadline) => timeout_at(deadline, waiting).await.ok(),
        };
        progress.end();
        ended.unwrap_or_else(|| {
            let behind = last.as_ref().map_or_else(|| "no answer of the server".to_owned(), words);
            Err(CliError::rotation(
                format!("{}: not every consumer has moved in time: {behind}", self.key),
                "",
            ))
        })
    }

    async fn follow(
        &self,
        progress: &mut Progress,
        last: &mut Option<RotationStatus>,
    ) -> Result<RotationStatus, CliError> {
        let mut backoff = BACKOFF;
        let mut client = None;
        loop {
            match self.look(&mut client).await {
                Ok(status) => {
                    backoff = BACKOFF;
                    self.check(&status, last.as_ref())?;
                    if status.verdict == Convergence::Converged {
                        return Ok(status);
                    }
                    progress.show(&format!("{}: {}", self.key, words(&status)));
                    *last = Some(status);
                    sleep(PAUSE).await;
                }
                // The consumers go on without this command, and so does the wait for them.
                Err(CliError::Client(error @ (Error::Disconnected { .. } | Error::Connect { .. }))) => {
                    client = None;
                    progress.show(&format!("{}: {error}", self.key));
                    sleep(backoff.next_delay()).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn look(&self, client: &mut Option<Client>) -> Result<RotationStatus, CliError> {
        let client = match client {
            Some(client) => client,
            None => client.insert(connect(self.settings).await?),
        };
        let found = client.rotation_status(Some(self.key)).await?.pop();
        found.ok_or_else(|| CliError::rotation(format!("{} is no longer in the catalog", self.key), ""))
    }

    /// Refuses to go on where another caller has changed the credential, or the old value's time is over.
    fn check(&self, now: &RotationStatus, before: Option<&RotationStatus>) -> Result<(), CliError> {
        let Self { key, revision, .. } = self;
        if now.revision != *revision || now.state == RotationState::Removed {
            return Err(CliError::rotation(
                format!(
                    "another caller has changed {key}: it is at revision {}, not {revision}",
                    now.revision
                ),
                "`intcred audit` shows who did.",
            ));
        }
        let was_kept = before.is_some_and(|before| before.previous_revision.is_some());
        if was_kept && now.previous_revision.is_none() && now.verdict != Convergence::Converged {
            return Err(CliError::rotation(
                format!(
                    "the time of the old value of {key} is over, and it may still be in use: {}",
                    words(now)
                ),
                format!(
                    "Wait until `intcred status {key}` says that no one uses an older value, then revoke that one at the \
                     vendor by hand. `intcred catalog keep-previous {key} TIME` gives the next rotation more time."
                ),
            ));
        }
        Ok(())
    }
}

/// How far the consumers are.
fn words(status: &RotationStatus) -> String {
    let consumers = |behind: &&Behind| matches!(behind, Behind::Consumer { .. });
    let behind = i64::try_from(status.behind.iter().filter(consumers).count()).unwrap_or(i64::MAX);
    let all = status.consumers.unwrap_or_default();
    let moved = all.saturating_sub(behind).max(0);
    let rest = match names(&status.behind) {
        Some(names) => format!("waiting for {names}"),
        None => verdict(status),
    };
    format!("{moved}/{all} consumers, {rest}")
}
