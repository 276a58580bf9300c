//! The commands that test a new value, and revoke an old one: with the value on standard input, and nowhere
//! else.

use crate::{
    shell::{self, Failed},
    terminal::log_line,
};
use intcred::Secret;
use integration_credentials_core::redact::REDACTED;
use std::{io, time::Duration};
use tokio::{io::AsyncReadExt, net::unix::pipe, time::timeout};
use zeroize::Zeroizing;

/// What is shown of a command's output, in bytes. The command can write more.
const SHOWN: usize = 64 << 10;
/// How long the last output may take from the pipe to here. A child of the command may keep the pipe open.
const LAST_OUTPUT: Duration = Duration::from_millis(200);

#[derive(Clone, Copy)]
pub enum Act {
    Test,
    Revoke,
}

impl Act {
    fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Revoke => "revoke",
        }
    }
}

pub struct Job<'a> {
    pub act: Act,
    /// The command, for `sh -c`.
    pub line: &'a str,
    pub key: &'a str,
    pub org: &'a str,
    pub limit: Duration,
}

impl Job<'_> {
    /// Runs the command to its end, and shows its output without the value.
    pub async fn run(&self, value: &Secret) -> Result<(), Failed> {
        let input = Zeroizing::new(value.expose().as_bytes().to_vec());
        let (reader, writer) = io::pipe()?;
        let mut reader = pipe::Receiver::from_owned_fd(reader.into())?;
        let mut command = shell::prepare(self.line);
        command
            .env("INTCRED_KEY", self.key)
            .env("INTCRED_ORG", self.org)
            .env("INTCRED_STEP", self.act.as_str())
            .stdout(writer.try_clone()?)
            .stderr(writer);
        let mut output = Zeroizing::new(Vec::with_capacity(SHOWN));
        let ended = {
            let running = shell::run(command, self.limit, input);
            let reading = read(&mut reader, &mut output);
            tokio::pin!(running, reading);
            tokio::select! {
                ended = &mut running => ended,
                () = &mut reading => running.await,
            }
        };
        let _ = timeout(LAST_OUTPUT, read(&mut reader, &mut output)).await;
        for line in without(&output, value).lines() {
            log_line(self.act.as_str(), line);
        }
        ended
    }
}

/// Reads to the end, and keeps what there is room for.
async fn read(from: &mut pipe::Receiver, into: &mut Vec<u8>) {
    let mut buffer = Zeroizing::new(vec![0; 4096]);
    while let Ok(count @ 1..) = from.read(&mut buffer[..]).await {
        let room = SHOWN.saturating_sub(into.len());
        into.extend_from_slice(&buffer[..count.min(room)]);
    }
}

/// The output without the value, also where the end of a full buffer cuts the value.
fn without(output: &[u8], value: &Secret) -> Zeroizing<String> {
    let text = Zeroizing::new(String::from_utf8_lossy(output).into_owned());
    // A command may print the value with its ends trimmed.
    let value = value.expose().trim();
    if value.is_empty() {
        return text;
    }
    let mut text = Zeroizing::new(text.replace(value, REDACTED));
    if output.len() >= SHOWN {
        let end = (1..value.len())
            .rev()
            .find(|&length| value.is_char_boundary(length) && text.ends_with(&value[..length]));
        let kept = text.len() - end.unwrap_or(0);
        text.truncate(kept);
        text.push_str("\n...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_shown_without_the_value_and_its_cut_beginning() {
        let value = Secret::new("hunter2-hunter2\n".to_owned());
        let shown = |output: &[u8]| without(output, &value).to_string();
        assert_eq!(shown(b"> hunter2-hunter2\nok\n"), "> <redacted>\nok\n");
        let full = format!("{}hunter2-hun", "x".repeat(SHOWN - 11));
        assert_eq!(shown(full.as_bytes()), format!("{}\n...", "x".repeat(SHOWN - 11)));
    }
}
