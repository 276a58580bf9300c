//! `intcred listen` as a daemon: hooks, metrics, the service manager, and its end.

mod consumers;
mod drain;
mod failures;
mod hooks;
mod metrics;
mod service_manager;
mod values;

use crate::command_line::{PATIENCE, eventually};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use tests::{Canary, Database, READER, intcred};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// A running `intcred listen`, whose hooks find a directory of the test in `$DIR`.
struct Daemon {
    child: Child,
    /// Closed when the test is over, not when it no longer reads them.
    lines: Lines<BufReader<ChildStdout>>,
    stderr: Arc<Mutex<String>>,
    dir: TempDir,
}

impl Daemon {
    /// Starts it, and waits until it is synced.
    async fn start(database: &Database, options: &[&str]) -> Self {
        Self::start_with(database, READER, options, |_| {}).await
    }

    /// The same as another role, with more in its environment.
    async fn start_with(
        database: &Database,
        role: &str,
        options: &[&str],
        more: impl FnOnce(&mut Command),
    ) -> Self {
        let mut daemon = Self::spawn(&database.dsn(role), options, more);
        let first = daemon.line().await;
        assert!(first.starts_with(r#"{"event":"synced","#), "{first}");
        daemon
    }

    fn spawn(dsn: &str, options: &[&str], more: impl FnOnce(&mut Command)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = intcred();
        command.args(["--dsn", dsn, "listen"]).args(options).env("DIR", dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        more(&mut command);
        let mut child = command.spawn().unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
        tokio::spawn({
            let stderr = stderr.clone();
            async move {
                while let Ok(Some(line)) = told.next_line().await {
                    *stderr.lock().unwrap() += &(line + "\n");
                }
            }
        });
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, stderr, dir }
    }

    /// The next line of standard output.
    async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("no event came").unwrap();
        line.unwrap_or_else(|| panic!("it has ended: {}", self.stderr()))
    }

    fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until standard error has this text.
    async fn tells(&self, text: &str) {
        eventually(text, async || self.stderr().contains(text)).await;
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a hook wrote to a file, if it did.
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Waits until the file `log` has these lines.
    async fn logs(&self, lines: &[&str]) {
        eventually(&format!("{lines:?} in the log"), async || {
            self.read("log").lines().count() >= lines.len()
        })
        .await;
        assert_eq!(self.read("log").lines().collect::<Vec<_>>(), lines, "{}", self.stderr());
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().unwrap().try_into().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits until it has ended; its exit status.
    async fn ended(&mut self) -> i32 {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
        status.code().unwrap_or_else(|| panic!("{status}"))
    }

    /// Where it serves the metrics, with `--metrics 127.0.0.1:0`.
    async fn address(&self) -> String {
        const BEFORE: &str = "intcred: metrics are on http://";
        self.tells("/metrics\n").await;
        let stderr = self.stderr();
        let line = stderr.lines().find_map(|line| line.strip_prefix(BEFORE)).expect("it says where");
        line.strip_suffix("/metrics").unwrap().to_owned()
    }

    /// A page: the status of the answer, and its body.
    async fn page(&self, path: &str) -> (u16, String) {
        let answer = http(&self.address().await, &format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Waits until the metrics have this line.
    async fn measures(&self, line: &str) {
        eventually(line, async || self.page("/metrics").await.1.lines().any(|found| found == line)).await;
    }

    /// Panics if the secret is in what it printed, its arguments, its environment, or what hooks wrote but for `files`.
    fn assert_absent(&self, canary: &Canary, files: &[PathBuf]) {
        canary.assert_absent(&self.stderr());
        let hits = canary.search(self.dir.path());
        assert!(hits.iter().all(|hit| files.contains(&hit.file)), "{hits:?}");
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(Path::new("/proc").join(self.pid().to_string()).join(file)).unwrap();
            assert!(!bytes.is_empty() && canary.find(&bytes).is_empty(), "{file}");
        }
    }
}

/// What a server answers to a request, to the end.
async fn http(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("it answers").unwrap();
    answer
}

/// Whether a process does anything. One that nobody has waited for does not.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    // The name in parentheses may hold anything.
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}
