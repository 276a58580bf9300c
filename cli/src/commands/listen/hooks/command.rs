//! One run of a hook: a process group with the event as input and a time limit, of which no process stays
//! behind.

use super::{super::change::Change, failed::Failed};
use intcred::Secret;
use nix::{
    sys::signal::{
        Signal::{self, SIGKILL, SIGTERM},
        killpg,
    },
    unistd::Pid,
};
use std::{
    env,
    ffi::OsStr,
    future::pending,
    io::{self, stderr},
    os::fd::AsFd,
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, ChildStdin, Command},
    time::{sleep, timeout},
};
use zeroize::Zeroizing;

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// Variables of systemd for this process only, and the directory with the password.
const OF_SYSTEMD: [&str; 4] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY"];

/// Runs `sh -c command` to its end.
pub async fn run(
    command: &str,
    limit: Duration,
    change: &Change,
    value: Option<Secret>,
) -> Result<(), Failed> {
    let input = input(change, value.as_ref()).map_err(Failed::Start)?;
    drop(value);
    let mut group = Group(prepare(command, change).map_err(Failed::Start)?.spawn().map_err(Failed::Start)?);
    let stdin = group.0.stdin.take();
    // Never ready: the hook ends when its first process does, even if a child keeps the input open unread.
    let feeding = async {
        feed(stdin, input).await;
        pending().await
    };
    let ended = async {
        tokio::select! {
            status = group.0.wait() => status,
            never = feeding => never,
        }
    };
    match timeout(limit, ended).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(Failed::Exit(status)),
        Ok(Err(error)) => Err(Failed::Start(error)),
        Err(_) => {
            group.signal(SIGTERM);
            // Not `wait`, which would free the process group's id before the SIGKILL.
            sleep(GRACE).await;
            Err(Failed::TimedOut(limit))
        }
    }
}

fn prepare(line: &str, change: &Change) -> io::Result<Command> {
    let mut command = Command::new("sh");
    command.args(["-c", line]);
    for (name, _) in env::vars_os().filter(|(name, _)| is_ours(name)) {
        command.env_remove(name);
    }
    command
        .env("INTCRED_EVENT", change.kind.as_str())
        .env("INTCRED_ORG", &change.target.org)
        .env("INTCRED_KEY", &change.target.key)
        .env("INTCRED_REVISION", change.revision.to_string())
        .env("INTCRED_AT", change.event.at.to_string())
        .stdin(Stdio::piped())
        // Standard output is for the events.
        .stdout(stderr().as_fd().try_clone_to_owned()?)
        .process_group(0)
        .kill_on_drop(true);
    Ok(command)
}

/// Whether a variable is a connection setting, possibly a password, or of systemd.
fn is_ours(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"PG") || OF_SYSTEMD.iter().any(|ours| name == *ours)
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

/// Writes the input, closes the pipe, and wipes the input. A hook may not read all of it.
async fn feed(stdin: Option<ChildStdin>, input: Zeroizing<Vec<u8>>) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(&input).await;
    }
}

/// The process group of a hook, killed when dropped before the first process has been waited for.
struct Group(Child);

impl Group {
    fn signal(&self, signal: Signal) {
        // `None` after `wait`, because the id may be another process's by then.
        if let Some(leader) = self.0.id().and_then(|id| id.try_into().ok()) {
            // Fails if all processes have ended.
            let _ = killpg(Pid::from_raw(leader), signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(SIGKILL);
    }
}
