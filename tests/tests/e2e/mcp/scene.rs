//! A database, a pepper, API keys, and servers.

use super::http::{Answer, Request};
use crate::{
    command_line::{PATIENCE, eventually},
    helpers::calls::{ANY, SealTo, register, revision},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, OnceLock},
};
use tempfile::TempDir;
use tests::{ADMIN, Cluster, Database, SUPERUSER, Session, intcred, run};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
    time::timeout,
};

pub const ORG: &str = "acme";
pub const SET: &str = "admin_set_integration_credentials";
pub const REMOVE: &str = "admin_remove_integration_credentials";
pub const LIST: &str = "list_integrations";

/// A database with [`ANY`], whose API keys log in by their passwords.
pub struct Scene {
    pub database: Database,
    pub admin: Session,
    pub dir: TempDir,
}

/// The cluster of these tests: the roles of API keys need their passwords.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = Cluster::builder().setting("fsync", "off").start();
        ask_for_passwords(&cluster);
        cluster
    })
}

/// Makes the server ask API keys for their passwords.
pub fn ask_for_passwords(cluster: &Cluster) {
    let rules = "local all +integration_credentials_mcp scram-sha-256\nlocal all all trust\n";
    fs::write(cluster.data_dir().join("pg_hba.conf"), rules).unwrap();
    cluster.reload();
}

impl Scene {
    pub async fn new() -> Self {
        Self::within(cluster()).await
    }

    pub async fn within(cluster: &Cluster) -> Self {
        let database = cluster.database_at(None).await;
        database.set_role_org(ADMIN, ORG).await;
        let admin = database.connect(ADMIN).await;
        register(&admin, ANY, json!({})).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let scene = Self { database, admin, dir };
        fs::write(scene.pepper(), "a pepper of more than 32 bytes, and no secret\n").unwrap();
        fs::set_permissions(scene.pepper(), Permissions::from_mode(0o600)).unwrap();
        scene
    }

    pub fn pepper(&self) -> PathBuf {
        self.dir.path().join("pepper")
    }

    /// Makes an API key of [`ORG`].
    pub async fn key(&self, scope: &str) -> String {
        self.key_with(scope, ORG, &[]).await
    }

    pub async fn key_with(&self, scope: &str, org: &str, options: &[&str]) -> String {
        let mut command = intcred();
        command.args([
            "--dsn",
            &self.database.dsn(SUPERUSER),
            "mcp",
            "key",
            "add",
            "--org",
            org,
            "--scope",
            scope,
        ]);
        command.arg("--pepper-file").arg(self.pepper()).args(options);
        run(&mut command, b"").await.success().trim_end().to_owned()
    }

    /// Runs `intcred` as the superuser.
    pub async fn operator(&self, arguments: &[&str]) -> tests::Output {
        run(intcred().args(["--dsn", &self.database.dsn(SUPERUSER)]).args(arguments), b"").await
    }

    pub async fn revoke(&self, key: &str) {
        let told = self.operator(&["mcp", "key", "revoke", &key[..16]]).await.success();
        assert_eq!(told, format!("{}: revoked\n", &key[..16]));
    }

    /// Starts a server on a free port.
    pub async fn serve(&self) -> Served {
        self.serve_with(&["--calls-per-second", "10000"]).await
    }

    pub async fn serve_with(&self, options: &[&str]) -> Served {
        let mut command = intcred();
        command.args([
            "--dsn",
            &self.database.dsn(SUPERUSER),
            "mcp",
            "--http",
            "127.0.0.1:0",
            "--pepper-file",
        ]);
        command.arg(self.pepper()).args(options).env("RUST_LOG", "trace");
        let served = Served::spawn(command);
        served.tells("serving ").await;
        served
    }

    /// The row of [`ANY`], as the tool lists it.
    pub async fn revision(&self) -> i64 {
        revision(&self.admin, ANY).await
    }

    /// What a reader of the org gets.
    pub async fn stored(&self) -> Option<String> {
        self.database.set_role_org(tests::READER, ORG).await;
        crate::helpers::calls::get(&self.database.connect(tests::READER).await, ANY).await.ok()
    }
}

/// A running server.
pub struct Served {
    pub child: Child,
    stderr: Arc<Mutex<String>>,
}

