//! What others of the same user see of the client's memory, tried as such a user: root sees everything.

use crate::{
    command_line::{PATIENCE, eventually, finish},
    helpers::calls::{ANY, get, register},
};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Stdio,
};
use tests::{ADMIN, Canary, Cluster, READER, process::intcred_path, run, write_executable};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

/// The server's user, who may be another than ours, and a copy of the client where that user can read it: what cannot be
/// read cannot be dumped either, which would prove nothing.
struct OrdinaryUser {
    uid: u32,
    gid: u32,
    intcred: PathBuf,
}

impl OrdinaryUser {
    fn of(cluster: &Cluster) -> Self {
        let metadata = fs::metadata(cluster.dir()).unwrap();
        let intcred_copy = cluster.dir().join("intcred");
        write_executable(&intcred_copy, &fs::read(intcred_path()).unwrap());
        Self { uid: metadata.uid(), gid: metadata.gid(), intcred: intcred_copy }
    }

    fn command(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program.as_ref());
        command.args(arguments).uid(self.uid).gid(self.gid).env_clear().current_dir("/").kill_on_drop(true);
        command
    }

    /// Whether a process of this user can read a file in `/proc/PID` of another one.
    async fn can_read(&self, pid: u32, file: &str) -> bool {
        let mut head = self.command("/usr/bin/head", &["--bytes=1", &format!("/proc/{pid}/{file}")]);
        let output = run(&mut head, b"").await;
        // The first page of memory is mapped by nobody.
        let refused = output.stderr.contains("Permission denied");
        assert!(output.code == 0 || refused || output.stderr.contains("Input/output error"), "{output:?}");
        !refused
    }
}

#[tokio::test]
async fn a_client_with_a_value_can_be_neither_dumped_nor_looked_into() {
    let cluster = Cluster::private();
    let database = cluster.database().await;
    register(&database.connect(ADMIN).await, ANY, json!({})).await.unwrap();
    let user = OrdinaryUser::of(&cluster);
    let canary = Canary::new();

    let dsn = database.dsn(ADMIN);
    let mut set = user.command(&user.intcred, &["--dsn", &dsn, "set", ANY]);
    let mut set = set.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (half, rest) = canary.as_str().as_bytes().split_at(8);
    let mut stdin = set.stdin.take().unwrap();
    stdin.write_all(half).await.unwrap();
    let pid = set.id().unwrap();
    let has_begun = async || fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().contains("\0set\0");
    eventually("it is executed", has_begun).await;
    eventually("it closes itself", async || !user.can_read(pid, "environ").await).await;

    // Another program in the same place.
    let mut other = user.command("/bin/cat", &[]).stdin(Stdio::piped()).spawn().unwrap();
    let other_pid = other.id().unwrap();
    for file in ["environ", "mem", "maps"] {
        assert!(user.can_read(other_pid, file).await, "{file} of any other program");
        assert!(!user.can_read(pid, file).await, "{file}");
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");

    stdin.write_all(rest).await.unwrap();
    drop(stdin);
    assert_eq!(finish(set).await, (0, String::new()));
    assert_eq!(get(&database.connect(READER).await, ANY).await.unwrap(), canary.as_str());
    drop(other.stdin.take());
    timeout(PATIENCE, other.wait()).await.unwrap().unwrap();
}

/// A process that others cannot look into must still find itself in /proc.
#[tokio::test]
async fn an_ordinary_user_can_give_the_value_by_a_descriptor() {
    let cluster = Cluster::private();
    let database = cluster.database().await;
    register(&database.connect(ADMIN).await, ANY, json!({})).await.unwrap();
    let user = OrdinaryUser::of(&cluster);
    let canary = Canary::new();
    let program = user.intcred.to_str().unwrap();
    // The pipe must be the user's own to be opened again by its name.
    let script = r#"cat | "$0" --dsn "$1" set "$2" --value-file /dev/stdin"#;
    let mut shell = user.command("/bin/sh", &["-c", script, program, &database.dsn(ADMIN), ANY]);
    let output = run(shell.env("PATH", "/usr/bin:/bin"), canary.as_str().as_bytes()).await;
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    assert_eq!(get(&database.connect(READER).await, ANY).await.unwrap(), canary.as_str());
}
