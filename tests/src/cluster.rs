//! A cluster: started, stopped, killed, and gone when the test is.

use crate::{
    builder::{Builder, Keys},
    database::SUPERUSER,
    installation::{EXTENSION, Installation},
    janitor::Janitor,
    process::succeed,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    collections::BTreeSet,
    fmt::Write,
    fs::{self, File, Permissions},
    io, iter,
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    sync::{Mutex, OnceLock, atomic::AtomicU32},
    thread::sleep,
    time::{Duration, Instant},
};

/// Longer than a start, a stop or a recovery ever takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(10);

/// The locale that the C library always has.
const LOCALE: &str = "/usr/lib/locale/C.utf8";

/// How to stop a server.
#[derive(Clone, Copy, Debug)]
pub enum Shutdown {
    /// Ends the sessions, writes a checkpoint.
    Fast,
    /// Leaves everything as it is; the next start recovers from WAL.
    Immediate,
}

/// A Postgres cluster in a temporary directory, which only the server's user can enter.
pub struct Cluster {
    pub(crate) installation: Installation,
    pub(crate) dir: PathBuf,
    pub(crate) port: u16,
    /// How many databases were made, for their names.
    pub(crate) databases: AtomicU32,
    /// Whether the login roles exist. Roles are the whole cluster's, and CREATE ROLE knows no IF NOT EXISTS: who makes
    /// some holds the lock.
    pub(crate) has_roles: tokio::sync::Mutex<bool>,
    /// The limit of the address space of each process of the server.
    memory_kb: Option<u64>,
    postmaster: Option<Child>,
    janitor: Janitor,
}

impl Cluster {
    /// A cluster that is not quite the default one.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// A cluster of the test's own, with the extension preloaded and Postgres' default settings.
    #[must_use]
    pub fn private() -> Self {
        Self::builder().start()
    }

