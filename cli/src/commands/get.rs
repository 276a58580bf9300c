//! `intcred get`

use crate::{cli_error::CliError, context::Context};
use intcred::Secret;
use serde::Serialize;
use std::{
    fs::File,
    io::{self, IsTerminal, Write, stdout},
    os::fd::AsFd,
};
use zeroize::Zeroizing;

pub async fn run(context: &Context, key: &str) -> Result<(), CliError> {
    let client = context.connect().await?;
    let value = client.get(key).await?;
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
    // Room for it if every byte has to be escaped: growing would leave a copy behind.
    let room = 32 + 6 * (key.len() + value.expose().len());
    let mut line = Zeroizing::new(Vec::with_capacity(room));
    serde_json::to_writer(&mut *line, &Shown { key, value: value.expose() })?;
    line.push(b'\n');
    unbuffered_stdout()?.write_all(&line)
}

/// Byte for byte, so that `intcred get KEY | app` hands over the value and nothing else.
fn write(value: &Secret) -> io::Result<()> {
    let mut unbuffered = unbuffered_stdout()?;
    unbuffered.write_all(value.expose().as_bytes())?;
    if unbuffered.is_terminal() { unbuffered.write_all(b"\n") } else { Ok(()) }
}

/// `Stdout` itself has a buffer that is never wiped.
fn unbuffered_stdout() -> io::Result<File> {
    Ok(File::from(stdout().as_fd().try_clone_to_owned()?))
}
