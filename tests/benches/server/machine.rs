//! What was measured on, and keeping it awake.

use aho_corasick::AhoCorasick;
use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tests::{Cluster, document::root, installation::Installation};

/// Keeps the processors out of deep sleep, from which a virtual one takes long to wake, as long as it is held.
pub struct Awake(std::io::Result<File>);

impl Awake {
    /// Asks the kernel, which grants it to root only.
    pub fn hold() -> Self {
        let ask = || {
            let mut device = File::options().write(true).open("/dev/cpu_dma_latency")?;
            // Microseconds, as an int.
            device.write_all(&0_i32.to_ne_bytes())?;
            Ok(device)
        };
        Self(ask())
    }
}

/// Names and values, in the order of the report.
pub async fn facts(cluster: &Cluster, awake: &Awake) -> Vec<(&'static str, String)> {
    let processors = std::thread::available_parallelism().map_or(0, Into::into);
    let virtual_one = if line("/proc/cpuinfo", "flags").contains("hypervisor") { ", virtual" } else { "" };
    let superuser = cluster.named_database("postgres").superuser().await;
    let version = superuser.query_one("SHOW server_version", &[]).await.expect("a version");
    vec![
        (
            "measured",
            format!(
                "{}, commit {}",
                output("date", &["-u", "+%F"]),
                output("git", &["describe", "--always", "--dirty"])
            ),
        ),
        ("processor", format!("{processors} x {}{virtual_one}", line("/proc/cpuinfo", "model name"))),
        ("memory", line("/proc/meminfo", "MemTotal")),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("clock", read("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        ("8 KiB to the disk, with fdatasync", format!("{:.0?}, the median of 200", disk(cluster.dir()))),
        ("load before", read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")),
        (
            "/dev/cpu_dma_latency",
            awake.0.as_ref().map_or_else(|error| format!("not held: {error}"), |_| "held at 0".into()),
        ),
        ("Postgres", version.get(0)),
        (
            "extension",
            if is_debug_build() { "DEBUG BUILD: the numbers say nothing" } else { "release build" }.into(),
        ),
    ]
}

/// What a program says.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(root()).output();
    output.map_or_else(
        |error| error.to_string(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| error.to_string()).trim().into()
}

/// The value in the first line `name: value`.
fn line(path: &str, name: &str) -> String {
    let text = read(path);
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    found.unwrap_or("unknown").trim().into()
}

/// What a commit waits for at the least.
fn disk(dir: &Path) -> Duration {
    let path = dir.join("fsync");
    let mut file = File::create(&path).expect("a file");
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            let began = Instant::now();
            file.write_all(&[0; 8192]).and_then(|()| file.sync_data()).expect("the disk takes it");
            began.elapsed()
        })
        .collect();
    fs::remove_file(path).expect("the file was there");
    times.sort();
    times[times.len() / 2]
}

/// A release build has no section of debug information (see Cargo.toml), a debug build has.
fn is_debug_build() -> bool {
    let library = fs::read(Installation::find().extension_library()).expect("the library is readable");
    AhoCorasick::new([".debug_info\0"]).expect("one needle").is_match(&library)
}
