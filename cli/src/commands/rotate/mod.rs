//! `intcred rotate`: the steps of a rotation. Its state is in the database, so that another call goes on from
//! wherever one has ended.
//!
//! | module | concept |
//! | --- | --- |
//! | `command` | the commands that test a new value, and revoke an old one |
//! | `wait` | waiting until every consumer uses the new value |

mod command;
mod wait;

use crate::{
    cli,
    cli_error::CliError,
    context::{Context, connect},
    input::read_value,
    signals::Signals,
    time::short,
};
use command::{Act, Job};
use intcred::{
    Client, Error, ErrorCode, Receipt, RotationState, RotationStatus, Secret, SetOptions, Settings,
    Timestamp, Which, WouldBe,
};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use wait::Wait;

pub async fn run(context: &Context, given: cli::Rotate) -> Result<(), CliError> {
    let actor = given.actor.name()?;
    let settings = context.settings()?;
    // Before connecting, because a prompt may take long.
    let value =
        if given.resume || given.abort { None } else { Some((read_value(&given.value)?, given.expires)) };
    let mut signals = Signals::catch()?;
    let rotation = Rotation {
        context,
        settings,
        key: &given.key,
        actor,
        test: given.test.as_deref(),
        revoke: given.revoke.as_deref(),
        exec_timeout: Duration::from_secs(given.exec_timeout.into()),
        timeout: given.timeout,
        detach: given.detach,
    };
    let steps = async {
        match value {
            Some((value, expires)) => Box::pin(rotation.start(value, expires)).await,
            None if given.abort => rotation.abort().await,
            None => Box::pin(rotation.resume()).await,
        }
    };
    tokio::select! {
        ended = steps => ended,
        () = signals.next() => Err(rotation.stopped(CliError::rotation("interrupted", ""))),
    }
}

struct Rotation<'a> {
    context: &'a Context,
    settings: Settings,
    key: &'a str,
    actor: String,
    test: Option<&'a str>,
    revoke: Option<&'a str>,
    /// The time limit of a command.
    exec_timeout: Duration,
    /// How long to wait for the consumers.
    timeout: Option<Duration>,
    detach: bool,
}

