//! A server on standard input and output.

use super::scene::{Scene, follow, meta};
use crate::command_line::PATIENCE;
use serde_json::{Value, json};
use std::{
    process::Stdio,
    sync::{Arc, Mutex},
};
use tests::intcred;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    time::timeout,
};

pub struct Server {
    pub child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    stderr: Arc<Mutex<String>>,
    id: u32,
}

impl Server {
    /// Starts the server as a role.
    pub fn start(scene: &Scene, role: &str) -> Self {
        Self::start_at(&scene.database.dsn(role))
    }

    pub fn start_at(dsn: &str) -> Self {
        let mut command = intcred();
        command.args(["--dsn", dsn, "mcp"]).env("RUST_LOG", "trace");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        follow(&mut child, &stderr);
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, stdin, lines, stderr, id: 0 }
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        // A server that has closed its input reads no more.
        let _ = self.stdin.as_mut().unwrap().write_all(bytes).await;
    }

    pub async fn send(&mut self, message: &Value) {
        self.write(format!("{message}\n").as_bytes()).await;
    }

    /// The next line of standard output, which must be JSON; `None` at its end.
    pub async fn line(&mut self) -> Option<Value> {
        let line = timeout(2 * PATIENCE, self.lines.next_line()).await.expect("no line came").unwrap()?;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    pub async fn message(&mut self) -> Value {
        let stderr = self.stderr.clone();
        self.line().await.unwrap_or_else(|| panic!("it has ended: {}", stderr.lock().unwrap()))
    }

    /// Sends a request; its id.
    pub async fn request(&mut self, method: &str, params: Value) -> u32 {
        self.id += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": self.id, "method": method, "params": params})).await;
        self.id
    }

    /// The answer to a request.
    pub async fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.request(method, params).await;
        let message = self.message().await;
        assert_eq!(message["id"], id, "{message}");
        message
    }

    /// A request of the protocol 2026-07-28.
    pub async fn ask_modern(&mut self, method: &str, mut params: Value, capabilities: &Value) -> Value {
        params["_meta"] = meta(capabilities);
        self.ask(method, params).await
    }

    /// The handshake of an earlier protocol.
    pub async fn initialize(&mut self, version: &str, capabilities: Value) -> Value {
        let client = json!({"name": "test", "version": "1"});
        let params = json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": client});
        let answer = self.ask("initialize", params).await;
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        answer["result"].clone()
    }

    /// Calls a tool after the handshake.
    pub async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let message = self.ask("tools/call", json!({"name": tool, "arguments": arguments})).await;
        assert!(message["result"].is_object(), "{message}");
        message["result"].clone()
    }

    /// Closes standard input; how the server ends.
    pub async fn end(&mut self) -> i32 {
        self.stdin = None;
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
        status.code().unwrap_or_else(|| panic!("{status}"))
    }
}
