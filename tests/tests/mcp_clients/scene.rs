//! A database with integrations, the API keys of some callers, and servers of `intcred mcp`.

use crate::{
    client::{Client, Elicitation, Sdk},
    proxy::Proxy,
};
use axum::http::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use std::{fs, net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};
use tempfile::TempDir;
use tests::{ADMIN, Cluster, Database, READER, Session, free_port, intcred, process::intcred_path, run};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    sync::OnceCell,
    time::{sleep, timeout},
};

/// An integration with a rule that a typed value may break: [`PREFIX`].
pub const SLACK: &str = "slack";
pub const PREFIX: &str = "xoxb-";

pub struct Scene {
    pub database: Database,
    pub superuser: Session,
    /// All that clients, servers, the proxy and the browser write.
    pub written: TempDir,
    pepper: PathBuf,
}

/// Of an API key, which begins with its id: `icred_` and ten characters.
const ID_CHARS: usize = 16;

/// A server over HTTP.
pub struct Replica {
    process: Child,
    address: SocketAddr,
}

impl Replica {
    pub async fn kill(mut self) {
        self.process.kill().await.unwrap();
        let is_gone = async {
            while TcpStream::connect(self.address).await.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(30), is_gone).await.expect("nobody listens any more");
    }
}

/// A cluster where the password of an API key's role is checked.
async fn cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let start = || async { with_passwords(Cluster::builder().setting("fsync", "off").start()) };
    CLUSTER.get_or_init(start).await
}

/// The rules of `pg_hba.conf` for the roles of API keys, before the others.
pub fn with_passwords(mut cluster: Cluster) -> Cluster {
    let file = cluster.data_dir().join("pg_hba.conf");
    let others = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("local all +integration_credentials_mcp scram-sha-256\n{others}")).unwrap();
    cluster.restart();
    cluster
}

impl Scene {
    pub async fn new() -> Self {
        Self::within(cluster().await).await
    }

    pub async fn within(cluster: &Cluster) -> Self {
        let database = cluster.database().await;
        database.set_org("acme").await;
        let superuser = database.superuser().await;
        let register = "SELECT integration_credentials.admin_register_integration('slack', 'Slack', 'test',
            '{\"prefix\": \"xoxb-\"}', 'https://api.slack.com/authentication/token-types')";
        superuser.execute(register, &[]).await.unwrap();
        let written = TempDir::new().unwrap();
        let pepper = written.path().join("pepper");
        fs::write(&pepper, "a pepper of the tests, of thirty-two bytes and more\n").unwrap();
        fs::set_permissions(&pepper, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        Self { database, superuser, written, pepper }
    }

    /// A file for what somebody writes.
    pub fn file(&self, name: &str) -> PathBuf {
        self.written.path().join(name)
    }

    /// `intcred mcp ...`, as the superuser.
    async fn operator(&self, arguments: &[&str]) -> String {
        let mut command = intcred();
        command.args(["--dsn", &self.database.dsn("postgres"), "mcp"]).args(arguments);
        run(&mut command, b"").await.success()
    }

    /// A new API key: `--scope admin` or `user`, and other options.
    pub async fn key(&self, options: &[&str]) -> String {
        let pepper = self.pepper.to_str().unwrap();
        let arguments = [&["key", "add", "--org", "acme", "--pepper-file", pepper], options].concat();
        self.operator(&arguments).await.trim().to_owned()
    }

    pub async fn revoke(&self, key: &str) {
        self.operator(&["key", "revoke", &key[..ID_CHARS]]).await;
    }

    /// A proxy that is the servers' public address.
    pub async fn proxy(&self, added: Option<(HeaderName, HeaderValue)>) -> Proxy {
        Proxy::start(&self.file("proxy.capture"), added).await
    }

    /// A server behind the proxy, to which the proxy leads now.
    pub async fn replica(&self, proxy: &Proxy, wrap: &[&str], options: &[&str]) -> Replica {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (listen, public) = (address.to_string(), format!("http://{}", proxy.address));
        let mut command = wrapped(wrap);
        command.args(["--dsn", &self.database.dsn("postgres"), "mcp", "--http", &listen]);
        command.args(["--public-url", &public, "--pepper-file"]).arg(&self.pepper).args(options);
        let log = fs::File::options().append(true).create(true).open(self.file("server.log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        while TcpStream::connect(address).await.is_err() {
            let log = || fs::read_to_string(self.file("server.log"));
            assert_eq!(process.try_wait().unwrap(), None, "{:?}", log());
            sleep(Duration::from_millis(10)).await;
        }
        proxy.lead_to(address);
        Replica { process, address }
    }

    /// Where a client finds the server over HTTP.
    pub fn over_http(proxy: &Proxy, key: &str) -> Value {
        let headers = json!({"Authorization": format!("Bearer {key}")});
        json!({"url": format!("http://{}/mcp", proxy.address), "headers": headers})
    }

    /// How a client starts the server over stdio, as a role.
    pub fn over_stdio(&self, role: &str) -> Value {
        let arguments = ["--dsn".to_owned(), self.database.dsn(role), "mcp".to_owned()];
        json!({"command": intcred_path(), "args": arguments, "env": {"HOME": "/nonexistent"}})
    }

    /// A link to the page, as a client without elicitation gets it.
    pub async fn link(&self, server: &Value) -> (Client, String) {
        let log = self.file("link.log");
        let mut client = Client::connect(Sdk::TypeScript2, server, Elicitation::None, &log).await;
        let link = pending(&mut client).await;
        (client, link)
    }

    /// The value of [`SLACK`], as a service reads it.
    pub async fn value(&self) -> Option<String> {
        let reader = self.database.connect(READER).await;
        let sql = "SELECT integration_credentials.get_integration_credentials('slack')";
        reader.query_one(sql, &[]).await.ok().map(|row| row.get(0))
    }
}

/// The link for a person of a client without elicitation.
pub async fn pending(client: &mut Client) -> String {
    let answer = client.content("admin_set_integration_credentials", json!({"integration_key": SLACK})).await;
    answer["pending"]["url"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

fn wrapped(wrap: &[&str]) -> Command {
    let Some((program, arguments)) = wrap.split_first() else { return intcred() };
    let mut command = Command::new(program);
    // A program may run the server as its child, and leave it behind when it is killed.
    command.args(arguments).args(["setpriv", "--pdeathsig", "KILL"]);
    command.arg(intcred_path()).env("HOME", "/nonexistent");
    command
}

/// The database's admin, over stdio.
pub const STDIO: &str = ADMIN;
