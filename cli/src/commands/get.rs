//! `intcred get`

use crate::{context::Context, failure::Failure};
use intcred::Secret;
use serde_json::json;
use std::{
    fs::File,
    io::{self, IsTerminal, Write, stdout},
    os::fd::AsFd,
};

pub async fn run(context: &Context, key: &str) -> Result<(), Failure> {
    let client = context.connect().await?;
    let value = client.get(key).await?;
    client.close().await;
    if context.output.json {
        return context.output.line(&json!({"key": key, "value": value.expose()}));
    }
    write(&value).map_err(Failure::Output)
}

/// Byte for byte, so that `intcred get KEY | app` hands over the value and nothing else.
fn write(value: &Secret) -> io::Result<()> {
    // `Stdout` itself has a buffer that is never wiped.
    let mut unbuffered = File::from(stdout().as_fd().try_clone_to_owned()?);
    unbuffered.write_all(value.expose().as_bytes())?;
    if unbuffered.is_terminal() { unbuffered.write_all(b"\n") } else { Ok(()) }
}
