//! Discards everything that a validator or sync handler sends to the client, standard output or standard
//! error.
//!
//! Settings do not suffice: RAISE INFO always reaches the client, libpq writes the notices of a foreign
//! server to standard error, and a language or a program prints to either stream. Both streams may be the
//! server's log. A buffer that is not empty when the function has returned would be printed later, so every
//! buffer is flushed before.

use crate::pg::error::Raised;
use pgrx::pg_sys;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// Silence until dropped.
pub struct Silence {
    client: pg_sys::CommandDest::Type,
    _stderr: Muted,
    stdout: Muted,
}

impl Silence {
    /// Begins.
    pub fn begin() -> Self {
        flush_stdio();
        Self::mute().unwrap_or_else(|error| {
            Raised::internal(format!("cannot redirect standard output and standard error: {error}")).throw()
        })
    }

    fn mute() -> io::Result<Self> {
        let nowhere = File::options().write(true).open("/dev/null")?;
        let stderr = Muted::new(libc::STDERR_FILENO, nowhere.as_fd())?;
        let stdout = Muted::new(libc::STDOUT_FILENO, nowhere.as_fd())?;
        // SAFETY: a variable of this process, which the destructor restores.
        unsafe {
            let client = pg_sys::whereToSendOutput;
            pg_sys::whereToSendOutput = pg_sys::CommandDest::DestNone;
            Ok(Self { client, _stderr: stderr, stdout })
        }
    }

    /// Leaves standard output silent for the rest of the session, because a language could not flush its
    /// buffer.
    pub fn keep_stdout(&mut self) {
        self.stdout.was = None;
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        flush_stdio();
        // SAFETY: the value read in `mute`.
        unsafe { pg_sys::whereToSendOutput = self.client };
    }
}

/// A descriptor redirected to /dev/null, also for programs that the function has started.
struct Muted {
    number: c_int,
    was: Option<OwnedFd>,
}

impl Muted {
    fn new(number: c_int, nowhere: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: descriptors, by number; only `muted` owns the copy, and exec closes it.
        unsafe {
            let copy = libc::fcntl(number, libc::F_DUPFD_CLOEXEC, libc::STDERR_FILENO + 1);
            if copy < 0 {
                return Err(io::Error::last_os_error());
            }
            let muted = Self { number, was: Some(OwnedFd::from_raw_fd(copy)) };
            redirect(number, nowhere)?;
            Ok(muted)
        }
    }
}

impl Drop for Muted {
    fn drop(&mut self) {
        // A descriptor that cannot be restored stays silent, which is safe.
        if let Some(was) = self.was.take() {
            let _ = redirect(self.number, was.as_fd());
        }
    }
}

fn redirect(number: c_int, to: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: two open descriptors.
    if unsafe { libc::dup2(to.as_raw_fd(), number) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Opens the two descriptors in the postmaster if they are closed. Otherwise the next data file that a
/// session opens would get such a number, and be silenced.
pub fn reserve_descriptors() {
    for number in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: descriptors, by number. open returns the lowest free number, and dup2 copies it to the
        // wanted one.
        unsafe {
            if libc::fcntl(number, libc::F_GETFD) < 0 {
                let nowhere = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
                if nowhere >= 0 && nowhere != number {
                    libc::dup2(nowhere, number);
                    libc::close(nowhere);
                }
            }
        }
    }
}

/// Flushes the buffers of the C library and of Tcl, which the whole process shares.
fn flush_stdio() {
    // SAFETY: NULL stands for all streams.
    unsafe { libc::fflush(ptr::null_mut()) };
    for number in [TCL_STDOUT, TCL_STDERR] {
        // SAFETY: functions of Tcl, of these types, which any code of this process may call.
        unsafe {
            if let (Some(channel), Some(flush)) = (symbol(c"Tcl_GetStdChannel"), symbol(c"Tcl_Flush")) {
                let channel = std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int) -> *mut c_void>(
                    channel,
                )(number);
                if !channel.is_null() {
                    std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void) -> c_int>(flush)(
                        channel,
                    );
                }
            }
        }
    }
}

/// Of tcl.h.
const TCL_STDOUT: c_int = 1 << 2;
const TCL_STDERR: c_int = 1 << 3;

/// The symbol of this name in any loaded library. Postgres loads libraries with `RTLD_GLOBAL`, and never
/// unloads them.
fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a C string.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!symbol.is_null()).then_some(symbol)
}

type Handler = unsafe extern "C-unwind" fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum;

/// A language with buffers of its own, and the code that flushes them.
struct Language {
    /// The symbol of its DO handler, which exists when its library is loaded.
    handler: &'static CStr,
    /// The name of the language, where the handler needs it.
    name: Option<&'static CStr>,
    code: &'static CStr,
}

/// Trusted Perl cannot print, so only plperlu is here.
const LANGUAGES: [Language; 2] = [
    Language {
        handler: c"plpython3_inline_handler",
        name: None,
        code: c"import sys
for stream in (sys.__stdout__, sys.__stderr__, sys.stdout, sys.stderr):
    if hasattr(stream, 'flush') and not getattr(stream, 'closed', False):
        stream.flush()",
    },
    Language {
        handler: c"plperlu_inline_handler",
        name: Some(c"plperlu"),
        // Perl flushes a handle when its autoflush ($|) is switched on.
        code: c"my $selected = select;
for my $handle (*STDOUT, *STDERR) { select $handle; my $was = $|; $| = 1; $| = $was; }
select $selected;",
    },
];

/// Flushes the buffers of the languages that this session has used. To be called in the sandbox, because a
/// function may have replaced a stream by code of its own.
pub fn flush_languages() {
    for language in &LANGUAGES {
        if let Some(handler) = language.loaded() {
            language.flush(handler);
        }
    }
}

/// Whether this session has used a language with buffers.
pub fn has_languages() -> bool {
    LANGUAGES.iter().any(|language| language.loaded().is_some())
}

impl Language {
    fn loaded(&self) -> Option<Handler> {
        // SAFETY: a handler is a function of this type.
        symbol(self.handler).map(|symbol| unsafe { std::mem::transmute::<*mut c_void, Handler>(symbol) })
    }

    fn flush(&self, handler: Handler) {
        // SAFETY: a constant name.
        let oid = self.name.map(|name| unsafe { pg_sys::get_language_oid(name.as_ptr(), true) });
        if oid == Some(pg_sys::InvalidOid) {
            return;
        }
        let mut block = pg_sys::InlineCodeBlock {
            type_: pg_sys::NodeTag::T_InlineCodeBlock,
            source_text: self.code.as_ptr().cast::<c_char>().cast_mut(),
            langOid: oid.unwrap_or(pg_sys::InvalidOid),
            langIsTrusted: false,
            atomic: true,
        };
        // SAFETY: the argument that DO passes to its handler, which reads it.
        unsafe {
            pg_sys::DirectFunctionCall1Coll(
                Some(handler),
                pg_sys::InvalidOid,
                pg_sys::Datum::from(&raw mut block),
            );
        }
    }
}
