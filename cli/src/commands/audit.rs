//! `intcred audit`

use crate::{cli_error::CliError, context::Context, output::table};
use intcred::AuditEntry;

/// The role that logged in and, where that is another, the role that called.
fn role(entry: &AuditEntry) -> String {
    let AuditEntry { session_role, acting_role, .. } = entry;
    if session_role == acting_role {
        session_role.clone()
    } else {
        format!("{session_role} as {acting_role}")
    }
}

pub async fn run(context: &Context, limit: u32) -> Result<(), CliError> {
    let client = context.connect().await?;
    let entries = client.audit(limit).await?;
    client.close().await;
    context.output.print(&entries, |entries| {
        let rows = entries.iter().map(|entry| {
            [
                entry.created_at.to_string(),
                entry.actor.clone(),
                role(entry),
                entry.action.clone(),
                entry.target_id.clone(),
                entry.metadata.to_string(),
            ]
        });
        table(["TIME", "ACTOR", "ROLE", "ACTION", "TARGET", "METADATA"], rows)
    })
}
