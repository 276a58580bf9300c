//! `intcred mcp` against itself and its peers: `cargo bench --package tests --bench mcp`, after
//! `cargo build --release --package intcred --bins`, prints a table of Markdown.
//!
//! One load generator for all. A peer is a stdio server: `MCP_PEERS` has `NAME|COMMAND|TOOL|ARGUMENTS`, separated by `;`.

use serde_json::{Value, json};
use std::{
    collections::HashMap,
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tests::{ADMIN, Cluster, Database, SUPERUSER};

const CALLS: u32 = 1000;
const STARTS: u32 = 20;
const KEY: &str = "slack";

/// Milliseconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

fn timed(count: u32, mut call: impl FnMut()) -> f64 {
    let time = |_| {
        let started = Instant::now();
        call();
        started.elapsed()
    };
    median((0..count).map(time).collect())
}

/// A server on standard input and output.
struct Server {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = spawned.expect("the server starts");
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut server = Self { child, stdin, stdout };
        let client = json!({"name": "bench", "version": "1"});
        server.ask(
            "initialize",
            &json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}),
        );
        writeln!(server.stdin, r#"{{"jsonrpc":"2.0","method":"notifications/initialized"}}"#).unwrap();
        server
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        // In one write, as clients do: `writeln!` makes one of each token, and the server would wake for each.
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        self.stdin.write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(answer["result"].is_object() && answer["result"]["isError"] != true, "{answer}");
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Start to the list of tools, a call, and the memory.
fn stdio(name: &str, mut command: impl FnMut() -> Command, tool: &str, arguments: &Value) -> [String; 4] {
    let started = timed(STARTS, || {
        Server::start(&mut command()).ask("tools/list", &json!({}));
    });
    let mut server = Server::start(&mut command());
    let params = json!({"name": tool, "arguments": arguments});
    server.ask("tools/call", &params);
    let called = timed(CALLS, || {
        server.ask("tools/call", &params);
    });
    let memory = resident(server.child.id());
    [name.to_owned(), format!("{started:.0} ms"), format!("{called:.2} ms"), memory]
}

fn resident(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: f64 = kilobytes.trim().trim_end_matches(" kB").parse().unwrap();
    format!("{:.1} MB", kilobytes / 1000.0)
}

/// The release build beside the benchmark.
fn intcred(dsn: &str) -> Command {
    let mut command = Command::new(program());
    command.env("HOME", "/nonexistent").args(["--dsn", dsn]);
    command
}

fn program() -> PathBuf {
    let test = env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join("intcred")
}

/// A connection that is kept.
struct Http {
    stream: BufReader<TcpStream>,
    address: String,
    key: String,
}

impl Http {
    fn open(address: &str, key: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), address: address.to_owned(), key: key.to_owned() }
    }

    fn post(&mut self, path: &str, headers: &str, body: &Value) -> Value {
        let (body, Self { address, key, .. }) = (body.to_string(), &*self);
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nAuthorization: Bearer {key}\r\n\
             Accept: application/json, text/event-stream\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut length, mut line) = (0, String::new());
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            match line.trim_end().to_ascii_lowercase() {
                head if head.is_empty() => break,
                head => {
                    if let Some(given) = head.strip_prefix("content-length: ") {
                        length = given.parse().unwrap();
                    }
                }
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).unwrap();
        serde_json::from_slice(&answer).unwrap()
    }

    /// A request of the protocol 2026-07-28, of a client that opens links.
    fn ask(&mut self, method: &str, mut params: Value) -> Value {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"url": {}}},
        });
        let name = params["name"].as_str().map(|name| format!("Mcp-Name: {name}\r\n")).unwrap_or_default();
        let headers = format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n{name}");
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = self.post("/mcp", &headers, &body);
        assert!(answer["result"].is_object() && answer["result"]["isError"] != true, "{answer}");
        answer["result"].clone()
    }

    fn list(&mut self) {
        self.ask("tools/call", json!({"name": "list_integrations", "arguments": {"keys": [KEY]}}));
    }

    fn seal(&mut self, value: &str) -> String {
        let sealing = self.ask("tools/call", json!({"name": "get_sealing_key", "arguments": {}}));
        sealed(&sealing["structuredContent"], value)
    }
}

