//! A real HTTP service, whose keys are rotated under load.

use super::Rotation;
use crate::{
    command_line::eventually,
    helpers::calls::{ANY, set},
};
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Method, Request, StatusCode, header::AUTHORIZATION},
    routing::any,
};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use intcred::{CacheOptions, CredentialCache, Settings};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tests::READER;
use tokio::net::TcpListener;

/// A vendor that allows two keys at most. POST mints one, DELETE revokes the one that it is called with, and
/// GET needs one.
#[derive(Clone, Default)]
struct Vendor {
    keys: Arc<Mutex<Keys>>,
    /// Requests with a revoked key, revocations apart.
    late: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Keys {
    live: Vec<String>,
    revoked: BTreeSet<String>,
    minted: usize,
}

impl Vendor {
    async fn start() -> (Self, String) {
        let vendor = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answer = |State(vendor): State<Self>, method: Method, headers: HeaderMap| async move {
            vendor.answer(&method, &headers)
        };
        let router = Router::new().route("/", any(answer)).with_state(vendor.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (vendor, address)
    }

    fn answer(&self, method: &Method, headers: &HeaderMap) -> (StatusCode, String) {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let mut keys = self.keys.lock().unwrap();
        let is_live = keys.live.iter().any(|key| key == given);
        let status = match *method {
            Method::POST if keys.live.len() >= 2 => StatusCode::CONFLICT,
            Method::POST => {
                keys.minted += 1;
                let key = format!("key-{}", keys.minted);
                keys.live.push(key.clone());
                return (StatusCode::CREATED, key);
            }
            Method::DELETE if is_live => {
                keys.live.retain(|key| key != given);
                keys.revoked.insert(given.to_owned());
                StatusCode::OK
            }
            // A revocation that runs again.
            Method::DELETE if keys.revoked.contains(given) => StatusCode::OK,
            _ if is_live => StatusCode::OK,
            _ => {
                if keys.revoked.contains(given) {
                    self.late.fetch_add(1, Ordering::Relaxed);
                }
                StatusCode::UNAUTHORIZED
            }
        };
        (status, String::new())
    }

    fn mint(&self) -> Result<String, StatusCode> {
        match self.answer(&Method::POST, &HeaderMap::new()) {
            (StatusCode::CREATED, key) => Ok(key),
            (status, _) => Err(status),
        }
    }

    fn live(&self) -> Vec<String> {
        self.keys.lock().unwrap().live.clone()
    }
}

/// A command that calls the vendor with the key on its standard input.
fn call(method: &str, address: &str) -> String {
    let (host, port) = address.split_once(':').unwrap();
    let script = format!(
        r#"read -r key || true; exec 3<>/dev/tcp/{host}/{port}
        printf "{method} / HTTP/1.0\r\nHost: vendor\r\nAuthorization: Bearer %s\r\n\r\n" "$key" >&3
        read -r _ status _ <&3; [ "$status" = 200 ]"#
    );
    // With bash for its TCP; the key is no argument of a program.
    format!("exec bash -c '{script}'")
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_vendor_are_rotated_under_load_and_no_request_fails() {
    const CONSUMERS: usize = 4;
    const ROTATIONS: usize = 3;
    let (vendor, address) = Vendor::start().await;
    let rotation = Rotation::new().await;
    set(&rotation.admin, ANY, &vendor.mint().unwrap()).await.unwrap();

    let (is_over, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let settings = Settings::resolve(Some(&rotation.database.dsn(READER))).unwrap();
    let mut consumers = Vec::new();
    for _ in 0..CONSUMERS {
        let cache = CredentialCache::start(&settings, CacheOptions::default()).await.unwrap();
        let (is_over, requests, address) = (is_over.clone(), requests.clone(), address.clone());
        consumers.push(tokio::spawn(async move {
            let http = Client::builder(TokioExecutor::new()).build_http::<Body>();
            while !is_over.load(Ordering::Relaxed) {
                let key = cache.get(ANY).await.unwrap();
                let request = Request::get(format!("http://{address}/"));
                let request = request.header(AUTHORIZATION, format!("Bearer {}", key.expose().unwrap()));
                let answer = http.request(request.body(Body::empty()).unwrap()).await.unwrap();
                drop(key);
                assert_eq!(answer.status(), StatusCode::OK);
                requests.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let (probe, revoke) = (call("GET", &address), call("DELETE", &address));
    for number in 0..ROTATIONS {
        let before = requests.load(Ordering::Relaxed);
        eventually("requests", async || requests.load(Ordering::Relaxed) > before + 50).await;
        let old = vendor.live();
        let new = vendor.mint().unwrap();
        assert_eq!(vendor.mint(), Err(StatusCode::CONFLICT));
        let steps = rotation.steps(&["--test", &probe, "--revoke", &revoke], &new).await;
        assert_eq!(steps, ["stage", "test", "promote", "wait", "revoke", "retire", "done"], "{number}");
        assert_eq!(vendor.live(), std::slice::from_ref(&new));
        assert!(!old.contains(&new));
    }
    let before = requests.load(Ordering::Relaxed);
    eventually("requests", async || requests.load(Ordering::Relaxed) > before + 50).await;
    is_over.store(true, Ordering::Relaxed);
    for consumer in consumers {
        consumer.await.expect("no request failed");
    }
    assert_eq!(vendor.late.load(Ordering::Relaxed), 0);

    // A key that the vendor does not take is never promoted.
    let output = rotation.run(&["rotate", ANY, "--test", &probe], "key-unknown").await;
    assert!(output.code == 1 && output.stderr.contains("the test failed"), "{output:?}");
    assert_eq!(rotation.current().await, vendor.live()[0]);
}
