//! `intcred import`: the credentials of a file, all of them or none.
//!
//! | module | concept |
//! | --- | --- |
//! | `file` | the entries of a .env or JSON file |
//! | `json` | the JSON form |
//! | `select` | which entries set which keys |

mod file;
mod json;
mod select;

use crate::{
    cli,
    cli_error::CliError,
    commands::set::words,
    context::{Context, connect},
    terminal::Progress,
};
use intcred::{Client, Error, ErrorCode, Secret, SetOptions};
use select::Selected;
use serde_json::json;

pub async fn run(context: &Context, given: cli::Import) -> Result<(), CliError> {
    let actor = given.actor.name()?;
    let settings = context.settings()?;
    let selected = select::select(file::read(&given.file)?, &given.map)?;
    let client = connect(&settings).await?;
    if given.dry_run {
        return dry_run(context, client, &selected, &actor).await;
    }
    let mut progress = Progress::new();
    let values: Vec<(&str, &Secret)> =
        selected.iter().map(|selected| (selected.key.as_str(), &selected.value)).collect();
    let set = client
        .set_all(&values, &actor, |done| {
            progress.show(&format!("{done}/{} credentials set, none committed yet", values.len()));
        })
        .await;
    progress.end();
    let receipts = set.map_err(|(index, source)| match index.and_then(|index| selected.get(index)) {
        Some(selected) => CliError::ImportRefused { place: name(selected, &source), source },
        None => source.into(),
    })?;
    client.close().await;
    context.output.print(&receipts, |receipts| {
        let saved =
            receipts.iter().map(|receipt| format!("{}: saved at {}", receipt.key, receipt.updated_at));
        saved.collect::<Vec<_>>().join("\n")
    })?;
    let failure = receipts.into_iter().find_map(|receipt| receipt.error);
    failure.map_or(Ok(()), |error| Err(CliError::SyncFailed(error.message)))
}

async fn dry_run(
    context: &Context,
    client: Client,
    selected: &[Selected],
    actor: &str,
) -> Result<(), CliError> {
    let mut progress = Progress::new();
    let mut lines = Vec::new();
    let mut found = Vec::new();
    for entry in selected {
        let Selected { place, key, value } = entry;
        match client.dry_run(key, value, actor, &SetOptions::default()).await {
            Ok(would_be) => {
                lines.push(format!("{key}: {}", words(would_be)));
                found.push(json!({"place": place.to_string(), "key": key, "wouldBe": would_be}));
            }
            Err(error) => {
                let code = error.code().filter(|code| *code != ErrorCode::ForbiddenAdminScope);
                let Some(code) = code else { return Err(error.into()) };
                lines.push(format!("{}: would be refused: {error}", name(entry, &error)));
                let key = names_the_key(&error).then_some(key);
                let refusal =
                    json!({"status": code.status(), "code": code.as_str(), "message": error.to_string()});
                found.push(json!({"place": place.to_string(), "key": key, "error": refusal}));
            }
        }
        progress.show(&format!("{}/{} values checked", found.len(), selected.len()));
    }
    progress.end();
    client.close().await;
    let refused = found.iter().filter(|entry| entry.get("error").is_some()).count();
    context.output.print(&found, |_| lines.join("\n"))?;
    if refused == 0 { Ok(()) } else { Err(CliError::WouldBeRefused(refused)) }
}

/// An entry, for people: by its key only where the catalog has that. Any other may be a misplaced secret.
fn name(entry: &Selected, error: &Error) -> String {
    let Selected { place, key, .. } = entry;
    if names_the_key(error) { format!("{key} ({place})") } else { place.to_string() }
}

fn names_the_key(error: &Error) -> bool {
    !matches!(error.code(), Some(ErrorCode::IntegrationNotFound | ErrorCode::InvalidRequest) | None)
}