fn sealed(sealing: &Value, value: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use integration_credentials_core::seal::{self, SealingKey, Terms};
    let text = |name: &str| sealing[name].as_str().unwrap();
    let public = STANDARD.decode(text("publicKey")).unwrap().try_into().unwrap();
    let to = SealingKey { id: text("keyId").to_owned(), public };
    let terms = Terms { org: text("org"), key: KEY, role: text("role") };
    STANDARD.encode(seal::seal(&to, terms, sealing["issuedAt"].as_u64().unwrap(), value).unwrap())
}

/// A server over HTTP, and its keys.
struct Served {
    child: Child,
    address: String,
    dir: tempfile::TempDir,
    dsn: String,
}

impl Served {
    fn start(database: &Database) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pepper = dir.path().join("pepper");
        fs::write(&pepper, "a pepper of more than 32 bytes, and no secret").unwrap();
        fs::set_permissions(&pepper, fs::Permissions::from_mode(0o600)).unwrap();
        let dsn = database.dsn(SUPERUSER);
        let mut command = intcred(&dsn);
        command
            .args(["mcp", "--http", "127.0.0.1:0", "--calls-per-second", "100000", "--pepper-file"])
            .arg(&pepper);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let address = line.trim_end().rsplit_once(" on ").expect("it serves").1.to_owned();
        // Somebody reads the log.
        thread::spawn(move || stderr.lines().for_each(drop));
        Self { child, address, dir, dsn }
    }

    fn key(&self) -> String {
        let mut command = intcred(&self.dsn);
        command.args(["mcp", "key", "add", "--org", "acme", "--scope", "admin", "--pepper-file"]);
        let output = command.arg(self.dir.path().join("pepper")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Calls a second of so many clients, for two seconds.
fn clients(served: &Served, key: &str, count: usize) -> f64 {
    let until = Instant::now() + Duration::from_secs(2);
    let client = |_| {
        let mut http = Http::open(&served.address, key);
        let mut calls = 0_u32;
        while Instant::now() < until {
            http.list();
            calls += 1;
        }
        calls
    };
    let calls: u32 = thread::scope(|scope| {
        let running: Vec<_> = (0..count).map(|number| scope.spawn(move || client(number))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    f64::from(calls) / 2.0
}

/// From the entry on the page to the answer of the call that waits.
fn entry(served: &Served, key: &str) -> f64 {
    let (mut waiting, mut page) = (Http::open(&served.address, key), Http::open(&served.address, key));
    let times = (0..20).map(|_| {
        let call =
            json!({"name": "admin_set_integration_credentials", "arguments": {"integration_key": KEY}});
        let asked = waiting.ask("tools/call", call.clone());
        let link = asked["inputRequests"]["credential"]["params"]["url"].as_str().unwrap();
        let token = link.split_once('#').unwrap().1.to_owned();
        let mut retry = call;
        retry["requestState"] = asked["requestState"].clone();
        retry["inputResponses"] = json!({"credential": {"action": "accept"}});
        let value = page.seal("typed");
        thread::scope(|scope| {
            let answered = scope.spawn(|| {
                waiting.ask("tools/call", retry);
                Instant::now()
            });
            thread::sleep(Duration::from_millis(100));
            let headers = format!("Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", served.address);
            let receipt = page.post("/credential", &headers, &json!({"token": token, "sealed": value}));
            assert_eq!(receipt["hasCredentials"], true, "{receipt}");
            let stored = Instant::now();
            answered.join().unwrap().saturating_duration_since(stored)
        })
    });
    median(times.collect())
}

fn set(database: &Database, http: &mut Http) -> (f64, f64) {
    let call = |sealed: String| json!({"name": "admin_set_integration_credentials", "arguments": {"integration_key": KEY, "sealed": sealed}});
    // Less than the 60 changes that a key may make in a minute.
    let by_mcp = timed(30, || {
        let sealed = http.seal("value");
        http.ask("tools/call", call(sealed));
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let settings = ::intcred::Settings::resolve(Some(&database.dsn(ADMIN))).unwrap();
    let client = runtime.block_on(::intcred::Client::connect(&settings, |_| ())).unwrap();
    let value = ::intcred::Secret::new("value".to_owned());
    let by_library = timed(30, || {
        runtime.block_on(client.set(KEY, &value, "bench")).unwrap();
    });
    (by_mcp, by_library)
}

fn print_table(heading: &[&str], rows: &[Vec<String>]) {
    println!("\n| {} |\n|{}", heading.join(" | "), " --- |".repeat(heading.len()));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}

fn main() {
    let cluster = Cluster::private();
    let rules = "local all +integration_credentials_mcp scram-sha-256\nlocal all all trust\n";
    fs::write(cluster.data_dir().join("pg_hba.conf"), rules).unwrap();
    cluster.reload();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(async {
        let database = cluster.database_at(None).await;
        let admin = database.connect(ADMIN).await;
        let register =
            format!("SELECT integration_credentials.admin_register_integration('{KEY}', 'Slack', 'bench')");
        admin.batch_execute(&register).await.unwrap();
        database
    });

    let ours = || {
        let mut command = intcred(&database.dsn(ADMIN));
        command.arg("mcp");
        command
    };
    let mut rows = vec![stdio("intcred mcp", ours, "list_integrations", &json!({"keys": [KEY]})).to_vec()];
    let substitutes =
        HashMap::from([("DSN", database.dsn(ADMIN)), ("SOCKET", cluster.dir().display().to_string())]);
    for peer in env::var("MCP_PEERS").unwrap_or_default().split(';').filter(|peer| !peer.is_empty()) {
        let [name, line, tool, arguments] =
            peer.split('|').collect::<Vec<_>>().try_into().expect("NAME|COMMAND|TOOL|ARGUMENTS");
        let command = || {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("exec {line}")]).envs(&substitutes).env("DATABASE", database.name());
            command
        };
        rows.push(stdio(name, command, tool, &serde_json::from_str(arguments).unwrap()).to_vec());
    }
    print_table(&["stdio", "start to tools/list, p50", "a call, p50", "memory"], &rows);

    let served = Served::start(&database);
    let idle = resident(served.child.id());
    let key = served.key();
    let mut http = Http::open(&served.address, &key);
    let firsts = (0..10).map(|_| {
        let mut first = Http::open(&served.address, &served.key());
        let started = Instant::now();
        first.list();
        started.elapsed()
    });
    let first = median(firsts.collect());
    http.list();
    let one = timed(CALLS, || http.list());
    let eight = clients(&served, &key, 8);
    let keys: Vec<_> = (0..32).map(|_| served.key()).collect();
    for key in &keys {
        Http::open(&served.address, key).list();
    }
    let busy = resident(served.child.id());
    let tools = http.ask("tools/list", json!({}))["tools"].to_string().len();
    let (by_mcp, by_library) = set(&database, &mut Http::open(&served.address, &served.key()));
    let entered = entry(&served, &served.key());
    print_table(
        &["HTTP", "", "goal"],
        &[
            ["list_integrations of one key, 1 client, p50".into(), format!("{one:.2} ms"), "0.40 ms".into()],
            ["the same, 8 clients of one key".into(), format!("{eight:.0}/s"), "3,500/s".into()],
            ["first call with a key, p50".into(), format!("{first:.1} ms"), "12 ms".into()],
            ["set, sealed, with its get_sealing_key, p50".into(), format!("{by_mcp:.2} ms"), String::new()],
            ["`Client::set`, p50".into(), format!("{by_library:.2} ms"), "at most 0.5 ms less".into()],
            [
                "entered on the page to the answer of the waiting call, p50".into(),
                format!("{entered:.1} ms"),
                "50 ms".into(),
            ],
            ["memory, idle; after 43 keys".into(), format!("{idle}; {busy}"), "12 MB; 25 MB".into()],
            ["`tools/list` of an admin".into(), format!("{tools} bytes"), "6,000 bytes".into()],
        ]
        .map(|row: [String; 3]| row.to_vec()),
    );
    println!("\nBinary: {} bytes", fs::metadata(program()).unwrap().len());
}
