//! A limit of time for an answer of the server.

use crate::Error;
use std::time::Duration;
use tokio::time::timeout;

/// As good as no limit, without a clock that overflows.
pub const LONGEST: Duration = Duration::from_hours(365 * 24);

/// The server gave no answer within this time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs_f64())]
pub struct NoAnswer(Duration);

/// A connection without an answer in time counts as lost.
impl From<NoAnswer> for Error {
    fn from(late: NoAnswer) -> Self {
        Self::Disconnected { reason: late.to_string() }
    }
}

/// Waits for `answer`, for at most `limit` where there is one.
pub async fn within<T>(
    limit: impl Into<Option<Duration>>,
    answer: impl Future<Output = T>,
) -> Result<T, NoAnswer> {
    match limit.into() {
        None => Ok(answer.await),
        Some(limit) => timeout(limit, answer).await.map_err(|_| NoAnswer(limit)),
    }
}
