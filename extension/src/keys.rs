//! The keyring, as this session knows it: read at first use, and again after a configuration reload.

use crate::settings::{self, KeyringSource};
use integration_credentials_core::envelope::{self, EnvelopeError, Place};
use integration_credentials_core::error::{ErrorCode, Failure};
use integration_credentials_core::keyring::{Keyring, MAX_DOCUMENT_BYTES};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ffi::{CStr, OsStr};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// How soon a cancel is noticed while the command runs.
const POLL_MILLISECONDS: i32 = 100;

struct Loaded {
    at_reload: pg_sys::TimestampTz,
    keyring: Rc<Keyring>,
}

thread_local! {
    static LOADED: RefCell<Option<Loaded>> = const { RefCell::new(None) };
}

/// Encrypts a value for its place.
pub fn encrypt(place: Place<'_>, value: &str) -> Result<Vec<u8>, Failure> {
    envelope::encrypt(&*keyring()?, place, value).map_err(|error| refusal(&error))
}

/// Decrypts what lies at a place.
pub fn decrypt(place: Place<'_>, ciphertext: &[u8]) -> Result<Zeroizing<String>, Failure> {
    match envelope::decrypt(&*keyring()?, place, ciphertext) {
        // Another session may have seen a key that was added since this one read the keyring.
        Err(EnvelopeError::UnknownKey(_)) => envelope::decrypt(&*load()?, place, ciphertext),
        result => result,
    }
    .map_err(|error| refusal(&error))
}

fn keyring() -> Result<Rc<Keyring>, Failure> {
    let known = LOADED.with_borrow(|loaded| {
        loaded
            .as_ref()
            .filter(|loaded| loaded.at_reload == last_reload())
            .map(|loaded| loaded.keyring.clone())
    });
    known.map_or_else(load, Ok)
}

fn last_reload() -> pg_sys::TimestampTz {
    // SAFETY: a variable of the server, written when this process takes up a reload.
    unsafe { pg_sys::PgReloadTime }
}

fn load() -> Result<Rc<Keyring>, Failure> {
    let (document, setting) = match settings::keyring_source()? {
        KeyringSource::File(path) => (read_file(&path), "keyring_file"),
        KeyringSource::Command(command) => (run_command(&command), "keyring_command"),
    };
    let parsed = document.and_then(|document| Keyring::parse(&document).map_err(|error| error.to_string()));
    let keyring = Rc::new(parsed.map_err(|problem| unusable(&problem, setting))?);
    LOADED.set(Some(Loaded { at_reload: last_reload(), keyring: keyring.clone() }));
    Ok(keyring)
}

fn unusable(problem: &str, setting: &str) -> Failure {
    Failure::new(
        ErrorCode::EncryptionUnavailable,
        format!("the keyring cannot be used: {problem}"),
        format!("Correct integration_credentials.{setting} or what it names, then reload the configuration."),
    )
}

fn refusal(error: &EnvelopeError) -> Failure {
    let hint = match error {
        EnvelopeError::UnknownKey(_) => {
            "Put the missing key back into the keyring, or set the credential again."
        }
        EnvelopeError::NotAuthentic | EnvelopeError::Malformed => {
            "The keyring is another one than the row was written with, or the row was altered: restore the right \
             keyring, or set the credential again."
        }
        EnvelopeError::Encrypt => "Check the operating system's source of random bytes, then try again.",
    };
    Failure::new(ErrorCode::EncryptionUnavailable, error.to_string(), hint)
}

/// What is said of a problem goes to the caller, who may not know where the file is.
fn read_file(path: &CStr) -> Result<Zeroizing<Vec<u8>>, String> {
    let file = OpenOptions::new()
        .read(true)
        // A FIFO must not block the session; whether it is a file is checked below.
        .custom_flags(libc::O_NONBLOCK)
        .open(OsStr::from_bytes(path.to_bytes()))
        .map_err(|error| format!("the file cannot be opened ({})", error.kind()))?;
    let metadata = file.metadata().map_err(|error| error.kind().to_string())?;
    // SAFETY: geteuid cannot fail.
    let server_user = unsafe { libc::geteuid() };
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if metadata.uid() != server_user {
        return Err("the file belongs to another user than the server's".to_owned());
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(format!(
            "its permissions {:04o} let others in; they must be 0600 or 0400",
            metadata.mode() & 0o7777
        ));
    }
    read_all(file, || Ok(()))
}

/// Reads up to the limit into a buffer that never grows, so that no copy is left behind.
fn read_all(
    mut source: impl Read,
    before_each: impl Fn() -> Result<(), String>,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut document = Zeroizing::new(vec![0; MAX_DOCUMENT_BYTES]);
    let mut length = 0;
    loop {
        before_each()?;
        match source.read(&mut document[length..]) {
            Ok(0) if length == MAX_DOCUMENT_BYTES => {
                return Err(format!("it is longer than {MAX_DOCUMENT_BYTES} bytes"));
            }
            Ok(0) => {
                document.truncate(length);
                return Ok(document);
            }
            Ok(read) => length += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("it cannot be read ({})", error.kind())),
        }
    }
}

/// Ends the command and whatever it started, also when a cancel unwinds.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.0.id()) {
            // SAFETY: the group was made for this child, which has not been waited for.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
        let _ = self.0.wait();
    }
}

fn run_command(command: &CStr) -> Result<Zeroizing<Vec<u8>>, String> {
    let child = Command::new("/bin/sh")
        .arg("-c")
        .arg(OsStr::from_bytes(command.to_bytes()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Whatever it says there could be a key, and would end up in the server's log.
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("the command cannot be started ({})", error.kind()))?;
    let mut running = Running(child);
    let Some(output) = running.0.stdout.take() else {
        return Err("the command has no output".to_owned());
    };
    let descriptor = output.as_raw_fd();
    let deadline = Instant::now() + COMMAND_TIMEOUT;
    let document = read_all(output, || wait_readable(descriptor, deadline))?;
    let status = loop {
        pgrx::check_for_interrupts!();
        match running.0.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => return Err(timed_out()),
            Err(error) => return Err(format!("the command's end was not seen ({})", error.kind())),
        }
    };
    // Waited for, so its id may by now be another's.
    std::mem::forget(running);
    if status.success() { Ok(document) } else { Err(format!("the command failed ({status})")) }
}

fn timed_out() -> String {
    format!("the command took longer than {} seconds", COMMAND_TIMEOUT.as_secs())
}

fn wait_readable(descriptor: i32, deadline: Instant) -> Result<(), String> {
    loop {
        pgrx::check_for_interrupts!();
        if Instant::now() > deadline {
            return Err(timed_out());
        }
        let mut poll = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, as announced; it is open as long as the reader that is waited for.
        if unsafe { libc::poll(&raw mut poll, 1, POLL_MILLISECONDS) } > 0 {
            return Ok(());
        }
    }
}
