//! Running a program: arguments and standard input in, exit code and output back.

use std::{
    env,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process,
    time::Duration,
};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

/// Longer than any program under test takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output, of a program that must have succeeded.
    #[must_use]
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }
}

/// Runs a program to its end.
pub async fn run(command: &mut Command, stdin: &[u8]) -> Output {
    let pipe = process::Stdio::piped;
    let spawned = command.stdin(pipe()).stdout(pipe()).stderr(pipe()).kill_on_drop(true).spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut input = child.stdin.take().expect("standard input is a pipe");
    let feed = async move {
        match input.write_all(stdin).await {
            // A program need not read its input to the end.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            written => written.expect("standard input is written"),
        }
    };
    let both = async { tokio::join!(child.wait_with_output(), feed).0 };
    let output = timeout(PATIENCE, both).await.unwrap_or_else(|_| panic!("{command:?} does not end"));
    let output = output.expect("the program is our child");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    Output {
        code: output.status.code().unwrap_or_else(|| panic!("{command:?}: {}", output.status)),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// The command line under test, without the developer's own settings. Add arguments and [`run`] it.
#[must_use]
pub fn intcred() -> Command {
    let mut command = process::Command::new(intcred_path());
    without_inherited_settings(&mut command);
    // No ~/.pgpass, no ~/.pg_service.conf.
    command.env("HOME", "/nonexistent");
    command.into()
}

/// The command line under test. Cargo puts test executables into `deps`, below the binaries that they test.
#[must_use]
pub fn intcred_path() -> PathBuf {
    let test = env::current_exe().expect("an executable has a path");
    let target = test.parent().and_then(|deps| deps.parent()).expect("cargo runs tests from target/*/deps");
    let path = target.join(format!("intcred{}", env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is missing: build it with `cargo build -p intcred`", path.display());
    path
}

/// Writes a program that the caller can execute at once. Another process writes the file: a child that another thread is
/// just starting inherits each file that is open here, and Linux executes no file that anybody has open for writing.
pub fn write_executable(path: &Path, program: &[u8]) {
    let mut install = process::Command::new("install");
    install.args(["-m", "755", "/dev/stdin"]).arg(path).stdin(process::Stdio::piped());
    let mut child = install.spawn().unwrap_or_else(|error| panic!("{install:?}: {error}"));
    child.stdin.take().expect("standard input is a pipe").write_all(program).expect("the program is written");
    let status = child.wait().expect("the program is our child");
    assert!(status.success(), "{install:?}: {status}");
}

/// Removes the environment variables that libpq, Postgres, `intcred` and the languages of functions read.
pub(crate) fn without_inherited_settings(command: &mut process::Command) {
    for (name, _) in env::vars_os() {
        let prefixes: [&[u8]; 3] = [b"PG", b"PYTHON", b"PERL"];
        if prefixes.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
}

/// Runs a program that must succeed, blocking.
pub(crate) fn succeed(command: &mut process::Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stderr}", output.status);
}
