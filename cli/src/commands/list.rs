//! `intcred list`

use crate::{
    cli_error::CliError,
    context::Context,
    output::{table, yes_or_no},
};
use intcred::Timestamp;
use std::time::{Duration, SystemTime};

pub async fn run(context: &Context, expiring: Option<Duration>) -> Result<(), CliError> {
    let client = context.connect().await?;
    let mut integrations = client.list().await?;
    client.close().await;
    if let Some(within) = expiring {
        // A time beyond the calendar is no limit.
        let limit = SystemTime::now().checked_add(within);
        integrations.retain(|integration| {
            integration.has_credentials
                && integration
                    .expires_at
                    .is_some_and(|Timestamp(moment)| limit.is_none_or(|limit| moment <= limit))
        });
    }
    context.output.print(&integrations, |integrations| {
        let rows = integrations.iter().map(|integration| {
            [
                integration.key.clone(),
                integration.display_name.clone(),
                yes_or_no(integration.is_enabled),
                yes_or_no(integration.has_credentials),
                integration.revision.to_string(),
                integration.updated_at.map_or_else(String::new, |moment| moment.to_string()),
                integration.expires_at.map_or_else(String::new, |moment| moment.to_string()),
            ]
        });
        table(["KEY", "NAME", "ENABLED", "CREDENTIAL", "REVISION", "UPDATED", "EXPIRES"], rows)
    })
}
