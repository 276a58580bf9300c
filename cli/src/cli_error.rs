//! The errors of the command line, their hints and exit statuses.

use crate::{exit_status::ExitStatus, terminal::log_line};
use intcred::{Error, ErrorCode, SettingsError};
use integration_credentials_core::{error::Refusal, keyring::KeyringError};
use std::{io, path::PathBuf, process::ExitCode};

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
    #[error("saved, but the sync failed: {0}")]
    SyncFailed(String),
    #[error("{0} problem(s) found")]
    Unhealthy(usize),
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    #[error("cannot start: {0}")]
    Start(io::Error),
}

impl CliError {
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
            log_line("hint", hint);
        }
        self.status().into()
    }

    fn hint(&self) -> Option<&str> {
        match self {
            // The server's hint names functions; the command line has commands.
            Self::Client(error) => match error.code() {
                Some(ErrorCode::IntegrationNotFound) => {
                    Some("`intcred list` shows the integrations; `intcred catalog add` adds one.")
                }
                Some(ErrorCode::IntegrationDisabled) => Some("`intcred catalog enable` enables it."),
                Some(ErrorCode::CredentialsNotSet) => Some("`intcred set` sets one."),
                _ => error.hint(),
            },
            Self::SyncFailed(_) => Some("Calling again is safe."),
            Self::Unhealthy(_) => {
                Some("`intcred doctor --fix`, as a superuser, runs the statements that fix problems.")
            }
            _ => None,
        }
    }

    fn status(&self) -> ExitStatus {
        match self {
            Self::Usage { .. } | Self::File { .. } | Self::Keyring { .. } => ExitStatus::Usage,
            Self::SyncFailed(_) => ExitStatus::SyncFailed,
            Self::Client(error) => match error {
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
            Self::Unhealthy(_) | Self::Output(_) | Self::Start(_) => ExitStatus::Failed,
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
