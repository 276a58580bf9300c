//! The source of the keyring's document: a file, or the output of a command.
//!
//! The messages go to the calling role, which may not see the path or the command, so they name neither.

use integration_credentials_core::keyring::MAX_DOCUMENT_BYTES;
use pgrx::pg_sys;
use std::ffi::{CStr, OsStr};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// How soon a cancel is noticed while the command runs.
const POLL_MILLISECONDS: i32 = 100;

/// Reads a file that only the server's user and root can read; a file of root may also be readable by its
/// group. Postgres has this rule for `ssl_key_file`, and platforms mount secrets by it. Symbolic links are
/// followed.
pub fn read_file(path: &CStr) -> Result<Zeroizing<Vec<u8>>, String> {
    let file = OpenOptions::new()
        .read(true)
        // A FIFO must not block the session; the type is checked below.
        .custom_flags(libc::O_NONBLOCK)
        .open(OsStr::from_bytes(path.to_bytes()))
        .map_err(|error| format!("cannot open the file ({})", error.kind()))?;
    let metadata = file
        .metadata()
        .map_err(|error| format!("cannot read the permissions of the file ({})", error.kind()))?;
    if !metadata.is_file() {
        return Err("the file is not a regular file".to_owned());
    }
    refuse_exposed(metadata.uid(), metadata.mode())?;
    read_all(file, || Ok(()))
}

fn refuse_exposed(owner: u32, mode: u32) -> Result<(), String> {
    const ROOT: u32 = 0;
    // SAFETY: geteuid cannot fail.
    let server_user = unsafe { libc::geteuid() };
    let (user, allowed) = match owner {
        _ if owner == server_user => ("the server's user", 0o600),
        ROOT => ("root", 0o640),
        _ => return Err("the owner of the file is neither the server's user nor root".to_owned()),
    };
    // Any permission of the owner is fine, as for ssl_key_file.
    if mode & 0o077 & !allowed == 0 {
        return Ok(());
    }
    let mode = mode & 0o7777;
    Err(format!("the file has permissions {mode:04o}; a file of {user} must have {allowed:04o} or less"))
}

/// Reads up to the limit into a buffer that never grows, because growing would leave a copy of a key behind.
fn read_all(
    mut source: impl Read,
    mut before_each: impl FnMut() -> Result<(), String>,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut document = Zeroizing::new(vec![0; MAX_DOCUMENT_BYTES]);
    let mut length = 0;
    loop {
        before_each()?;
        match source.read(&mut document[length..]) {
            Ok(0) if length == MAX_DOCUMENT_BYTES => {
                return Err(format!("its document is longer than {MAX_DOCUMENT_BYTES} bytes"));
            }
            Ok(0) => {
                document.truncate(length);
                return Ok(document);
            }
            Ok(read) => length += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("cannot read its document ({})", error.kind())),
        }
    }
}

/// A running command. Dropping it, as a cancel does, kills the command and all processes of its group.
struct Running {
    child: Child,
    /// Whether the child was waited for, after which its id may belong to another process.
    is_gone: bool,
}

impl Running {
    /// Handles a cancel. A session that is terminated exits without unwinding, so the command is killed
    /// first.
    fn check_for_interrupts(&mut self) {
        // SAFETY: a flag of the server.
        if unsafe { pg_sys::ProcDiePending } != 0 {
            self.kill();
        }
        pgrx::check_for_interrupts!();
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>, String> {
        let status = self.child.try_wait();
        let status = status.map_err(|error| format!("cannot wait for the command ({})", error.kind()))?;
        self.is_gone |= status.is_some();
        Ok(status)
    }

    fn kill(&mut self) {
        if let (false, Ok(group)) = (self.is_gone, i32::try_from(self.child.id())) {
            // SAFETY: the process group was made for this child.
            unsafe { libc::kill(-group, libc::SIGKILL) };
            let _ = self.child.wait();
            self.is_gone = true;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a shell command and returns its standard output.
pub fn run_command(command: &CStr) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut shell = Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg(OsStr::from_bytes(command.to_bytes()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Standard error may hold a key, and would go to the server's log.
        .stderr(Stdio::null())
        .process_group(0);
    // SAFETY: one system call, which marks the session's socket and data files to be closed at exec.
    unsafe {
        shell.pre_exec(|| {
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            Ok(())
        });
    }
    let child = shell.spawn().map_err(|error| format!("cannot start the command ({})", error.kind()))?;
    let mut running = Running { child, is_gone: false };
    let Some(output) = running.child.stdout.take() else {
        return Err("the command has no output".to_owned());
    };
    let descriptor = output.as_raw_fd();
    let deadline = Instant::now() + COMMAND_TIMEOUT;
    let document = read_all(output, || wait_readable(&mut running, descriptor, deadline))?;
    loop {
        running.check_for_interrupts();
        match running.try_wait()? {
            Some(status) if status.success() => return Ok(document),
            Some(status) => return Err(format!("the command failed ({status})")),
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            None => return Err(timed_out()),
        }
    }
}

fn timed_out() -> String {
    format!("the command took longer than {} seconds", COMMAND_TIMEOUT.as_secs())
}

fn wait_readable(running: &mut Running, descriptor: i32, deadline: Instant) -> Result<(), String> {
    loop {
        running.check_for_interrupts();
        if Instant::now() > deadline {
            return Err(timed_out());
        }
        let mut poll = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
        // SAFETY: an array of one descriptor, which is open as long as its reader.
        if unsafe { libc::poll(&raw mut poll, 1, POLL_MILLISECONDS) } > 0 {
            return Ok(());
        }
    }
}
