//! Reading a value from a hidden prompt, a pipe or a file, without leaving copies in memory.

use crate::{cli, cli_error::CliError};
use intcred::{ErrorCode, Secret, internal::read_bounded};
use integration_credentials_core::{error, limits::MAX_VALUE_CHARS};
use nix::sys::{
    pthread::pthread_kill,
    signal::{SigSet, SigmaskHow, Signal},
    termios::{SetArg, tcgetattr, tcsetattr},
};
use std::{
    fs::File,
    io::{ErrorKind, IsTerminal, stdin},
    mem::take,
    os::{fd::AsFd, unix::thread::JoinHandleExt},
    path::Path,
    process::exit,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};
use zeroize::{Zeroize, Zeroizing};

/// The longest value that any server allows, in bytes, and a newline.
const MAX_BYTES: usize = MAX_VALUE_CHARS * 4 + 1;
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// How to turn the input into a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Without the newline that `echo` and the Enter key append to a single line.
    Line,
    /// Byte for byte.
    Exact,
    /// Byte for byte, but a byte order mark, probably by an editor, is refused.
    File,
}

/// Reads the value of a credential, and checks its length and encoding.
pub fn read_value(from: &cli::Value) -> Result<Secret, CliError> {
    let form = |otherwise| if from.exact { Form::Exact } else { otherwise };
    match from.value_file.as_deref() {
        Some(path) if path != Path::new("-") => value(read_file(path, MAX_BYTES)?, form(Form::File)),
        _ if stdin().is_terminal() => prompt(form(Form::Line)),
        _ => value(read_file(Path::new("-"), MAX_BYTES)?, form(Form::Line)),
    }
}

/// Reads a file, or standard input for `-`, up to one byte more than `limit`.
pub fn read_file(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let (name, file) = if path == Path::new("-") {
        // Around `Stdin`, whose buffer is never wiped.
        (Path::new("standard input"), stdin().as_fd().try_clone_to_owned().map(File::from))
    } else {
        (path, File::open(path))
    };
    let failure = |source| CliError::File { path: name.to_owned(), source };
    read_bounded(file.map_err(failure)?, limit).map_err(failure)
}

fn prompt(form: Form) -> Result<Secret, CliError> {
    let _restored = RestoredTerminal::arm().map_err(|error| CliError::Start(error.into()))?;
    let ask = |prompt| match rpassword::prompt_password(prompt) {
        Ok(text) => Ok(Zeroizing::new(text)),
        // Ctrl-C, which the terminal does not turn into a signal meanwhile.
        Err(error) if error.kind() == ErrorKind::Interrupted => exit(128 + Signal::SIGINT as i32),
        Err(error) => Err(CliError::usage(
            format!("cannot prompt on the terminal: {error}"),
            "pass the value on standard input or with --value-file",
        )),
    };
    let first = ask("Value: ")?;
    if *first != *ask("Again: ")? {
        return Err(CliError::usage("the two values differ", "try again"));
    }
    check(first, form)
}

/// Turns echo on again when a signal ends the prompt. Until dropped, the signals end this process.
struct RestoredTerminal {
    is_over: Arc<AtomicBool>,
    watch: JoinHandle<()>,
    mask: SigSet,
}

impl RestoredTerminal {
    fn arm() -> nix::Result<Self> {
        let terminal = tcgetattr(stdin())?;
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        let mask = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let watch = std::thread::spawn({
            let is_over = is_over.clone();
            move || {
                let signal = signals.wait();
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                // The process ends either way.
                let _ = tcsetattr(stdin(), SetArg::TCSANOW, &terminal);
                exit(signal.map_or(1, |signal| 128 + signal as i32));
            }
        });
        Ok(Self { is_over, watch, mask })
    }
}

impl Drop for RestoredTerminal {
    /// Gives the signals back to whoever comes next: a command that goes on, and its children, which inherit
    /// the mask.
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // To that thread alone; it takes the signal, or one of the user's, and ends.
        let _ = pthread_kill(self.watch.as_pthread_t(), Signal::SIGTERM);
        let _ = self.mask.thread_set_mask();
    }
}

