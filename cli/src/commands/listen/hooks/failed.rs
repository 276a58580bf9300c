//! Why a run of a hook failed.

use intcred::Error;
use std::{io, process::ExitStatus, time::Duration};

/// Why a run failed. Never shows the value.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error("cannot run it: {0}")]
    Start(io::Error),
    #[error("{0}")]
    Exit(ExitStatus),
    #[error("killed after {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("cannot read the credential: {0}")]
    Value(Error),
}

impl Failed {
    /// Whether it is the hook's, or at least not the network's: a server that is away is waited for.
    pub fn counts(&self) -> bool {
        !matches!(self, Self::Value(Error::Connect { .. } | Error::Disconnected { .. }))
    }
}
