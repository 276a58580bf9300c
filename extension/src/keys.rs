//! The keyring, as this session knows it: read at first use, and again after a configuration reload.

use crate::settings::{self, KeyringSource};
use integration_credentials_core::envelope::{self, EnvelopeError, Place};
use integration_credentials_core::error::{ErrorCode, Failure};
use integration_credentials_core::keyring::{Keyring, MAX_DOCUMENT_BYTES};
use integration_credentials_core::seal::{self, SealError, SealingKey};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, OsStr};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// How soon a cancel is noticed while the command runs.
const POLL_MILLISECONDS: i32 = 100;

/// How long a key that was not found is taken to be missing still: reading the keyring may be a call of a KMS.
const MISSING: Duration = Duration::from_secs(5);

struct Loaded {
    at_reload: pg_sys::TimestampTz,
    keyring: Rc<Keyring>,
}

thread_local! {
    static LOADED: RefCell<Option<Loaded>> = const { RefCell::new(None) };
    static MISSED_AT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Encrypts a value for its place.
pub fn encrypt(place: Place<'_>, value: &str) -> Result<Vec<u8>, Failure> {
    envelope::encrypt(&*keyring()?, place, value).map_err(|error| refusal(&error))
}

/// Decrypts what lies at a place.
pub fn decrypt(place: Place<'_>, ciphertext: &[u8]) -> Result<Zeroizing<String>, Failure> {
    with_known_key(
        |keyring| envelope::decrypt(keyring, place, ciphertext),
        |error| matches!(error, EnvelopeError::UnknownKey(_)),
    )?
    .map_err(|error| refusal(&error))
}

/// The key that values are sealed to now.
pub fn sealing_key() -> Result<SealingKey, Failure> {
    Ok(seal::sealing_key(&*keyring()?))
}

/// Opens a value that was sealed for an integration of an org.
pub fn open(org: &str, key: &str, sealed: &[u8]) -> Result<Zeroizing<String>, Failure> {
    with_known_key(
        |keyring| seal::open(keyring, org, key, sealed),
        |error| matches!(error, SealError::UnknownKey(_)),
    )?
    .map_err(|error| {
        Failure::new(
            ErrorCode::InvalidRequest,
            error.to_string(),
            "Ask sealing_key() for the org and the key of today, and seal the value again for this integration.",
        )
    })
}

/// Tries again with the keyring read anew when a key is unknown: another session may have seen one that was added.
fn with_known_key<T, E>(
    attempt: impl Fn(&Keyring) -> Result<T, E>,
    is_unknown: impl Fn(&E) -> bool,
) -> Result<Result<T, E>, Failure> {
    let result = attempt(&*keyring()?);
    let missed_lately = MISSED_AT.get().is_some_and(|at| at.elapsed() < MISSING);
    if missed_lately || !result.as_ref().is_err_and(&is_unknown) {
        return Ok(result);
    }
    let result = attempt(&*load()?);
    if result.as_ref().is_err_and(is_unknown) {
        MISSED_AT.set(Some(Instant::now()));
    }
    Ok(result)
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
    mut before_each: impl FnMut() -> Result<(), String>,
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
struct Running {
    child: Child,
    /// Waited for: its id may by now be another's.
    is_gone: bool,
}

impl Running {
    /// Takes up a cancel. A session that is told to end leaves without unwinding, so then the command goes first.
    fn check_for_interrupts(&mut self) {
        // SAFETY: a flag of the server.
        if unsafe { pg_sys::ProcDiePending } != 0 {
            self.kill();
        }
        pgrx::check_for_interrupts!();
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>, String> {
        let status = self.child.try_wait();
        let status = status.map_err(|error| format!("the command's end was not seen ({})", error.kind()))?;
        self.is_gone |= status.is_some();
        Ok(status)
    }

    fn kill(&mut self) {
        if let (false, Ok(group)) = (self.is_gone, i32::try_from(self.child.id())) {
            // SAFETY: the group was made for this child.
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

fn run_command(command: &CStr) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut shell = Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg(OsStr::from_bytes(command.to_bytes()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Whatever it says there could be a key, and would end up in the server's log.
        .stderr(Stdio::null())
        .process_group(0);
    // SAFETY: one system call, which marks the session's socket and data files to be closed at exec.
    unsafe {
        shell.pre_exec(|| {
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            Ok(())
        });
    }
    let child = shell.spawn().map_err(|error| format!("the command cannot be started ({})", error.kind()))?;
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
        // SAFETY: one descriptor, as announced; it is open as long as the reader that is waited for.
        if unsafe { libc::poll(&raw mut poll, 1, POLL_MILLISECONDS) } > 0 {
            return Ok(());
        }
    }
}
