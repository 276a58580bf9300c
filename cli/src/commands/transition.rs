//! `intcred promote`, `discard`, `rollback` and `retire`

use crate::{
    cli::{Actor, Guard},
    cli_error::CliError,
    context::Context,
};
use intcred::Receipt;

pub async fn promote(context: &Context, key: &str, guard: &Guard, actor: Actor) -> Result<(), CliError> {
    let actor = actor.name()?;
    let client = context.connect().await?;
    let receipt = client.promote(key, &actor, guard.expected_revision).await?;
    client.close().await;
    print(context, receipt, "promoted")
}

pub async fn discard(context: &Context, key: &str, actor: Actor) -> Result<(), CliError> {
    let actor = actor.name()?;
    let client = context.connect().await?;
    let receipt = client.discard(key, &actor).await?;
    client.close().await;
    print(context, receipt, "discarded the staged value, still")
}

pub async fn rollback(context: &Context, key: &str, guard: &Guard, actor: Actor) -> Result<(), CliError> {
    let actor = actor.name()?;
    let client = context.connect().await?;
    let receipt = client.rollback(key, &actor, guard.expected_revision).await?;
    client.close().await;
    print(context, receipt, "rolled back")
}

pub async fn retire(context: &Context, key: &str, force: bool, actor: Actor) -> Result<(), CliError> {
    let actor = actor.name()?;
    let client = context.connect().await?;
    let receipt = client.retire(key, &actor, force).await?;
    client.close().await;
    print(context, receipt, "retired the previous value, still")
}

fn print(context: &Context, receipt: Receipt, done: &str) -> Result<(), CliError> {
    context.output.print(&receipt, |receipt| {
        let revision = receipt.revision.unwrap_or_default();
        format!("{}: {done} at revision {revision}", receipt.key)
    })?;
    receipt.error.map_or(Ok(()), |error| Err(CliError::SyncFailed(error.message)))
}
