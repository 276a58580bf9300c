//! One run of a hook: a process group that gets the event, has its time, and leaves nothing of itself behind.

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

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// What systemd tells this process alone, and where it put the password.
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
    // That all is written is not the end, nor need all be: a child of the hook may have its input open, and not read.
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
            // All of it: to wait for the first process would free the number that the group goes by.
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

/// A setting of the connection, which may be its password, or of systemd.
fn is_ours(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"PG") || OF_SYSTEMD.iter().any(|ours| name == *ours)
}

/// The event as a line, and below it the value. In one piece, which a pipe takes at once: should this process be killed
/// meanwhile, the hook does not see a part of the value.
fn input(change: &Change, value: Option<&Secret>) -> io::Result<Zeroizing<Vec<u8>>> {
    let line = serde_json::to_vec(&change.event)?;
    let value = value.map_or("", Secret::expose).as_bytes();
    // As long as it will be, so that no copy of it stays behind.
    let mut input = Zeroizing::new(Vec::with_capacity(line.len() + 1 + value.len()));
    input.extend_from_slice(&line);
    input.push(b'\n');
    input.extend_from_slice(value);
    Ok(input)
}

/// Writes what the hook is to read, closes its standard input, and wipes it. A hook need not read it.
async fn feed(stdin: Option<ChildStdin>, input: Zeroizing<Vec<u8>>) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(&input).await;
    }
}

/// The processes of a hook. Dropped before the first of them was waited for, it kills them all.
struct Group(Child);

impl Group {
    fn signal(&self, signal: Signal) {
        // Once it was waited for it has no id, for then its number may be another's.
        if let Some(leader) = self.0.id().and_then(|id| id.try_into().ok()) {
            // It fails if all of them are gone, which is as good.
            let _ = killpg(Pid::from_raw(leader), signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(SIGKILL);
    }
}
