//! `intcred remove`

use crate::{cli::Actor, cli_error::CliError, context::Context};

pub async fn run(context: &Context, key: &str, purge: bool, actor: Actor) -> Result<(), CliError> {
    let actor = actor.name()?;
    let client = context.connect().await?;
    let receipt = if purge { client.purge(key, &actor).await? } else { client.remove(key, &actor).await? };
    client.close().await;
    context.output.print(&receipt, |receipt| format!("{}: removed at {}", receipt.key, receipt.updated_at))
}
