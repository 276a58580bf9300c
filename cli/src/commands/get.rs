//! `intcred get`

use crate::{cli, cli_error::CliError, context::Context};
use intcred::{Secret, Which};
use serde::Serialize;
use std::{
    fs::File,
    io::{self, IsTerminal, Write, stdout},
    os::fd::AsFd,
};
use zeroize::Zeroizing;

pub async fn run(context: &Context, key: &str, which: cli::Which) -> Result<(), CliError> {
    let client = context.connect().await?;
    let value = match which {
        cli::Which::Current => client.get(key).await?,
        cli::Which::Previous => client.get_which(key, Which::Previous).await?,
        cli::Which::Pending => client.get_which(key, Which::Pending).await?,
    };
    client.close().await;
    if context.output.json {
        return write_json(key, &value).map_err(CliError::Output);
    }
    write(&value).map_err(CliError::Output)
}

fn write_json(key: &str, value: &Secret) -> io::Result<()> {
    #[derive(Serialize)]
    struct Shown<'a> {
        key: &'a str,
        value: &'a str,
    }
    // Capacity for the case that every byte is escaped: a buffer that grows leaves a copy of its content
    // behind.
    let room = 32 + 6 * (key.len() + value.expose().len());
    let mut line = Zeroizing::new(Vec::with_capacity(room));
    serde_json::to_writer(&mut *line, &Shown { key, value: value.expose() })?;
    line.push(b'\n');
    unbuffered_stdout()?.write_all(&line)
}

/// Byte for byte, so that `app` gets only the value from `intcred get KEY | app`.
fn write(value: &Secret) -> io::Result<()> {
    let mut unbuffered = unbuffered_stdout()?;
    unbuffered.write_all(value.expose().as_bytes())?;
    if unbuffered.is_terminal() { unbuffered.write_all(b"\n") } else { Ok(()) }
}

/// Around `Stdout`, whose buffer is never wiped.
fn unbuffered_stdout() -> io::Result<File> {
    Ok(File::from(stdout().as_fd().try_clone_to_owned()?))
}
