//! A run of pgbench.

use crate::stage;
use tests::{Cluster, run};

/// What pgbench is to run, and how. Starts as one client with `-M prepared`, 10,000 keys and a value of 64 bytes.
#[derive(Clone)]
pub struct Pgbench<'a> {
    pub cluster: &'a Cluster,
    pub database: &'a str,
    pub role: &'static str,
    /// Its language is pgbench's; `:keys` and `:value` are defined.
    pub script: &'static str,
    pub clients: u16,
    pub keys: u32,
    pub value_bytes: usize,
    /// Settings of the sessions, `-c name=value ...`.
    pub options: &'static str,
}

impl Pgbench<'_> {
    /// Runs, and returns how many transactions were done, and how many in a second.
    pub async fn run(&self, seconds: u16) -> (f64, f64) {
        let mut command = self.cluster.tool("pgbench");
        command
            .env("PGOPTIONS", self.options)
            .args(["--no-vacuum", "--protocol=prepared", "--file=-", "--username", self.role])
            .args(["--define", &format!("keys={}", self.keys)])
            .args(["--define", &format!("value={}", stage::value(self.value_bytes))])
            .args(["--client", &self.clients.to_string(), "--jobs", &self.clients.min(2).to_string()])
            .args(["--time", &seconds.to_string(), self.database]);
        let answer = run(&mut command, self.script.as_bytes()).await.success();
        let number = |name| {
            let found = answer.lines().find_map(|line| line.strip_prefix(name)?.split(' ').next());
            found.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("pgbench: {answer}"))
        };
        (number("number of transactions actually processed: "), number("tps = "))
    }
}
