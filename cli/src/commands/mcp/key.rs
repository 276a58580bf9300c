//! `intcred mcp key`

use crate::{
    cli::{McpCommand, McpKey, McpKeyAdd, McpScope},
    cli_error::CliError,
    context::Context,
    mcp::{api_key::ApiKey, pepper::Pepper},
    output::{table, yes_or_no},
};
use intcred::internal::{NewLoginKey, Scope};
use postgres_protocol::password::scram_sha_256;
use serde_json::json;

impl McpCommand {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let Self::Key(command) = self;
        match command {
            McpKey::Add(given) => add(context, given).await,
            McpKey::List => list(context).await,
            McpKey::Revoke { id } => revoke(context, &id).await,
        }
    }
}

async fn add(context: &Context, given: McpKeyAdd) -> Result<(), CliError> {
    let pepper = Pepper::read(&given.pepper_file)?;
    let key = ApiKey::generate().map_err(|error| CliError::Start(error.into()))?;
    let password = pepper.password(&key).map_err(|error| CliError::Start(error.into()))?;
    let label = given.label.as_deref().unwrap_or(key.role());
    if label.chars().count() > 100 || label.chars().any(char::is_control) {
        return Err(CliError::usage(
            "the label is not text of up to 100 characters",
            "give a shorter --label",
        ));
    }
    let client = context.connect().await?;
    // The groups may be those of an earlier release.
    client.create_group_roles().await?;
    let verifier = scram_sha_256(password.expose().as_bytes());
    let role = NewLoginKey {
        role: key.role(),
        verifier: &verifier,
        org: &given.org,
        scope: given.scope.into(),
        label,
        valid_until: given.valid_until.map(|expiry| expiry.0),
        values: given.values,
    };
    client.add_login_key(&role).await?;
    client.close().await;
    // Once: the server keeps a verifier only.
    let shown = json!({"id": key.role(), "apiKey": key.expose(), "org": given.org, "label": label});
    context.output.print(&shown, |_| key.expose().to_owned())
}

impl From<McpScope> for Scope {
    fn from(scope: McpScope) -> Self {
        match scope {
            McpScope::Admin => Self::Admin,
            McpScope::User => Self::User,
        }
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let client = context.connect().await?;
    let keys = client.login_keys().await?;
    client.close().await;
    context.output.print(&keys, |keys| {
        let rows = keys.iter().map(|key| {
            [
                key.id.clone(),
                key.label.clone().unwrap_or_default(),
                key.org.clone().unwrap_or_default(),
                key.groups.join(", "),
                key.valid_until.map_or_else(String::new, |moment| moment.to_string()),
                yes_or_no(key.is_revoked),
            ]
        });
        table(["ID", "LABEL", "ORG", "GROUPS", "VALID UNTIL", "REVOKED"], rows)
    })
}

async fn revoke(context: &Context, id: &str) -> Result<(), CliError> {
    let client = context.connect().await?;
    let is_revoked = client.revoke_login_key(id).await?;
    client.close().await;
    if !is_revoked {
        return Err(CliError::usage("there is no key of this id", "`intcred mcp key list` shows the ids"));
    }
    context.output.print(&json!({"id": id, "isRevoked": true}), |_| format!("{id}: revoked"))
}
