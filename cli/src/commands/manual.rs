//! `intcred completions` and `intcred man`

use crate::{cli::Cli, failure::Failure};
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::{Write, stdout};

pub fn completions(shell: Shell) -> Result<(), Failure> {
    // The generator panics when it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "intcred", &mut script);
    print(&script)
}

pub fn man(path: &[String]) -> Result<(), Failure> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut command = &root;
    for name in path {
        command = command.find_subcommand(name).ok_or_else(|| {
            Failure::usage(format!("there is no command \"{}\"", path.join(" ")), "see --help")
        })?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page).map_err(Failure::Output)?;
    print(&page)
}

fn print(text: &[u8]) -> Result<(), Failure> {
    let mut stdout = stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).map_err(Failure::Output)
}