impl Served {
    fn spawn(mut command: tokio::process::Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        follow(&mut child, &stderr);
        Self { child, stderr }
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until standard error has this text.
    pub async fn tells(&self, text: &str) {
        eventually(text, async || self.stderr().contains(text)).await;
    }

    /// Host and port.
    pub fn address(&self) -> String {
        let stderr = self.stderr();
        let (_, bound) = stderr.lines().next().unwrap().rsplit_once(" on ").unwrap();
        bound.to_owned()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub async fn send(&self, request: &Request) -> Answer {
        request.send(&self.address()).await
    }

    /// A request of the protocol 2026-07-28; the whole message.
    pub async fn ask(&self, key: &str, method: &str, params: Value) -> Value {
        let answer = self.send(&modern(method, params).key(key)).await;
        assert_eq!(answer.status, 200, "{answer:?} {}", self.stderr());
        answer.json()
    }

    /// Calls a tool of a client that cannot open links; the result.
    pub async fn call(&self, key: &str, tool: &str, arguments: Value) -> Value {
        let message = self.ask(key, "tools/call", json!({"name": tool, "arguments": arguments})).await;
        let result = message["result"].clone();
        assert!(result.is_object(), "{message}");
        // The text says what the object says.
        let texts = result["content"].as_array().unwrap();
        let last: Value = serde_json::from_str(texts.last().unwrap()["text"].as_str().unwrap()).unwrap();
        assert_eq!(last, result["structuredContent"]);
        result
    }

    /// The object of a call that succeeds.
    pub async fn done(&self, key: &str, tool: &str, arguments: Value) -> Value {
        let result = self.call(key, tool, arguments).await;
        assert_eq!(result["isError"], false, "{result}");
        result["structuredContent"].clone()
    }

    /// The error of a call that fails.
    pub async fn refused(&self, key: &str, tool: &str, arguments: Value) -> Value {
        let result = self.call(key, tool, arguments).await;
        assert_eq!(result["isError"], true, "{result}");
        result["structuredContent"]["error"].clone()
    }

    /// A link to enter the value of [`ANY`].
    pub async fn link(&self, key: &str) -> String {
        let object = self.done(key, SET, json!({"integration_key": ANY})).await;
        object["pending"]["url"].as_str().unwrap().to_owned()
    }

    /// The names of the tools that a key sees.
    pub async fn tools(&self, key: &str) -> Vec<String> {
        let message = self.ask(key, "tools/list", json!({})).await;
        let tools = message["result"]["tools"].as_array().unwrap_or_else(|| panic!("{message}"));
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    }

    /// A value for [`ANY`], sealed for this key.
    pub async fn seal(&self, key: &str, value: &str) -> String {
        let terms = self.done(key, "get_sealing_key", json!({})).await;
        seal(&terms, ANY, value)
    }

    /// Ends the server by a signal.
    pub async fn end(&mut self) -> i32 {
        kill(Pid::from_raw(self.child.id().unwrap().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
        status.code().unwrap_or_else(|| panic!("{status}"))
    }
}

/// Keeps what a process writes to standard error.
pub fn follow(child: &mut Child, stderr: &Arc<Mutex<String>>) {
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    let stderr = stderr.clone();
    tokio::spawn(async move {
        while let Ok(Some(line)) = told.next_line().await {
            *stderr.lock().unwrap() += &(line + "\n");
        }
    });
}

/// Seals a value with the answer of `get_sealing_key`.
pub fn seal(terms: &Value, key: &str, value: &str) -> String {
    STANDARD.encode(SealTo::parse(terms).seal(key, value))
}

/// A request of the protocol 2026-07-28, without a key.
pub fn modern(method: &str, params: Value) -> Request {
    modern_with(method, params, &json!({}))
}

/// The same of a client with these capabilities.
pub fn modern_with(method: &str, mut params: Value, capabilities: &Value) -> Request {
    params["_meta"] = meta(capabilities);
    let name = params["name"].as_str().map(str::to_owned);
    let request = Request::mcp(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
        .with("MCP-Protocol-Version", "2026-07-28")
        .with("Mcp-Method", method);
    match name {
        Some(name) => request.with("Mcp-Name", &name),
        None => request,
    }
}

pub fn meta(capabilities: &Value) -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    })
}

/// A client that opens links.
pub fn opens_links() -> Value {
    json!({"elicitation": {"url": {}}})
}
