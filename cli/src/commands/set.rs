//! `intcred set`

use crate::{
    cli::Actor,
    context::{Context, connect},
    failure::Failure,
    input::read_value,
};
use std::path::Path;

pub async fn run(
    context: &Context,
    key: &str,
    value_file: Option<&Path>,
    exact: bool,
    actor: Actor,
) -> Result<(), Failure> {
    let actor = actor.name()?;
    let settings = context.settings()?;
    // Before connecting: whoever is asked for a value may take a while.
    let value = read_value(value_file, exact)?;
    let client = connect(&settings).await?;
    let receipt = client.set(key, &value, &actor).await?;
    drop(value);
    client.close().await;
    context.output.print(&receipt, |receipt| format!("{}: saved at {}", receipt.key, receipt.updated_at))?;
    receipt.error.map_or(Ok(()), |error| Err(Failure::SyncFailed(error.message)))
}
