//! The commands, each in a file of its own; `manual` has `completions` and `man`.

mod audit;
mod audit_proof;
mod catalog;
mod check;
mod doctor;
mod find;
mod get;
mod grant;
mod import;
mod keyring;
mod list;
mod listen;
mod manual;
#[cfg(feature = "mcp")]
mod mcp;
mod reads;
mod remove;
mod rotate;
mod seal;
mod set;
mod show;
mod status;
mod transition;

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
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { command } => manual::man(&command),
        Command::Seal(options) => seal::run(&context, &options),
        command => {
            let runtime = Builder::new_current_thread().enable_all().build().map_err(CliError::Start)?;
            runtime.block_on(run_connected(&context, command))
        }
    }
}

async fn run_connected(context: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Set(options) => set::run(context, options).await,
        Command::Rotate(options) => Box::pin(rotate::run(context, options)).await,
        Command::Status { key } => status::run(context, key.as_deref()).await,
        Command::Promote { key, guard, actor } => transition::promote(context, &key, &guard, actor).await,
        Command::Discard { key, actor } => transition::discard(context, &key, actor).await,
        Command::Rollback { key, guard, actor } => transition::rollback(context, &key, &guard, actor).await,
        Command::Retire { key, force, actor } => transition::retire(context, &key, force, actor).await,
        Command::Get { key, which } => get::run(context, &key, which).await,
        Command::Import(options) => import::run(context, options).await,
        Command::Find { value, actor } => find::run(context, &value, actor).await,
        Command::Check => check::run(context).await,
        Command::List { expiring } => list::run(context, expiring).await,
        Command::Show { key } => show::run(context, &key).await,
        Command::Remove { key, purge, actor } => remove::run(context, &key, purge, actor).await,
        Command::Catalog(command) => catalog::run(context, command).await,
        Command::Audit { limit, command: None } => audit::run(context, limit).await,
        Command::Audit { command: Some(command), .. } => run_audit(context, command).await,
        Command::Listen(options) => listen::run(context, options).await,
        Command::Doctor { fix, yes } => doctor::run(context, fix, yes).await,
        Command::Grant { role, to } => grant::run(context, role.zip(to)).await,
        Command::Keyring(command) => keyring::run(context, command).await,
        #[cfg(feature = "mcp")]
        Command::Mcp(options) => Box::pin(mcp::run(context, options)).await,
        // Run above, because they need no database.
        Command::Completions { .. } | Command::Man { .. } | Command::Seal(_) => Ok(()),
    }
}

async fn run_audit(context: &Context, command: Audit) -> Result<(), CliError> {
    match command {
        Audit::Reads { key, never } => reads::run(context, key.as_deref(), never).await,
        Audit::Head { follow } => audit_proof::head(context, follow).await,
        Audit::Verify { proof: Some(proof), head, public_key } => {
            audit_proof::verify_proof(context, &proof, head.as_deref(), public_key.as_deref())
        }
        Audit::Verify { head, .. } => audit_proof::verify(context, head.as_deref()).await,
        Audit::Prove { id } => audit_proof::prove(context, id).await,
        Audit::Export { follow, after } => audit_proof::export(context, follow, after).await,
        Audit::Prune { before } => audit_proof::prune(context, &before).await,
    }
}
