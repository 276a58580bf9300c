//! Reading the credential for a hook.

use super::failed::Failed;
use intcred::{Client, ErrorCode, Secret, Settings, internal::within};
use std::time::Duration;

/// For the connection and the answer together.
const LIMIT: Duration = Duration::from_secs(10);

/// Reads the current credential and its revision; `None` if none can be read. On a connection of its own, so that the buffers
/// with the credential do not stay.
pub async fn read(settings: &Settings, key: &str) -> Result<Option<(Secret, i64)>, Failed> {
    let call = async {
        let client = Client::connect(settings, |_| ()).await?;
        let answer = client.get_with_revision(key).await;
        client.close().await;
        answer
    };
    let answer = within(LIMIT, call).await.unwrap_or_else(|late| Err(late.into()));
    match answer {
        Ok(read) => Ok(Some(read)),
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
