//! SIGINT and SIGTERM.

use crate::cli_error::CliError;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on, the signals no longer end the process.
    pub fn catch() -> Result<Self, CliError> {
        let catch = |kind| signal(kind).map_err(CliError::Start);
        Ok(Self { interrupt: catch(SignalKind::interrupt())?, terminate: catch(SignalKind::terminate())? })
    }

    /// Waits for the next signal. Safe to cancel.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
