//! One run of a shell command: a process group with an input and a time limit, of which no process stays
//! behind.

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
    io,
    process::{ExitStatus, Stdio},
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

/// Why a run failed. Never shows the input.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    #[error("{0}")]
    Exit(ExitStatus),
    #[error("killed after {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// Prepares `sh -c line`, without this process's own settings in its environment. Standard output and
/// standard error are the caller's to choose.
pub fn prepare(line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]);
    for (name, _) in env::vars_os().filter(|(name, _)| is_ours(name)) {
        command.env_remove(name);
    }
    command
}

/// Runs a prepared command to its end. It need not read its input.
pub async fn run(mut command: Command, limit: Duration, input: Zeroizing<Vec<u8>>) -> Result<(), Failed> {
    command.stdin(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut group = Group(command.spawn()?);
    // With its copies of the ends of pipes.
    drop(command);
    let stdin = group.0.stdin.take();
    // Never ready: the command ends when its first process does, even if a child keeps the input open unread.
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

/// Whether a variable is a connection setting, possibly a password, or of systemd.
fn is_ours(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"PG") || OF_SYSTEMD.iter().any(|ours| name == *ours)
}

/// Writes the input, closes the pipe, and wipes the input.
async fn feed(stdin: Option<ChildStdin>, input: Zeroizing<Vec<u8>>) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(&input).await;
    }
}

/// The process group of a command, killed when dropped before the first process has been waited for.
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
