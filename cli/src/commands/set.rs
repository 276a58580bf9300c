//! `intcred set`

use crate::{
    cli::Actor,
    cli_error::CliError,
    context::{Context, connect},
    input::read_value,
};
use std::path::Path;

/// The source of the value, and how to send it.
pub struct Value<'a> {
    pub file: Option<&'a Path>,
    pub exact: bool,
    pub plain: bool,
}

pub async fn run(context: &Context, key: &str, from: &Value<'_>, actor: Actor) -> Result<(), CliError> {
    let actor = actor.name()?;
    let settings = context.settings()?;
    // Before connecting, because a prompt may take long.
    let value = read_value(from.file, from.exact)?;
    let client = connect(&settings).await?;
    let receipt = if from.plain {
        client.set_plain(key, &value, &actor).await?
    } else {
        client.set(key, &value, &actor).await?
    };
    drop(value);
    client.close().await;
    context.output.print(&receipt, |receipt| format!("{}: saved at {}", receipt.key, receipt.updated_at))?;
    receipt.error.map_or(Ok(()), |error| Err(CliError::SyncFailed(error.message)))
}
