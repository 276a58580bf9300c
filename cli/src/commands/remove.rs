//! `intcred remove`

use crate::{cli::Actor, context::Context, failure::Failure};

pub async fn run(context: &Context, key: &str, actor: Actor) -> Result<(), Failure> {
    let actor = actor.name()?;
    let client = context.connect().await?;
    let receipt = client.remove(key, &actor).await?;
    client.close().await;
    context.output.print(&receipt, |receipt| format!("{}: removed at {}", receipt.key, receipt.updated_at))
}
