//! One run of a hook, with the event as input.

use super::{super::change::Change, failed::Failed};
use crate::shell;
use intcred::Secret;
use std::{
    io::{self, stderr},
    os::fd::AsFd,
    time::Duration,
};
use zeroize::Zeroizing;

/// Runs `sh -c command` to its end.
pub async fn run(
    command: &str,
    limit: Duration,
    change: &Change,
    value: Option<Secret>,
) -> Result<(), Failed> {
    let input = input(change, value.as_ref()).map_err(shell::Failed::Start)?;
    drop(value);
    let mut command = shell::prepare(command);
    command
        .env("INTCRED_EVENT", change.kind.as_str())
        .env("INTCRED_ORG", &change.target.org)
        .env("INTCRED_KEY", &change.target.key)
        .env("INTCRED_REVISION", change.revision.to_string())
        .env("INTCRED_AT", change.event.at.to_string())
        // Standard output is for the events.
        .stdout(stderr().as_fd().try_clone_to_owned().map_err(shell::Failed::Start)?);
    Ok(shell::run(command, limit, input).await?)
}

/// The event as a line, and below the value. One buffer for one write: if this process is killed, the hook
/// does not get a part of a value that fits the pipe.
fn input(change: &Change, value: Option<&Secret>) -> io::Result<Zeroizing<Vec<u8>>> {
    let line = serde_json::to_vec(&change.event)?;
    let value = value.map_or("", Secret::expose).as_bytes();
    // The final capacity: a buffer that grows leaves a copy of its content behind.
    let mut input = Zeroizing::new(Vec::with_capacity(line.len() + 1 + value.len()));
    input.extend_from_slice(&line);
    input.push(b'\n');
    input.extend_from_slice(value);
    Ok(input)
}
