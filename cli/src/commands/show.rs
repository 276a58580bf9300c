//! `intcred show`

use crate::{
    cli_error::CliError,
    context::Context,
    output::{table, yes_or_no},
};
use intcred::{Description, Integration};
use integration_credentials_core::error::Refusal;
use serde_json::json;

pub async fn run(context: &Context, key: &str) -> Result<(), CliError> {
    let client = context.connect().await?;
    let integration = client.list().await?.into_iter().find(|integration| integration.key == key);
    let description = client.describe().await?.into_iter().find(|description| description.key == key);
    client.close().await;
    let (Some(integration), Some(description)) = (integration, description) else {
        return Err(Refusal::integration_not_found().into());
    };
    let mut shown = json!(integration);
    if let (Some(shown), Some(more)) = (shown.as_object_mut(), json!(description).as_object_mut()) {
        shown.append(more);
    }
    context.output.print(&shown, |_| human(&integration, &description))
}

fn human(integration: &Integration, description: &Description) -> String {
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
    table(["key", &integration.key], rows.map(|(label, text)| [label.to_owned(), text]))
}
