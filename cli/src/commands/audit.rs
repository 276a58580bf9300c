//! `intcred audit`

use crate::{context::Context, failure::Failure, output::table};

pub async fn run(context: &Context, limit: u32) -> Result<(), Failure> {
    let client = context.connect().await?;
    let entries = client.audit(limit).await?;
    client.close().await;
    context.output.print(&entries, |entries| {
        let rows = entries.iter().map(|entry| {
            [
                entry.created_at.to_string(),
                entry.actor.clone(),
                entry.session_role.clone(),
                entry.action.clone(),
                entry.target_id.clone(),
                entry.metadata.to_string(),
            ]
        });
        table(["TIME", "ACTOR", "ROLE", "ACTION", "TARGET", "METADATA"], rows)
    })
}
