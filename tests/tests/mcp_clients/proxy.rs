//! An HTTP proxy on the loopback interface, as an operator may have one: it keeps all that passes, may add a header, and
//! leads to one replica at a time.

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use futures_util::TryStreamExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use std::{
    fs::File,
    io::Write,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};
use tokio::net::TcpListener;

#[derive(Clone)]
pub struct Proxy {
    /// Where clients connect to.
    pub address: SocketAddr,
    to: Arc<Mutex<SocketAddr>>,
    added: Option<(HeaderName, HeaderValue)>,
    kept: Arc<Mutex<File>>,
    http: Client<HttpConnector, Body>,
}

impl Proxy {
    /// Leads nowhere yet.
    pub async fn start(kept: &Path, added: Option<(HeaderName, HeaderValue)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Self {
            address,
            to: Arc::new(Mutex::new(address)),
            added,
            kept: Arc::new(Mutex::new(File::options().append(true).create(true).open(kept).unwrap())),
            // A server closes a connection that is idle, and a request could meet that.
            http: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http(),
        };
        let carry = |State(proxy): State<Self>, request: Request| async move { proxy.carry(request).await };
        let router = Router::new().fallback(carry).with_state(proxy.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        proxy
    }

    pub fn lead_to(&self, replica: SocketAddr) {
        *self.to.lock().unwrap() = replica;
    }

    /// The request as it came, Host included, and the answer as it comes.
    async fn carry(&self, request: Request) -> Response {
        let (mut head, body) = request.into_parts();
        let body = to_bytes(body, 4 << 20).await.unwrap();
        self.keep(format!("{} {} {:?}\n", head.method, head.uri, head.headers).as_bytes());
        self.keep(&body);
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = Uri::try_from(format!("http://{}{path}", self.to.lock().unwrap())).unwrap();
        if let Some((name, value)) = &self.added {
            head.headers.insert(name, value.clone());
        }
        match self.http.request(Request::from_parts(head, Body::from(body))).await {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                self.keep(format!("{} {:?}\n", head.status, head.headers).as_bytes());
                let proxy = self.clone();
                let body = Body::new(body).into_data_stream().inspect_ok(move |part| proxy.keep(part));
                Response::from_parts(head, Body::from_stream(body))
            }
            Err(_) => StatusCode::BAD_GATEWAY.into_response(),
        }
    }

    fn keep(&self, bytes: &[u8]) {
        self.kept.lock().unwrap().write_all(bytes).unwrap();
    }
}
