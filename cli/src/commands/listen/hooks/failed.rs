//! Why a run of a hook failed.

use crate::shell;
use intcred::Error;

/// Why a run failed. Never shows the value.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error(transparent)]
    Run(#[from] shell::Failed),
    #[error("cannot read the credential: {0}")]
    Value(Error),
}

impl Failed {
    /// Whether the failure uses up a retry. A server that is unreachable or behind does not: the hook waits for
    /// the server.
    pub fn uses_retry(&self) -> bool {
        !matches!(
            self,
            Self::Value(
                Error::Connect { .. }
                    | Error::Disconnected { .. }
                    | Error::Behind { .. }
                    | Error::LeaseOver { .. }
            )
        )
    }
}
