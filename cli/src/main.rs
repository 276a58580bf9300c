//! `intcred`, the command line of the `integration_credentials` Postgres extension: a thin shell around the library.

mod cli;
mod commands;
mod context;
mod failure;
mod input;
mod output;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::parse().and_then(commands::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
