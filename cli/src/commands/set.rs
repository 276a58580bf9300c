//! `intcred set`

use crate::{
    cli,
    cli_error::CliError,
    context::{Context, connect},
    input::read_value,
};
use intcred::{Client, Receipt, Secret, SetOptions, WouldBe};
use serde_json::json;

pub async fn run(context: &Context, given: cli::Set) -> Result<(), CliError> {
    let actor = given.actor.name()?;
    let options = SetOptions {
        expected_revision: given.expected_revision,
        expires_at: given.expires.map(|expiry| expiry.0),
        keep_previous: given.keep_previous,
        stage: given.stage,
        plain: given.plain,
    };
    let settings = context.settings()?;
    // Before connecting, because a prompt may take long.
    let value = read_value(&given.value)?;
    let client = connect(&settings).await?;
    let key = &given.key;
    if given.dry_run {
        let would_be = client.dry_run(key, &value, &actor, &options).await?;
        drop(value);
        client.close().await;
        return context
            .output
            .print(&json!({"key": key, "wouldBe": would_be}), |_| format!("{key}: {}", words(would_be)));
    }
    let receipt = set(&client, key, &value, &actor, &options).await?;
    drop(value);
    client.close().await;
    let done = if given.stage { "staged" } else { "saved" };
    context.output.print(&receipt, |receipt| format!("{}: {done} at {}", receipt.key, receipt.updated_at))?;
    receipt.error.map_or(Ok(()), |error| Err(CliError::SyncFailed(error.message)))
}

/// Without options by the calls of release 0.1.0, which a database has until `ALTER EXTENSION UPDATE`.
async fn set(
    client: &Client,
    key: &str,
    value: &Secret,
    actor: &str,
    options: &SetOptions,
) -> Result<Receipt, CliError> {
    Ok(if *options == SetOptions::default() {
        client.set(key, value, actor).await?
    } else if *options == (SetOptions { plain: true, ..SetOptions::default() }) {
        client.set_plain(key, value, actor).await?
    } else {
        client.set_with(key, value, actor, options).await?
    })
}

/// What a dry run has found, for people.
pub fn words(would_be: WouldBe) -> &'static str {
    match would_be {
        WouldBe::Insert => "would be set for the first time",
        WouldBe::Rotation => "would be rotated",
        WouldBe::Unchanged => "would be rotated, to the value that it has already",
    }
}
