//! `intcred keyring`: the keyring file of the server, and the rotation of its keys.
//!
//! | module | concept |
//! | --- | --- |
//! | `file` | the keyring file and its archive, replaced atomically |
//! | `servers` | the keys that the servers have, and need |
//! | `rotate` | `use`, `retire` and `restore` |
//! | `status` | `status`: the file joined with the servers |
//! | `check`, `dump` | `check`: what a server or a dump cannot decrypt; reading a dump |
//! | `reencrypt` | `reencrypt`, with its progress |

mod check;
mod dump;
mod file;
mod reencrypt;
mod rotate;
mod servers;
mod status;

use crate::{cli, cli_error::CliError, context::Context};
use file::Locked;
use integration_credentials_core::keyring::Keyring;
use serde_json::json;
use std::path::Path;

pub async fn run(context: &Context, command: cli::Keyring) -> Result<(), CliError> {
    match command {
        cli::Keyring::Generate { out } => print(context, &out, &file::generate(&out)?, ""),
        cli::Keyring::Add { file } => {
            let mut locked = Locked::open(&file)?;
            let added = locked.keyring.add_key().map_err(file::malformed(&file))?.to_owned();
            locked.write()?;
            let next = format!(
                "; {added} only decrypts, until every server has it and you run `intcred keyring use`"
            );
            print(context, &file, &locked.keyring, &next)
        }
        cli::Keyring::Use { file, id } => rotate::use_key(context, &file, &id).await,
        cli::Keyring::Reencrypt { batch } => reencrypt::run(context, batch).await,
        cli::Keyring::Retire { file, id } => rotate::retire(context, &file, &id).await,
        cli::Keyring::Restore { file, id } => rotate::restore(context, &file, &id),
        cli::Keyring::Status { file } => status::run(context, file.as_deref()).await,
        cli::Keyring::Check { dump: Some(dump), keyring } => check::dump(context, &dump, keyring.as_deref()),
        cli::Keyring::Check { dump: None, .. } => check::server(context).await,
    }
}

/// Prints the keyring as it is now, and what to do next.
fn print(context: &Context, path: &Path, keyring: &Keyring, next: &str) -> Result<(), CliError> {
    let keys: Vec<_> = keyring.key_ids().collect();
    let result = json!({"file": path, "primary": keyring.primary_id(), "keys": keys});
    context.output.print(&result, |_| {
        format!("{}: {} key(s), encrypting with {}{next}", path.display(), keys.len(), keyring.primary_id())
    })
}
