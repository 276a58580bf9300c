//! `intcred completions` and `intcred man`

use crate::{cli::Cli, cli_error::CliError};
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::{Write, stdout};

pub fn completions(shell: Shell) -> Result<(), CliError> {
    // To memory, because the generator panics after an error of the output.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "intcred", &mut script);
    print(&script)
}

pub fn man(path: &[String]) -> Result<(), CliError> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut command = &root;
    for name in path {
        command = command.find_subcommand(name).ok_or_else(|| {
            CliError::usage(format!("there is no command \"{}\"", path.join(" ")), "see --help")
        })?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page).map_err(CliError::Output)?;
    print(&page)
}

fn print(text: &[u8]) -> Result<(), CliError> {
    let mut stdout = stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).map_err(CliError::Output)
}
