//! Debian's pgbouncer in front of a cluster, on a socket and no port, as the server's user.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tests::{Cluster, Database, READER};
use tokio::{
    net::UnixStream,
    process::Child,
    time::{sleep, timeout},
};

const PROGRAM: &str = "/usr/sbin/pgbouncer";
/// Names the socket; nothing listens on a port.
const PORT: u16 = 6432;
const PATIENCE: Duration = Duration::from_secs(10);

pub struct PgBouncer {
    process: Child,
    dir: PathBuf,
}

impl PgBouncer {
    /// Starts it with a `pool_mode`. Where one has been stopped before, the next has the same socket.
    pub async fn start(cluster: &Cluster, mode: &str) -> Self {
        assert!(Path::new(PROGRAM).exists(), "{PROGRAM} is missing: install it with `make deps`");
        let dir = cluster.dir().to_owned();
        let (users, settings) = (dir.join("pgbouncer-users.txt"), dir.join("pgbouncer.ini"));
        fs::write(&users, format!("\"{READER}\" \"\"\n")).unwrap();
        let text = format!(
            "[databases]
             * = host={dir} port={server}
             [pgbouncer]
             unix_socket_dir = {dir}
             listen_port = {PORT}
             auth_type = trust
             auth_file = {users}
             pool_mode = {mode}
             server_login_retry = 0.1
            ",
            dir = dir.display(),
            server = cluster.port(),
            users = users.display(),
        );
        fs::write(&settings, text.replace("\n             ", "\n")).unwrap();
        let log = File::create(dir.join("pgbouncer.log")).unwrap();
        // The kernel ends it with the test, however that ends.
        let mut command = cluster.tool("/usr/bin/setpriv");
        command.args(["--pdeathsig", "KILL", PROGRAM]).arg(&settings);
        command.kill_on_drop(true);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let pgbouncer = Self { process, dir };
        let ready = async {
            while UnixStream::connect(pgbouncer.socket()).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let is_ready = timeout(PATIENCE, ready).await.is_ok();
        assert!(is_ready, "{}", fs::read_to_string(pgbouncer.dir.join("pgbouncer.log")).unwrap());
        pgbouncer
    }

    /// Kills it, with the connections that go through it.
    pub async fn stop(mut self) {
        self.process.kill().await.unwrap();
        fs::remove_file(self.socket()).unwrap();
    }

    /// How readers get to the database through it.
    pub fn reader(&self, database: &Database) -> String {
        format!("host='{}' port={PORT} dbname={} user={READER}", self.dir.display(), database.name())
    }

    fn socket(&self) -> PathBuf {
        self.dir.join(format!(".s.PGSQL.{PORT}"))
    }
}
