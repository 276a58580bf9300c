//! The example service: under load, a rotation makes no request fail.

use crate::{
    command_line::{PATIENCE, database, eventually},
    helpers::calls::{ANY, set},
};
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header::AUTHORIZATION},
    routing::get,
};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use std::{
    env,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tests::{ADMIN, Cluster, Database, READER};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Somebody's API, which knows the credentials that it issued.
#[derive(Clone, Default)]
struct Api {
    accepted: Arc<Mutex<Vec<String>>>,
    refused: Arc<AtomicUsize>,
}

impl Api {
    async fn start() -> (Self, String) {
        let api = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let answer = |State(api): State<Self>, headers: HeaderMap| async move { api.answer(&headers) };
        let router = Router::new().route("/", get(answer)).with_state(api.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (api, url)
    }

    fn answer(&self, headers: &HeaderMap) -> StatusCode {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if self.accepted.lock().unwrap().iter().any(|token| given == format!("Bearer {token}")) {
            StatusCode::OK
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            StatusCode::UNAUTHORIZED
        }
    }

    /// Issues another credential. The one before it is accepted until it is revoked.
    fn issue(&self, token: &str) {
        self.accepted.lock().unwrap().push(token.to_owned());
    }

    fn revoke_all_but_the_last(&self) {
        let mut accepted = self.accepted.lock().unwrap();
        let last = accepted.len() - 1;
        accepted.drain(..last);
    }
}

/// Starts the example, and returns it with where it listens.
async fn start(database: &Database, api: &str) -> (Child, Uri) {
    let test = env::current_exe().unwrap();
    let path: PathBuf = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/service");
    assert!(
        path.exists(),
        "{} is missing: build it with `cargo build -p intcred --examples`",
        path.display()
    );
    let mut command = Command::new(path);
    command.args(["127.0.0.1:0", ANY, api]).env_clear();
    command.env("PGHOST", Cluster::shared().dir()).env("PGPORT", Cluster::shared().port().to_string());
    command.env("PGDATABASE", database.name()).env("PGUSER", READER);
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address =
        timeout(PATIENCE, lines.next_line()).await.expect("it starts").unwrap().expect("an address");
    (child, format!("http://{address}/").parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_a_rotation_makes_no_request_fail() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    let (api, url) = Api::start().await;
    api.issue("token-0");
    set(&admin, ANY, "token-0").await.unwrap();
    let (_service, service) = start(&database, &url).await;

    let is_over = Arc::new(AtomicBool::new(false));
    let requests = Arc::new([const { AtomicUsize::new(0) }; 8]);
    let clients: Vec<_> = (0..requests.len())
        .map(|number| {
            let (is_over, requests, service) = (is_over.clone(), requests.clone(), service.clone());
            let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(client.get(service.clone()).await.unwrap().status(), StatusCode::OK);
                    requests[number].fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let answered = || requests.each_ref().map(|requests| requests.load(Ordering::Relaxed));
    for rotation in 1..=20 {
        let token = format!("token-{rotation}");
        api.issue(&token);
        set(&admin, ANY, &token).await.unwrap();
        // Some vendors leave more time than others; with none, the service is refused before it is notified.
        if rotation % 2 == 0 {
            sleep(Duration::from_millis(100)).await;
        }
        api.revoke_all_but_the_last();
        sleep(Duration::from_millis(50)).await;
        // A request that was refused is tried once more, with the token that is accepted now. The second answer from now
        // on is one to a request that began after the revocation.
        let before = answered();
        eventually("every request of before is answered", async || {
            clients.iter().any(JoinHandle::is_finished)
                || answered().iter().zip(before).all(|(now, before)| *now > before + 1)
        })
        .await;
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let requests: usize = answered().iter().sum();
    let refused = api.refused.load(Ordering::Relaxed);
    println!("{requests} requests through 20 rotations, none failed; {refused} were tried a second time");
    assert!(requests > 200);

    // What the API does not take at all is told, and asked for twice at most.
    api.issue("unknown to the service");
    api.revoke_all_but_the_last();
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    assert_eq!(client.get(service).await.unwrap().status(), StatusCode::BAD_GATEWAY);
    assert_eq!(api.refused.load(Ordering::Relaxed), refused + 1);
}
