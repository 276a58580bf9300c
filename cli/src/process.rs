//! Protection of the process's memory.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;

/// Protects the memory of this process: no core dump and, on Linux, no debugger and no `/proc/PID/mem` or
/// `/proc/PID/environ` for other processes of the same user. Root still has access.
///
/// `intcred` calls this when it starts. The library does not, because the whole process is affected: a crash
/// leaves no core dump, and debuggers and profilers of the same user cannot attach. A program that the
/// process executes is dumpable again; its limit for core dumps is 0, and the program may raise it.
///
/// # Errors
/// Those of `getrlimit`, `setrlimit` and `prctl`.
pub fn make_undumpable() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    setrlimit(Resource::RLIMIT_CORE, 0, hard)?;
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(false)?;
    Ok(())
}
