//! A limit of time for an answer of the server.

use crate::Error;
use std::time::Duration;
use tokio::time::timeout;

/// A connection that gives no answer in time is as good as lost.
pub(crate) async fn in_time<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(limit, answer).await.unwrap_or_else(|_| Err(Error::no_answer(limit)))
}
