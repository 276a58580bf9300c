//! Cleans up after a test process, however it ends.
//!
//! A shared cluster sits in a static, which is never dropped, and a test process may be killed. So each
//! cluster has a small shell process that waits for the end of its standard input: the kernel closes that
//! pipe when the test process is gone, by return, panic, abort or SIGKILL.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Stops a server and removes its directory when dropped, or when the test process ends.
pub struct Janitor(Child);

impl Janitor {
    /// Takes over `dir`, and removes it at the end.
    pub fn hire(dir: &Path) -> Self {
        let shell = Command::new("sh")
            .args(["-c", include_str!("janitor.sh"), "janitor"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Out of the terminal's group: Ctrl-C ends the tests, but not the clean-up.
            .process_group(0)
            .spawn()
            .expect("a shell starts");
        Self(shell)
    }

    /// Sets the postmaster to stop at the end, if any.
    pub fn watch(&mut self, postmaster: Option<u32>) {
        let pid = postmaster.map(|pid| pid.to_string()).unwrap_or_default();
        let input = self.0.stdin.as_mut().expect("standard input is a pipe");
        // One write: the test process may be killed in the middle of two.
        input.write_all(format!("{pid}\n").as_bytes()).expect("the janitor listens");
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        // Closes the pipe first.
        self.0.wait().expect("the janitor is our child");
    }
}
