//! Reading the credential that a hook is given.

use super::failed::Failed;
use intcred::{Client, Error, ErrorCode, Secret, Settings};
use std::time::Duration;
use tokio::time::timeout;

/// For the connection and the answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Reads the credential as it is now; none if there is none to be read. On a connection for this one call: the buffers
/// that it passes through do not stay.
pub async fn read(settings: &Settings, key: &str) -> Result<Option<Secret>, Failed> {
    let call = async {
        let client = Client::connect(settings, |_| ()).await?;
        let answer = client.get(key).await;
        client.close().await;
        answer
    };
    let answer = timeout(LIMIT, call).await.unwrap_or_else(|_| {
        Err(Error::Disconnected { reason: format!("no answer within {} s", LIMIT.as_secs()) })
    });
    match answer {
        Ok(secret) => Ok(Some(secret)),
        Err(error) => match error.code() {
            Some(
                ErrorCode::CredentialsNotSet
                | ErrorCode::IntegrationDisabled
                | ErrorCode::IntegrationNotFound,
            ) => Ok(None),
            _ => Err(Failed::Value(error)),
        },
    }
}
