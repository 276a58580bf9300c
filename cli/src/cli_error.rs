//! The errors of the command line, their hints and exit statuses.

use crate::{exit_status::ExitStatus, terminal::log_line};
use intcred::{Error, ErrorCode, SettingsError};
use integration_credentials_core::{error::Refusal, keyring::KeyringError};
use std::{borrow::Cow, io, path::PathBuf, process::ExitCode};

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    Client(#[from] Error),
    /// The arguments or the input are invalid.
    #[error("{what}; {remedy}")]
    Usage { what: String, remedy: &'static str },
    #[error("cannot use {path:?}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path:?}: {source}")]
    Keyring { path: PathBuf, source: KeyringError },
    /// What a command about keys found stands in its way.
    #[error("{what}")]
    Keys { what: String, remedy: &'static str },
    #[error("{path:?}: {problem}")]
    Dump { path: PathBuf, problem: String },
    #[error("saved, but the sync failed: {0}")]
    SyncFailed(String),
    #[error("{0} problem(s) found")]
    Unhealthy(usize),
    #[error("{0} problem(s) found in the audit log")]
    Tampered(usize),
    #[error("{path:?} proves nothing: {problem}")]
    Proof { path: PathBuf, problem: String },
    #[error("the audit log has {0}")]
    Missing(String),
    #[error("no credential has this value")]
    NotFound,
    #[error("{0} value(s) cannot be decrypted")]
    Undecryptable(usize),
    /// A rotation stopped. What was done stays.
    #[error("{what}")]
    Rotation { what: String, remedy: String },
    /// A rotation is over, and did not do all that it should: there is nothing to resume.
    #[error("{what}")]
    RotationOver { what: String, remedy: String },
    /// A rotation stopped after its first change.
    #[error("{source}")]
    Stopped { source: Box<Self>, remedy: String },
    /// The file cannot be imported. Nothing was changed.
    #[error("{place}: {what}; {remedy}")]
    Import { place: String, what: String, remedy: &'static str },
    #[error("{place}: {source}; nothing was changed")]
    ImportRefused { place: String, source: Error },
    #[error("{0} value(s) would be refused")]
    WouldBeRefused(usize),
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    #[error("cannot start: {0}")]
    Start(io::Error),
}

impl CliError {
    pub fn rotation(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Rotation { what: what.into(), remedy: remedy.into() }
    }

    pub fn usage(what: impl Into<String>, remedy: &'static str) -> Self {
        Self::Usage { what: what.into(), remedy }
    }

    /// Prints the error and its hint on standard error. A reader that closed the pipe is no failure.
    pub fn report(&self) -> ExitCode {
        if matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            return ExitCode::SUCCESS;
        }
        log_line("intcred", &self.to_string());
        if let Some(hint) = self.hint() {
            log_line("hint", &hint);
        }
        self.status().into()
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        let hint = match self {
            Self::Stopped { source, remedy } => {
                return Some(source.hint().map_or(remedy.into(), |hint| format!("{hint} {remedy}").into()));
            }
            // The server's hint names functions; the command line has commands.
            Self::Client(error) => match error.code() {
                Some(ErrorCode::IntegrationNotFound) => {
                    Some("`intcred list` shows the integrations; `intcred catalog add` adds one.")
                }
                Some(ErrorCode::IntegrationDisabled) => Some("`intcred catalog enable` enables it."),
                Some(ErrorCode::CredentialsNotSet) => {
                    Some("`intcred set` sets one; `intcred status` shows what is staged and what is kept.")
                }
                Some(ErrorCode::NotConverged) => Some(
                    "`intcred status` shows who is behind; `intcred retire --force` does not wait for them.",
                ),
                Some(ErrorCode::RevisionConflict) => {
                    Some("`intcred status` shows the revision that is there, `intcred audit` who made it.")
                }
                _ => error.hint(),
            },
            Self::Keys { remedy, .. } => Some(*remedy),
            Self::Rotation { remedy, .. } | Self::RotationOver { remedy, .. } => {
                Some(remedy.as_str()).filter(|remedy| !remedy.is_empty())
            }
            Self::ImportRefused { .. } | Self::WouldBeRefused(_) => {
                Some("Correct the file, or choose what to import with --map NAME=KEY.")
            }
            Self::Undecryptable(_) => {
                Some("Give the server a keyring that has the keys named above: see docs/keys.md.")
            }
            Self::SyncFailed(_) => Some("Calling again is safe."),
            Self::Unhealthy(_) => {
                Some("`intcred doctor --fix`, as a superuser, runs the statements that fix problems.")
            }
            _ => None,
        };
        hint.map(Cow::from)
    }

    fn status(&self) -> ExitStatus {
        match self {
            Self::Usage { .. }
            | Self::File { .. }
            | Self::Keyring { .. }
            | Self::Dump { .. }
            | Self::Import { .. } => ExitStatus::Usage,
            Self::SyncFailed(_) => ExitStatus::SyncFailed,
            Self::Stopped { source, .. } => source.status(),
            Self::Client(error) | Self::ImportRefused { source: error, .. } => match error {
                Error::Settings(_) => ExitStatus::Usage,
                Error::NotAuthorised { .. } | Error::Refused { code: ErrorCode::ForbiddenAdminScope, .. } => {
                    ExitStatus::NotAuthorised
                }
                Error::Connect { .. }
                | Error::Disconnected { .. }
                | Error::NotificationsLost
                | Error::ServerTooOld { .. }
                | Error::ExtensionMissing { .. }
                | Error::ForeignSchema { .. } => ExitStatus::Unavailable,
                _ => ExitStatus::Failed,
            },
            Self::Unhealthy(_)
            | Self::Tampered(_)
            | Self::Proof { .. }
            | Self::Missing(_)
            | Self::Keys { .. }
            | Self::NotFound
            | Self::Undecryptable(_)
            | Self::Rotation { .. }
            | Self::RotationOver { .. }
            | Self::WouldBeRefused(_)
            | Self::Output(_)
            | Self::Start(_) => ExitStatus::Failed,
        }
    }
}

impl From<SettingsError> for CliError {
    fn from(error: SettingsError) -> Self {
        Self::Client(error.into())
    }
}

impl From<Refusal> for CliError {
    fn from(refusal: Refusal) -> Self {
        Self::Client(refusal.into())
    }
}
