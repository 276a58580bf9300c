//! `intcred remove`

use crate::{cli::Actor, cli_error::CliError, context::Context};

pub async fn run(context: &Context, key: &str, actor: Actor) -> Result<(), CliError> {
    let actor = actor.name()?;
    let client = context.connect().await?;
    let receipt = client.remove(key, &actor).await?;
    client.close().await;
    context.output.print(&receipt, |receipt| format!("{}: removed at {}", receipt.key, receipt.updated_at))
}
