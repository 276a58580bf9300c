//! `intcred show`

use crate::{
    cli_error::CliError,
    context::Context,
    output::{table, yes_or_no},
};
use intcred::{Client, CredentialRead, Description, Error, ErrorCode, Integration};
use integration_credentials_core::error::Refusal;
use serde_json::json;

pub async fn run(context: &Context, key: &str) -> Result<(), CliError> {
    let client = context.connect().await?;
    let integration = client.list().await?.into_iter().find(|integration| integration.key == key);
    let description = client.describe().await?.into_iter().find(|description| description.key == key);
    let reads = reads(&client, key).await?;
    client.close().await;
    let (Some(integration), Some(description)) = (integration, description) else {
        return Err(Refusal::integration_not_found().into());
    };
    let mut shown = json!(integration);
    if let (Some(shown), Some(more)) = (shown.as_object_mut(), json!(description).as_object_mut()) {
        shown.append(more);
        if let Some(reads) = &reads {
            shown.insert("reads".to_owned(), json!(reads));
        }
    }
    context.output.print(&shown, |_| human(&integration, &description, reads.as_deref().unwrap_or_default()))
}

/// Who has read the credential; `None` where the database has the SQL or the grants of an earlier release.
async fn reads(client: &Client, key: &str) -> Result<Option<Vec<CredentialRead>>, Error> {
    match client.reads(Some(key)).await {
        Ok(reads) => Ok(Some(reads)),
        Err(Error::ExtensionMissing { .. }) => Ok(None),
        Err(error) if error.code() == Some(ErrorCode::ForbiddenAdminScope) => Ok(None),
        Err(error) => Err(error),
    }
}

fn human(integration: &Integration, description: &Description, reads: &[CredentialRead]) -> String {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let sync = match (&description.sync_handler, &description.sync_mode) {
        (Some(handler), Some(mode)) => format!("{handler} ({mode})"),
        _ => "-".to_owned(),
    };
    let rows = [
        ("name", integration.display_name.clone()),
        ("enabled", yes_or_no(integration.is_enabled)),
        ("credential", yes_or_no(integration.has_credentials)),
        ("revision", integration.revision.to_string()),
        ("updated", or_none(&integration.updated_at.map(|moment| moment.to_string()))),
        ("expires", or_none(&integration.expires_at.map(|moment| moment.to_string()))),
        ("previous", if integration.has_previous { "kept" } else { "-" }.to_owned()),
        ("pending", if integration.has_pending { "staged" } else { "-" }.to_owned()),
        ("rules", description.rules.to_string()),
        ("validator", or_none(&description.validator)),
        ("sync", sync),
        ("docs", or_none(&description.docs_url)),
        ("example", or_none(&description.example)),
    ];
    let readers = reads.iter().map(|CredentialRead { role, revision, last_read_at, reads, .. }| {
        let text = format!("{role}, revision {revision}, {last_read_at}, {reads} in all");
        ["last read by".to_owned(), text]
    });
    let rows = rows.map(|(label, text)| [label.to_owned(), text]);
    table(["key", &integration.key], rows.into_iter().chain(readers))
}