fn value(mut bytes: Zeroizing<Vec<u8>>, form: Form) -> Result<Secret, CliError> {
    if bytes.len() > MAX_BYTES {
        // The rest was not read, so the length is unknown. The server checks its own, lower limit.
        let message = format!("value has more than {MAX_VALUE_CHARS} characters");
        let hint = format!("Give value as text of 1 to {MAX_VALUE_CHARS} characters. No server allows more.");
        return Err(error::Refusal::new(ErrorCode::InvalidRequest, message, hint).into());
    }
    // A text of several lines keeps its last newline, because a key in PEM needs it. So does a line that ends
    // in CRLF.
    if form == Form::Line && is_one_line(&bytes) {
        bytes.pop();
    }
    let text = String::from_utf8(take(&mut *bytes)).map(Zeroizing::new).map_err(|malformed| {
        malformed.into_bytes().zeroize();
        CliError::usage("the value is not UTF-8", "encode a binary credential, for example as base64")
    })?;
    check(text, form)
}

/// Whether the only newline is the last byte, with no carriage return before it.
fn is_one_line(bytes: &[u8]) -> bool {
    let newline = bytes.iter().position(|&byte| byte == b'\n');
    newline.is_some_and(|at| at + 1 == bytes.len()) && !bytes.ends_with(b"\r\n")
}

fn check(text: Zeroizing<String>, form: Form) -> Result<Secret, CliError> {
    if form != Form::Exact && text.starts_with(BYTE_ORDER_MARK) {
        return Err(CliError::usage(
            "the value begins with a byte order mark, which an editor may have added",
            "save the value without the mark, or accept it with --exact",
        ));
    }
    if text.is_empty() {
        return Err(CliError::usage("the value is empty", "to remove a credential, use `intcred remove`"));
    }
    if text.contains('\0') {
        return Err(CliError::usage(
            "the value has a NUL character",
            "encode the value, because Postgres cannot store NUL",
        ));
    }
    Ok(Secret::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn read_back(bytes: &[u8], form: Form) -> Result<String, String> {
        value(read_bounded(bytes, MAX_BYTES).unwrap(), form)
            .map(|secret| secret.expose().to_owned())
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn the_newline_of_a_single_line_is_stripped_and_nothing_else() {
        for (given, line) in [
            ("a", "a"),
            ("a\n", "a"),
            ("\n\n", "\n\n"),
            ("a\r\n", "a\r\n"),
            ("a\n\n", "a\n\n"),
            ("\na", "\na"),
            ("a\nb\n", "a\nb\n"),
            ("a\r\nb\r\n", "a\r\nb\r\n"),
            ("a\r", "a\r"),
        ] {
            assert_eq!(read_back(given.as_bytes(), Form::Line).unwrap(), line);
            assert_eq!(read_back(given.as_bytes(), Form::File).unwrap(), given);
            assert_eq!(read_back(given.as_bytes(), Form::Exact).unwrap(), given);
        }
    }

    #[test]
    fn invalid_values_are_refused_without_showing_them() {
        for form in [Form::Line, Form::File, Form::Exact] {
            for (given, expected) in [
                (&b""[..], "the value is empty"),
                (b"hunter2\0", "the value has a NUL"),
                (b"hunter2\n\0", "the value has a NUL"),
                (b"hunter2\xff", "the value is not UTF-8"),
                (b"\xff\xfeh\0u\0n\0", "the value is not UTF-8"),
            ] {
                let message = read_back(given, form).unwrap_err();
                assert!(message.starts_with(expected) && !message.contains("hunter2"), "{message}");
            }
        }
        assert!(read_back(b"\n", Form::Line).unwrap_err().starts_with("the value is empty"));
        assert_eq!(read_back(b"\n", Form::File).unwrap(), "\n");
    }

    #[test]
    fn a_byte_order_mark_is_refused_unless_exact() {
        let marked = "\u{feff}hunter2";
        for form in [Form::Line, Form::File] {
            let message = read_back(marked.as_bytes(), form).unwrap_err();
            assert!(message.contains("byte order mark") && !message.contains("hunter2"), "{message}");
            assert_eq!(read_back("a\u{feff}".as_bytes(), form).unwrap(), "a\u{feff}");
        }
        assert_eq!(read_back(marked.as_bytes(), Form::Exact).unwrap(), marked);
    }

    #[test]
    fn the_longest_value_fits_and_an_endless_one_is_not_read_to_the_end() {
        for unit in ["a", "😀"] {
            let longest = unit.repeat(MAX_VALUE_CHARS);
            assert_eq!(read_back(format!("{longest}\n").as_bytes(), Form::Line).unwrap(), longest);
        }
        let longer = read_back(&vec![b'a'; MAX_BYTES + 1], Form::Line);
        assert_eq!(longer.unwrap_err(), "value has more than 1048576 characters");
        let endless = value(read_bounded(io::repeat(b'a'), MAX_BYTES).unwrap(), Form::Line);
        assert_eq!(endless.unwrap_err().to_string(), "value has more than 1048576 characters");
    }
}
