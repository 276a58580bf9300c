//! `intcred check`

use crate::{cli_error::CliError, context::Context, output::table};

pub async fn run(context: &Context) -> Result<(), CliError> {
    let client = context.connect().await?;
    let broken = client.check_credentials().await?;
    client.close().await;
    context.output.print(&broken, |broken| {
        if broken.is_empty() {
            return "every value can be decrypted".to_owned();
        }
        let rows = broken.iter().map(|value| {
            [
                value.key.clone(),
                value.which.as_str().to_owned(),
                value.key_id.clone().unwrap_or_default(),
                value.error.clone(),
            ]
        });
        table(["KEY", "VALUE", "KEY ID", "ERROR"], rows)
    })?;
    if broken.is_empty() { Ok(()) } else { Err(CliError::Undecryptable(broken.len())) }
}
