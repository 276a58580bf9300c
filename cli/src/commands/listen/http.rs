//! /metrics, /healthz and /readyz.

use super::{metrics::Metrics, status::Status};
use crate::cli_error::CliError;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};

/// The time limit of a connection, which serves one request.
const LIMIT: Duration = Duration::from_secs(5);
/// The limit of concurrent connections, so that clients cannot exhaust the file descriptors. Others wait.
const CONNECTIONS: usize = 64;

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

#[derive(Clone)]
pub struct Pages {
    pub metrics: Metrics,
    pub status: watch::Receiver<Status>,
}

/// Serves until the runtime ends, and returns the address.
pub async fn serve(address: &str, pages: Pages) -> Result<SocketAddr, CliError> {
    let remedy = "set --metrics to an address and a port, such as 127.0.0.1:9187 or [::1]:9187";
    // The argument is not shown, because it could be a secret.
    let parsed: Result<SocketAddr, _> = address.parse();
    let wanted = parsed.map_err(|_| CliError::usage("the address of --metrics is not IP:PORT", remedy))?;
    let cannot = |error| CliError::usage(format!("cannot serve metrics on {wanted}: {error}"), remedy);
    let listener = TcpListener::bind(wanted).await.map_err(cannot)?;
    let bound = listener.local_addr().map_err(cannot)?;
    tokio::spawn(accept(listener, pages));
    Ok(bound)
}

async fn accept(listener: TcpListener, pages: Pages) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // The semaphore is never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            // Probably no file descriptors are free.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let pages = pages.clone();
        tokio::spawn(async move {
            // A client that closed the connection, sent no HTTP or was too slow gets no answer.
            let _ = timeout(LIMIT, answer(stream, pages)).await;
            drop(place);
        });
    }
}

async fn answer(stream: TcpStream, pages: Pages) -> hyper::Result<()> {
    let service = service_fn(|request: Request<Incoming>| {
        let page = pages.page(request.method(), request.uri().path());
        async { Ok::<_, Infallible>(page) }
    });
    // `LIMIT` covers the headers too.
    let mut http = http1::Builder::new();
    http.keep_alive(false).header_read_timeout(None);
    http.serve_connection(TokioIo::new(stream), service).await
}

impl Pages {
    fn page(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let (status, form, text) = match (method, path) {
            (&Method::GET | &Method::HEAD, "/metrics") => match self.metrics.text() {
                Ok(text) => (StatusCode::OK, OPENMETRICS, text),
                Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "cannot be written\n".to_owned()),
            },
            (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, PLAIN, "alive\n".to_owned()),
            (&Method::GET | &Method::HEAD, "/readyz") => {
                let status = self.status.borrow().clone();
                let is_ready = status == Status::Following;
                let code = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                (code, PLAIN, format!("{status}\n"))
            }
            (_, "/metrics" | "/healthz" | "/readyz") => {
                (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n".to_owned())
            }
            _ => (StatusCode::NOT_FOUND, PLAIN, "here are /metrics, /healthz and /readyz\n".to_owned()),
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, form);
        response
    }
}
