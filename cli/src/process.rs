//! What becomes of this process's memory.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;

/// Keeps the memory of this process to itself, from now on: no core dump, and on Linux no debugger and no
/// `/proc/PID/mem` or `/proc/PID/environ` for other processes of the same user. Root still sees everything.
///
/// The `intcred` command does this when it starts. It concerns all of the process, so the library leaves it to the
/// service whether it wants it: afterwards crashes leave no core, and debuggers and profilers of the same user cannot
/// attach. A program that the process executes begins as dumpable again, with a limit of 0 for cores that it may raise.
pub fn make_undumpable() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    setrlimit(Resource::RLIMIT_CORE, 0, hard)?;
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(false)?;
    Ok(())
}
