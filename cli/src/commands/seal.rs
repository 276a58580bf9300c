//! `intcred seal`

use crate::{
    cli,
    cli_error::CliError,
    context::Context,
    input::{read_file, read_value},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use intcred::SealingKey;
use serde_json::json;
use std::{
    io::{IsTerminal, stdin},
    path::Path,
};

/// Longer than any sealing key in JSON.
const MAX_KEY: usize = 16 << 10;

/// Without a connection.
pub fn run(context: &Context, given: &cli::Seal) -> Result<(), CliError> {
    let value_from_stdin = given.value.value_file.as_deref().is_none_or(|path| path == Path::new("-"));
    if given.to == Path::new("-") && value_from_stdin && !stdin().is_terminal() {
        return Err(CliError::usage(
            "the sealing key and the value cannot both be on standard input",
            "give one of them in a file, with --to or --value-file",
        ));
    }
    let malformed =
        || CliError::usage("--to is not a sealing key", "give the JSON that get_sealing_key answered");
    let document = read_file(&given.to, MAX_KEY)?;
    let to: SealingKey = serde_json::from_slice(&document).map_err(|_| malformed())?;
    let value = read_value(&given.value)?;
    let sealed = STANDARD.encode(to.seal(&given.key, &value)?);
    context.output.print(&json!({"key": given.key, "sealed": sealed}), |_| sealed.clone())
}
