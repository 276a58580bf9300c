//! `intcred`, the command line of the Postgres extension `integration_credentials`: a thin binary over the
//! library.

mod cli;
mod cli_error;
mod commands;
mod context;
mod exit_status;
mod input;
#[cfg(feature = "mcp")]
mod mcp;
mod output;
mod shell;
mod signals;
mod terminal;
mod time;

use cli_error::CliError;
use std::process::ExitCode;

fn main() -> ExitCode {
    // First, because the arguments and the environment may hold a password.
    let started = intcred::make_undumpable().map_err(CliError::Start);
    match started.and_then(|()| cli::parse()).and_then(commands::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
