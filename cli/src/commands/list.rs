//! `intcred list`

use crate::{
    cli_error::CliError,
    context::Context,
    output::{table, yes_or_no},
};

pub async fn run(context: &Context) -> Result<(), CliError> {
    let client = context.connect().await?;
    let integrations = client.list().await?;
    client.close().await;
    context.output.print(&integrations, |integrations| {
        let rows = integrations.iter().map(|integration| {
            [
                integration.key.clone(),
                integration.display_name.clone(),
                yes_or_no(integration.is_enabled),
                yes_or_no(integration.has_credentials),
                integration.revision.to_string(),
                integration.updated_at.map_or_else(String::new, |moment| moment.to_string()),
            ]
        });
        table(["KEY", "NAME", "ENABLED", "CREDENTIAL", "REVISION", "UPDATED"], rows)
    })
}
