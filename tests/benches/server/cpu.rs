//! The CPU time of a server, with all of its processes.

use std::{collections::BTreeMap, fs, time::Duration};
use tokio::time::sleep;

/// The unit of times in `/proc`: `USER_HZ`, which is 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// Between one look and the next.
const PAUSE: Duration = Duration::from_millis(50);

/// What the processes below `root`, and it, have used so far; those that have ended included. Waits until none comes or
/// goes any more: one that ends while it is looked at would be counted twice, or not at all, and five hundred that
/// still have to end are not what the next measurement is about.
pub async fn of_tree(root: u32) -> Duration {
    let mut before = look(root);
    loop {
        sleep(PAUSE).await;
        let now = look(root);
        if now.keys().eq(before.keys()) {
            return now.values().map(|process| process.used).sum();
        }
        before = now;
    }
}

fn look(root: u32) -> BTreeMap<u32, Process> {
    let mut processes: BTreeMap<u32, Process> = fs::read_dir("/proc")
        .expect("/proc is there")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| {
            Some((pid, Process::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))
        })
        .collect();
    let ours: Vec<_> = processes.keys().copied().filter(|&pid| descends(&processes, pid, root)).collect();
    processes.retain(|pid, _| ours.contains(pid));
    processes
}

fn descends(processes: &BTreeMap<u32, Process>, pid: u32, root: u32) -> bool {
    std::iter::successors(Some(pid), |pid| processes.get(pid).map(|process| process.parent))
        .any(|pid| pid == root)
}

struct Process {
    parent: u32,
    /// By itself, and by those of its children that have ended and been waited for.
    used: Duration,
}

impl Process {
    /// See proc(5): after the name, which is in parentheses and may hold any, come state, parent, and later the times.
    fn parse(stat: &str) -> Option<Self> {
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u32>().ok()).sum::<Option<u32>>()?;
        Some(Self { parent: fields.get(1)?.parse().ok()?, used: TICK * ticks })
    }
}
