//! `intcred find`

use crate::{
    cli::{Actor, Value},
    cli_error::CliError,
    context::{Context, connect},
    input::read_value,
    output::table,
};

pub async fn run(context: &Context, from: &Value, actor: Actor) -> Result<(), CliError> {
    let actor = actor.name()?;
    let settings = context.settings()?;
    // Before connecting, because a prompt may take long.
    let value = read_value(from)?;
    let client = connect(&settings).await?;
    let found = client.find(&value, &actor).await?;
    drop(value);
    client.close().await;
    // JSON for a program, which tells an empty list from an error.
    if context.output.json || !found.is_empty() {
        context.output.print(&found, |found| {
            let rows = found.iter().map(|found| {
                [
                    found.org.clone(),
                    found.key.clone(),
                    found.which.as_str().to_owned(),
                    found.revision.map_or_else(String::new, |revision| revision.to_string()),
                ]
            });
            table(["ORG", "KEY", "VALUE", "REVISION"], rows)
        })?;
    }
    if found.is_empty() { Err(CliError::NotFound) } else { Ok(()) }
}