    /// The cluster that the tests of this process share, each in databases of its own. It does not wait for the disk, and
    /// has room for the sessions of all of them.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED
            .get_or_init(|| Self::builder().setting("fsync", "off").setting("max_connections", "300").start())
    }

    pub(crate) fn create(mut builder: Builder) -> Self {
        let installation = builder.installation.take().unwrap_or_else(Installation::find);
        if builder.preload.iter().any(|library| library == EXTENSION) {
            installation.require_extension();
        }
        let port = if builder.tcp { free_port() } else { 5432 };
        let mut cluster = Self::nowhere(installation, port);
        cluster.memory_kb = builder.memory_kb;
        cluster.initialize(builder).expect("the cluster's files are written");
        cluster.start();
        cluster
    }

    /// An empty directory, and who removes it.
    pub(crate) fn nowhere(installation: Installation, port: u16) -> Self {
        let dir = tempfile::Builder::new()
            // Short: the path of a socket may have 107 bytes.
            .prefix("intcred-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .expect("a temporary directory")
            // Its removal is the janitor's.
            .keep();
        installation.give(&dir).expect("the directory is given to the server's user");
        Self {
            janitor: Janitor::hire(&dir),
            installation,
            dir,
            port,
            databases: AtomicU32::new(0),
            has_roles: tokio::sync::Mutex::new(false),
            memory_kb: None,
            postmaster: None,
        }
    }

    fn initialize(&self, builder: Builder) -> io::Result<()> {
        succeed(
            self.installation
                .command("initdb", &self.dir)
                .args(["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"])
                .args(["--username", SUPERUSER])
                .args(builder.initdb)
                .arg(self.data_dir()),
        );
        let mut settings = vec![
            ("port".into(), self.port.to_string()),
            ("listen_addresses".into(), if builder.tcp { "127.0.0.1" } else { "" }.into()),
            ("unix_socket_directories".into(), self.dir.display().to_string()),
            ("shared_preload_libraries".into(), builder.preload.join(", ")),
        ];
        match builder.keys {
            Keys::File(document) => {
                self.installation.write_private(&self.keyring_file(), &document)?;
                let file = self.keyring_file().display().to_string();
                settings.push(("integration_credentials.keyring_file".into(), file));
            }
            Keys::Command(command) => {
                settings.push(("integration_credentials.keyring_command".into(), command));
            }
            Keys::None => {}
        }
        settings.extend(builder.settings);
        self.configure(&settings)?;
        if builder.languages.is_empty() {
            return Ok(());
        }
        fs::create_dir(self.locales())?;
        builder.languages.iter().try_for_each(|language| symlink(LOCALE, self.locales().join(language)))
    }

    /// A locale for each of the languages. What gettext chooses a translation by is the locale's name, so that any will do
    /// under that name, and nobody need generate one.
    fn locales(&self) -> PathBuf {
        self.dir.join("locales")
    }

    /// Adds to `postgresql.conf`, where the last line for a setting wins.
    pub(crate) fn configure(&self, settings: &[(String, String)]) -> io::Result<()> {
        let path = self.data_dir().join("postgresql.conf");
        let mut text = fs::read_to_string(&path)?;
        for (name, value) in settings {
            let value = value.replace('\\', r"\\").replace('\'', "''");
            writeln!(text, "{name} = '{value}'").expect("a String takes everything");
        }
        fs::write(path, text)
    }

    /// Starts the server and waits until it takes connections.
    pub fn start(&mut self) {
        assert!(self.postmaster.is_none(), "the server is running already");
        let log = File::options().append(true).create(true).open(self.log_file()).expect("the log opens");
        self.installation.give(&self.log_file()).expect("the log is given to the server's user");
        let mut command = match self.memory_kb {
            Some(limit) => self.installation.limited_command("postgres", &self.dir, limit),
            None => self.installation.command("postgres", &self.dir),
        };
        if self.locales().exists() {
            command.env("LOCPATH", self.locales());
        }
        let postmaster = command
            .arg("-D")
            .arg(self.data_dir())
            .stdin(Stdio::null())
            // Nothing writes to it, and every process of the server has it: it ends with the last of them.
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("postgres starts");
        self.janitor.watch(Some(postmaster.id()));
        self.postmaster = Some(postmaster);

        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready() {
            let exited = self.postmaster.as_mut().and_then(has_exited);
            let starting = exited.is_none() && Instant::now() < deadline;
            assert!(starting, "the server did not start ({exited:?}):\n{}", self.log());
            sleep(POLL);
        }
    }

    /// What `pg_ctl --wait` looks at: the first line of `postmaster.pid` is the process id, the eighth its state.
    fn is_ready(&self) -> bool {
        let pid = self.postmaster.as_ref().map(|child| child.id().to_string());
        let file = fs::read_to_string(self.data_dir().join("postmaster.pid")).unwrap_or_default();
        let lines: Vec<_> = file.lines().map(str::trim).collect();
        lines.first().copied() == pid.as_deref() && lines.get(7) == Some(&"ready")
    }

    /// Stops the server and waits until its last process is gone.
    pub fn stop(&mut self, mode: Shutdown) {
        self.end(match mode {
            Shutdown::Fast => Signal::SIGINT,
            Shutdown::Immediate => Signal::SIGQUIT,
        });
    }

    /// Kills the postmaster with SIGKILL, as the kernel does when memory is short, and waits until its last process is
    /// gone: Postgres refuses to start beside them.
    pub fn kill_postmaster(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Stops the server, waiting for sessions to end and a checkpoint, and starts it again.
    pub fn restart(&mut self) {
        self.stop(Shutdown::Fast);
        self.start();
    }

    /// Has the server read its configuration again. It does so a moment later.
    pub fn reload(&self) {
        let postmaster = self.postmaster.as_ref().expect("the server is running");
        send(postmaster, Signal::SIGHUP);
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut postmaster) = self.postmaster.take() else { return };
        // A process that was waited for is no longer ours to signal.
        if has_exited(&mut postmaster).is_none() {
            send(&postmaster, signal);
        }
        let deadline = Instant::now() + PATIENCE;
        while has_exited(&mut postmaster).is_none() {
            if Instant::now() > deadline {
                postmaster.kill().expect("the postmaster is killed");
            }
            sleep(POLL);
        }
        let mut stdout = postmaster.stdout.take().expect("standard output is a pipe");
        io::copy(&mut stdout, &mut io::sink()).expect("the server's processes end");
        self.janitor.watch(None);
    }

    /// The process id of the running postmaster.
    #[must_use]
    pub fn postmaster_pid(&self) -> u32 {
        self.postmaster.as_ref().expect("the server is running").id()
    }

    /// The directory of everything: the socket, the keyring file, and the data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// PGDATA.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// What the server wrote to its standard error. The file lies in [`Self::data_dir`], to be searched with the rest.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).expect("the log is readable")).into_owned()
    }

    /// Empties it.
    pub fn clear_log(&self) {
        File::create(self.log_file()).expect("the log is writable");
    }

    fn log_file(&self) -> PathBuf {
        self.data_dir().join("server.log")
    }

    /// The port of the socket, and of 127.0.0.1 with [`Builder::tcp`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the keyring file is, unless the cluster was started without one.
    #[must_use]
    pub fn keyring_file(&self) -> PathBuf {
        self.dir.join("keyring.json")
    }

    /// The content of the keyring file, e.g. for [`Builder::keyring`] of another cluster.
    #[must_use]
    pub fn keyring(&self) -> Vec<u8> {
        fs::read(self.keyring_file()).expect("the keyring file is readable")
    }

    /// One of Postgres' own programs, e.g. `pg_dump`: run as the server's user, connecting to this cluster as the
    /// superuser. To be run with [`crate::run`].
    #[must_use]
    pub fn tool(&self, program: &str) -> tokio::process::Command {
        let mut command = self.installation.command(program, &self.dir);
        command.env("PGHOST", &self.dir).env("PGPORT", self.port.to_string()).env("PGUSER", SUPERUSER);
        command.into()
    }
}

impl Drop for Cluster {
    /// Nothing of the cluster is looked at any more; the janitor, dropped next, removes its directory.
    fn drop(&mut self) {
        self.stop(Shutdown::Immediate);
    }
}

fn has_exited(child: &mut Child) -> Option<ExitStatus> {
    child.try_wait().expect("the postmaster is our child")
}

fn send(postmaster: &Child, signal: Signal) {
    let pid = postmaster.id().try_into().expect("a process id fits");
    kill(Pid::from_raw(pid), signal).expect("the postmaster takes our signals");
}

/// A port on which nobody listened a moment ago, and that no other test of this process has. It is none that a connection
/// going out is given, for such a connection could have it while the server restarts: Linux gives those from 32768 on.
#[must_use]
pub fn free_port() -> u16 {
    static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let is_new = |port: &u16| TAKEN.lock().expect("no thread panics with the lock").insert(*port);
    iter::repeat_with(|| {
        let mut random = [0; 2];
        getrandom::fill(&mut random).expect("random bytes");
        10_000 + u16::from_ne_bytes(random) % 20_000
    })
    .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok() && is_new(port))
    .expect("a free port")
}
