//! `intcred audit reads`

use crate::{cli_error::CliError, context::Context, output::table};
use intcred::{CredentialRead, Integration};
use std::collections::HashSet;

pub async fn run(context: &Context, key: Option<&str>, never: bool) -> Result<(), CliError> {
    let client = context.connect().await?;
    let integrations = if never { client.list().await? } else { Vec::new() };
    let reads = client.reads(key).await?;
    client.close().await;
    if never {
        let unread = unread(integrations, &reads, key);
        return context.output.print(&unread, |unread| {
            let rows = unread.iter().map(|integration| {
                let updated = integration.updated_at.map(|moment| moment.to_string());
                [integration.key.clone(), integration.revision.to_string(), updated.unwrap_or_default()]
            });
            table(["KEY", "REVISION", "UPDATED"], rows)
        });
    }
    context.output.print(&reads, |reads| {
        let rows = reads.iter().map(|read| {
            [
                read.key.clone(),
                read.role.clone(),
                read.revision.to_string(),
                read.last_read_at.to_string(),
                read.reads.to_string(),
            ]
        });
        table(["KEY", "ROLE", "REVISION", "LAST READ", "READS"], rows)
    })
}

/// The integrations whose credential no role has read.
fn unread(integrations: Vec<Integration>, reads: &[CredentialRead], key: Option<&str>) -> Vec<Integration> {
    let read: HashSet<_> = reads.iter().map(|read| read.key.as_str()).collect();
    let is_unread = |integration: &Integration| {
        integration.has_credentials
            && key.is_none_or(|key| key == integration.key)
            && !read.contains(integration.key.as_str())
    };
    integrations.into_iter().filter(is_unread).collect()
}
