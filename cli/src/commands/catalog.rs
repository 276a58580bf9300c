//! `intcred catalog`

use crate::{
    cli::{Actor, Catalog},
    cli_error::CliError,
    context::Context,
    output::{table, yes_or_no},
    time::short,
};
use intcred::Registration;
use serde_json::{Value, json};
use std::time::Duration;

pub async fn run(context: &Context, command: Catalog) -> Result<(), CliError> {
    match command {
        Catalog::List => list(context).await,
        Catalog::Add { key, display_name, rules, docs_url, example, actor } => {
            let rules = rules.as_deref().map(serde_json::from_str).transpose().map_err(|error| {
                CliError::usage(
                    format!("--rules is not JSON: {error}"),
                    "pass a JSON object, quoted for the shell",
                )
            })?;
            add(context, Fields { key, display_name, rules, docs_url, example }, actor).await
        }
        Catalog::Remove { key, actor } => remove(context, &key, actor).await,
        Catalog::Enable { key, actor } => set_enabled(context, &key, true, actor).await,
        Catalog::KeepPrevious { key, time, actor } => keep_previous(context, &key, time, actor).await,
        Catalog::Disable { key, actor } => set_enabled(context, &key, false, actor).await,
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let client = context.connect().await?;
    let descriptions = client.describe().await?;
    client.close().await;
    context.output.print(&descriptions, |descriptions| {
        let rows = descriptions.iter().map(|entry| {
            [
                entry.key.clone(),
                entry.display_name.clone(),
                yes_or_no(entry.is_enabled),
                entry.rules.to_string(),
                entry.validator.clone().unwrap_or_default(),
                entry.sync_handler.clone().unwrap_or_default(),
            ]
        });
        table(["KEY", "NAME", "ENABLED", "RULES", "VALIDATOR", "SYNC HANDLER"], rows)
    })
}

/// The fields on the command line; the others stay as they are.
struct Fields {
    key: String,
    display_name: Option<String>,
    rules: Option<Value>,
    docs_url: Option<String>,
    example: Option<String>,
}

async fn add(context: &Context, fields: Fields, actor: Actor) -> Result<(), CliError> {
    let actor = actor.name()?;
    let client = context.connect().await?;
    let existing = client.describe().await?.into_iter().find(|entry| entry.key == fields.key);
    let (display_name, rules, docs_url, example) = existing
        .map(|entry| (Some(entry.display_name), Some(entry.rules), entry.docs_url, entry.example))
        .unwrap_or_default();
    let registration = Registration {
        display_name: fields.display_name.or(display_name).unwrap_or_else(|| fields.key.clone()),
        rules: fields.rules.or(rules).unwrap_or_else(|| json!({})),
        docs_url: fields.docs_url.or(docs_url),
        example: fields.example.or(example),
        key: fields.key,
    };
    let answer = client.register_integration(&registration, &actor).await?;
    client.close().await;
    context.output.print(&answer, |_| format!("{}: registered", registration.key))
}

async fn remove(context: &Context, key: &str, actor: Actor) -> Result<(), CliError> {
    let actor = actor.name()?;
    let client = context.connect().await?;
    let answer = client.unregister_integration(key, &actor).await?;
    client.close().await;
    context.output.print(&answer, |_| format!("{key}: removed from the catalog"))
}

async fn set_enabled(context: &Context, key: &str, enabled: bool, actor: Actor) -> Result<(), CliError> {
    let actor = actor.name()?;
    let client = context.connect().await?;
    let answer = client.set_enabled(key, enabled, &actor).await?;
    client.close().await;
    context.output.print(&answer, |_| format!("{key}: {}", if enabled { "enabled" } else { "disabled" }))
}

async fn keep_previous(context: &Context, key: &str, time: Duration, actor: Actor) -> Result<(), CliError> {
    let actor = actor.name()?;
    let client = context.connect().await?;
    let answer = client.set_keep_previous(key, time, &actor).await?;
    client.close().await;
    context.output.print(&answer, |_| {
        if time.as_secs() == 0 {
            return format!("{key}: no previous value is kept");
        }
        format!("{key}: a previous value is kept for {}", short(time))
    })
}
