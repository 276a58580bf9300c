//! A connection: HTTP/1.1 over TCP or TLS, with limits of time and size for what arrives.

use super::routes::Site;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

/// For the head of a request, and between two requests.
const HEAD: Duration = Duration::from_secs(30);
const MAX_HEAD: usize = 32 << 10;

/// Serves until the client closes the connection.
pub async fn serve<S>(stream: S, site: Arc<Site>, address: IpAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(site.answer(request, address).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(MAX_HEAD);
    // A client that sent no HTTP, or was too slow, gets no answer.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}
