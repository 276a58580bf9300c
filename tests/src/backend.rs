//! What the process of a session has used, as Linux counts.

use std::{fs, time::Duration};

/// The most memory that a process has had of its own, in bytes. What it has touched of the memory that it shares is left
/// out: that grows with the buffers in which other sessions' work happened to be.
#[must_use]
pub fn peak_memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the session is still there");
    let kilobytes = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    kilobytes("VmHWM:").saturating_sub(kilobytes("RssShmem:")) * 1024
}

/// How long a process has been running, not counting the time that it waited for a processor: others use this machine.
#[must_use]
pub fn cpu_time(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("the session is still there");
    let nanoseconds = stat.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number"))
}