impl Rotation<'_> {
    async fn start(&self, value: Secret, expires: Option<crate::time::Expiry>) -> Result<(), CliError> {
        let Self { key, actor, .. } = self;
        let client = connect(&self.settings).await?;
        let status = self.status(&client).await?;
        let revision = status.as_ref().map_or(0, |status| status.revision);
        if let Some(status) = &status {
            self.refuse_a_second(status)?;
        }
        self.require_reader(&client).await?;
        let options = SetOptions {
            expected_revision: Some(revision),
            expires_at: expires.map(|expiry| expiry.0),
            stage: true,
            ..SetOptions::default()
        };
        if client.dry_run(key, &value, actor, &options).await? == WouldBe::Unchanged {
            return Err(CliError::rotation(
                format!("{key} has this value already"),
                "A rotation needs a new value: mint one at the vendor.",
            ));
        }
        match client.set_with(key, &value, actor, &options).await {
            // Refused since the dry run. Without an answer, it may be staged.
            Err(error) if error.code().is_some() => return Err(error.into()),
            staged => drop(staged.map_err(|error| self.stopped(error.into()))?),
        }
        drop(value);
        client.close().await;
        self.stopping(async {
            self.tell("stage", json!({}), format!("{key}: staged"))?;
            self.test_and_promote(revision).await
        })
        .await
    }

    async fn resume(&self) -> Result<(), CliError> {
        let client = connect(&self.settings).await?;
        let status = self.status(&client).await?;
        self.require_reader(&client).await?;
        if self.reads() {
            // The command before may have ended between its read of the old value and its read of the current
            // one. Then this role counts as a reader of the old value.
            self.read_current(&client).await?;
        }
        client.close().await;
        match status {
            Some(RotationStatus {
                state: RotationState::Staged, previous_revision: Some(previous), ..
            }) => Err(CliError::rotation(
                format!("{} still keeps the value of revision {previous}, and has a staged value", self.key),
                format!(
                    "The promotion would drop the old value, which may not be revoked yet. `intcred rotate {key} --abort` \
                     discards the staged value, then `--resume` ends the rotation before; or `intcred retire {key}` retires \
                     the old value now.",
                    key = self.key
                ),
            )),
            Some(status) if status.state == RotationState::Staged => {
                self.stopping(self.test_and_promote(status.revision)).await
            }
            Some(status) if status.state == RotationState::Rotating => {
                self.stopping(Box::pin(self.finish(status.revision, true))).await
            }
            status => {
                let revision = status.as_ref().map_or(0, |status| status.revision);
                let rest = if self.revoke.is_some() { "; nothing was revoked" } else { "" };
                self.tell(
                    "none",
                    json!({"revision": revision}),
                    format!("{}: no rotation is in progress, at revision {revision}{rest}", self.key),
                )
            }
        }
    }

    async fn abort(&self) -> Result<(), CliError> {
        let Self { key, actor, .. } = self;
        let client = connect(&self.settings).await?;
        match self.status(&client).await? {
            Some(status) if status.state == RotationState::Staged => {
                client.discard(key, actor).await?;
                self.tell(
                    "discard",
                    json!({"revision": status.revision}),
                    format!("{key}: discarded the staged value, still at revision {}", status.revision),
                )
            }
            Some(status) if status.state == RotationState::Rotating => {
                let receipt = client.rollback(key, actor, Some(status.revision)).await?;
                let revision = receipt.revision.unwrap_or_default();
                self.tell(
                    "rollback",
                    json!({"revision": revision, "previousRevision": status.revision}),
                    format!(
                        "{key}: rolled back at revision {revision}; the value of revision {} is kept until it is \
                         retired: `intcred rotate {key} --resume` revokes and retires it",
                        status.revision
                    ),
                )?;
                synced(receipt)
            }
            _ => Err(CliError::rotation(
                format!("no rotation of {key} is in progress"),
                "`intcred rollback` brings back a previous value while that is kept.",
            )),
        }
    }

    async fn test_and_promote(&self, revision: i64) -> Result<(), CliError> {
        let Self { key, actor, .. } = self;
        if let Some(line) = self.test {
            let client = connect(&self.settings).await?;
            let org = client.current_org().await?;
            let value = client.get_which(key, Which::Pending).await?;
            client.close().await;
            let job = Job { act: Act::Test, line, key, org: &org, limit: self.exec_timeout };
            let tested = job.run(&value).await;
            let client = connect(&self.settings).await?;
            if client.get_which(key, Which::Pending).await? != value {
                return Err(CliError::rotation(
                    format!("another caller has staged another value of {key}, which was not tested"),
                    "`intcred audit` shows who did.",
                ));
            }
            if let Err(failed) = tested {
                client.discard(key, actor).await?;
                client.close().await;
                self.tell(
                    "discard",
                    json!({"revision": revision}),
                    format!("{key}: discarded the staged value"),
                )?;
                return Err(CliError::RotationOver {
                    what: format!("the test failed: {failed}; services keep revision {revision} of {key}"),
                    remedy: "Correct the value or the test, then rotate again.".to_owned(),
                });
            }
            client.close().await;
            self.tell("test", json!({}), format!("{key}: tested"))?;
        }
        let client = connect(&self.settings).await?;
        let replaces = self.revoke.is_some()
            && client.list().await?.iter().any(|listed| listed.key == *key && listed.has_credentials);
        let receipt = client.promote(key, actor, Some(revision)).await?;
        client.close().await;
        let promoted = receipt.revision.unwrap_or_default();
        self.tell(
            "promote",
            json!({"revision": promoted}),
            format!("{key}: promoted at revision {promoted}"),
        )?;
        let is_kept = receipt.has_previous == Some(true);
        synced(receipt)?;
        if replaces && !is_kept {
            return Err(CliError::RotationOver {
                what: format!("the catalog keeps no previous value of {key}, so --revoke has none"),
                remedy: format!(
                    "When `intcred status {key}` says that no one uses an older value, revoke the old one at the vendor by \
                     hand. `intcred catalog keep-previous {key} TIME` keeps the next one."
                ),
            });
        }
        if self.detach {
            return Ok(());
        }
        Box::pin(self.finish(promoted, is_kept)).await
    }

    /// Waits until every consumer uses `revision`, revokes and retires the value before it, if there is one.
    async fn finish(&self, revision: i64, has_previous: bool) -> Result<(), CliError> {
        let key = self.key;
        // A time beyond the clock is no limit.
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let wait = Wait { settings: &self.settings, key, revision, deadline };
        let status = wait.run().await?;
        let consumers = status.consumers.unwrap_or_default();
        self.tell(
            "wait",
            json!({"revision": revision, "consumers": consumers}),
            format!("{key}: {consumers}/{consumers} consumers use revision {revision}"),
        )?;
        let Some(previous) = status.previous_revision else {
            if self.revoke.is_some() && has_previous {
                return Err(CliError::RotationOver {
                    what: format!(
                        "the time of the old value of {key} was over before --revoke could have it"
                    ),
                    remedy: "No one uses it any longer: revoke it at the vendor by hand.".to_owned(),
                });
            }
            return self.tell_the_end(revision, "there is no old value to revoke");
        };
        if let Some(line) = self.revoke {
            self.revoke(line, revision, previous).await?;
            self.tell(
                "revoke",
                json!({"previousRevision": previous}),
                format!("{key}: revoked the value of revision {previous}"),
            )?;
        }
        self.retire(&wait).await?;
        self.tell(
            "retire",
            json!({"previousRevision": previous}),
            format!("{key}: retired the value of revision {previous}"),
        )?;
        let rest = if self.revoke.is_some() { "" } else { "now revoke the old value at the vendor" };
        self.tell_the_end(revision, rest)
    }

    async fn revoke(&self, line: &str, revision: i64, previous: i64) -> Result<(), CliError> {
        let key = self.key;
        let client = connect(&self.settings).await?;
        let org = client.current_org().await?;
        let valid = client.get_valid(key).await?;
        // The last read of this role is of the current value, so that the role does not count as one that
        // still uses the old value.
        self.read_current(&client).await?;
        client.close().await;
        let of = |revision: i64| valid.iter().find(|value| value.revision == revision);
        let (Some(current), Some(old)) = (of(revision), of(previous)) else {
            return Err(CliError::rotation(
                format!(
                    "{key} was changed by another caller, or the time of its old value is over; nothing was revoked"
                ),
                format!("`intcred status {key}` shows where it stands, `intcred audit` who changed it."),
            ));
        };
        if current.value == old.value {
            return Err(CliError::rotation(
                format!("the value of revision {previous} is also the current one; it was not revoked"),
                format!("`intcred retire {key}` ends the rotation."),
            ));
        }
        let job = Job { act: Act::Revoke, line, key, org: &org, limit: self.exec_timeout };
        job.run(&old.value).await.map_err(|failed| {
            CliError::rotation(
                format!("the revocation failed: {failed}; the value of revision {previous} is kept"),
                format!("If you have revoked it by hand, `intcred retire {key}` ends the rotation."),
            )
        })
    }

    /// Drops the previous value. A consumer may have appeared since the wait.
    async fn retire(&self, wait: &Wait<'_>) -> Result<(), CliError> {
        loop {
            let client = connect(&self.settings).await?;
            let answer = client.retire(self.key, &self.actor, false).await;
            client.close().await;
            match answer {
                Err(Error::NotConverged { .. }) => drop(wait.run().await?),
                // Its time is over.
                Err(error) if error.code() == Some(ErrorCode::CredentialsNotSet) => return Ok(()),
                Err(error) => return Err(error.into()),
                Ok(receipt) => return synced(receipt),
            }
        }
    }

    fn refuse_a_second(&self, status: &RotationStatus) -> Result<(), CliError> {
        let key = self.key;
        match status.state {
            RotationState::Steady | RotationState::Removed => Ok(()),
            RotationState::Staged => Err(CliError::rotation(
                format!("{key} has a staged value already"),
                format!("`intcred rotate {key} --resume` goes on with it, `--abort` discards it."),
            )),
            RotationState::Rotating => {
                let previous = status.previous_revision.unwrap_or_default();
                let left = status
                    .previous_until
                    .map(|Timestamp(until)| until.duration_since(SystemTime::now()).unwrap_or_default());
                let left = left.map(|left| format!(" for {}", short(left))).unwrap_or_default();
                Err(CliError::rotation(
                    format!(
                        "{key} still keeps the value of revision {previous}{left}, which may not be revoked yet"
                    ),
                    format!(
                        "`intcred rotate {key} --resume` waits for the consumers and retires it; `intcred retire {key}` \
                         retires it now."
                    ),
                ))
            }
        }
    }

    /// Whether a command needs a value from the server.
    fn reads(&self) -> bool {
        self.test.is_some() || self.revoke.is_some()
    }

    /// Refuses a role that may not read, before the first change.
    async fn require_reader(&self, client: &Client) -> Result<(), CliError> {
        if !self.reads() || client.may_read().await? {
            return Ok(());
        }
        Err(Error::Refused {
            code: ErrorCode::ForbiddenAdminScope,
            message: "the role may not read credentials, which --test and --revoke need".to_owned(),
            hint: Some("Ask a superuser: `intcred grant ROLE --to reader`.".to_owned()),
        }
        .into())
    }

    async fn status(&self, client: &Client) -> Result<Option<RotationStatus>, CliError> {
        Ok(client.rotation_status(Some(self.key)).await?.pop())
    }

    async fn read_current(&self, client: &Client) -> Result<(), CliError> {
        match client.get(self.key).await {
            Err(error) if error.code() != Some(ErrorCode::CredentialsNotSet) => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn tell_the_end(&self, revision: i64, rest: &str) -> Result<(), CliError> {
        let rest = if rest.is_empty() { String::new() } else { format!("; {rest}") };
        self.tell(
            "done",
            json!({"revision": revision}),
            format!("{}: rotated to revision {revision}{rest}", self.key),
        )
    }

    /// Prints a step: a line for people, or a JSON object.
    fn tell(&self, step: &str, facts: Value, text: String) -> Result<(), CliError> {
        let mut line = json!({"step": step, "key": self.key, "at": Timestamp::now()});
        if let (Some(line), Value::Object(mut facts)) = (line.as_object_mut(), facts) {
            line.append(&mut facts);
        }
        self.context.output.print(&line, |_| text)
    }

    /// Steps after the first change, whose error says how to go on.
    async fn stopping(&self, steps: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
        steps.await.map_err(|error| match error {
            // The rotation is over.
            CliError::RotationOver { .. } => error,
            error => self.stopped(error),
        })
    }

    fn stopped(&self, source: CliError) -> CliError {
        let key = self.key;
        let remedy = format!(
            "`intcred rotate {key} --resume` goes on, `--abort` gives up; `intcred status {key}` shows where it stands."
        );
        CliError::Stopped { source: Box::new(source), remedy }
    }
}

fn synced(receipt: Receipt) -> Result<(), CliError> {
    receipt.error.map_or(Ok(()), |error| Err(CliError::SyncFailed(error.message)))
}
