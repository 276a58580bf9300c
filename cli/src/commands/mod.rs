//! The commands, each in a file of its own; `manual` has `completions` and `man`.

mod audit;
mod catalog;
mod doctor;
mod get;
mod grant;
mod keyring;
mod list;
mod listen;
mod manual;
mod reads;
mod remove;
mod set;
mod show;

use crate::{
    cli::{Audit, Cli, Command},
    cli_error::CliError,
    context::Context,
};
use tokio::runtime::Builder;

/// Runs the command that the arguments name.
pub fn run(cli: Cli) -> Result<(), CliError> {
    let context = Context::new(&cli);
    match cli.command {
        Command::Keyring(command) => keyring::run(&context, command),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { command } => manual::man(&command),
        command => {
            let runtime = Builder::new_current_thread().enable_all().build().map_err(CliError::Start)?;
            runtime.block_on(run_connected(&context, command))
        }
    }
}

async fn run_connected(context: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Set { key, value_file, exact, plain, actor } => {
            let value = set::Value { file: value_file.as_deref(), exact, plain };
            set::run(context, &key, &value, actor).await
        }
        Command::Get { key } => get::run(context, &key).await,
        Command::List => list::run(context).await,
        Command::Show { key } => show::run(context, &key).await,
        Command::Remove { key, actor } => remove::run(context, &key, actor).await,
        Command::Catalog(command) => catalog::run(context, command).await,
        Command::Audit { limit, command: None } => audit::run(context, limit).await,
        Command::Audit { command: Some(Audit::Reads { key, never }), .. } => {
            reads::run(context, key.as_deref(), never).await
        }
        Command::Listen(options) => listen::run(context, options).await,
        Command::Doctor { fix, yes } => doctor::run(context, fix, yes).await,
        Command::Grant { role, to } => grant::run(context, role.zip(to)).await,
        // Run above, because they need no database.
        Command::Keyring(_) | Command::Completions { .. } | Command::Man { .. } => Ok(()),
    }
}
