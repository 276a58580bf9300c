//! Streamable HTTP, for callers with an API key.
//!
//! | module | concept |
//! | --- | --- |
//! | `gate` | host, origin, and where a key must not be |
//! | `routes` | from a request to its answer |
//! | `connection` | a connection, with limits of time and size |
//! | `answers` | the form of this server's own answers |

pub mod answers;
pub mod connection;
pub mod gate;
pub mod routes;

use super::{
    callers::Callers,
    entry::{Entries, Place},
    pepper::{Pepper, require_private},
    pool::Pool,
    ticket::Tickets,
};
use crate::{cli_error::CliError, signals::Signals, terminal::log_line};
use gate::Names;
use intcred::Settings;
use openssl::ssl::{Ssl, SslAcceptor, SslFiletype, SslMethod};
use routes::{REQUESTS_AT_ONCE, Site};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{interval, sleep, timeout},
};
use tokio_openssl::SslStream;

const CONNECTIONS: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// For the requests that run, after SIGTERM.
const DRAIN: Duration = Duration::from_secs(5);
const PURGE: Duration = Duration::from_secs(5);

/// The options of `intcred mcp --http`.
pub struct Options {
    pub address: SocketAddr,
    pub public_url: Option<String>,
    pub pepper_file: PathBuf,
    /// The certificate and its private key.
    pub tls: Option<(PathBuf, PathBuf)>,
    pub behind_proxy: bool,
    pub allow_origin: Vec<String>,
    pub calls_per_second: u32,
}

/// Serves until SIGINT or SIGTERM.
pub async fn serve(settings: Settings, options: Options) -> Result<(), CliError> {
    let mut signals = Signals::catch()?;
    let pepper = Pepper::read(&options.pepper_file)?;
    let acceptor = options.tls.as_ref().map(|(certificate, key)| acceptor(certificate, key)).transpose()?;
    let remedy = "choose another address and port, such as 127.0.0.1:8080";
    let cannot = |error| CliError::usage(format!("cannot listen on {}: {error}", options.address), remedy);
    let listener = TcpListener::bind(options.address).await.map_err(cannot)?;
    let bound = listener.local_addr().map_err(cannot)?;
    let url = public_url(&options, bound)?;
    let names = Names::new(&url, bound, &options.allow_origin)
        .ok_or_else(|| CliError::usage("a URL is not https://HOST[:PORT]", "leave out the path"))?;
    let key = pepper.ticket_key().map_err(|error| CliError::Start(error.into()))?;
    let entries = Arc::new(Entries::new(Tickets::new(&key), Place::Public(url.clone())));
    let callers = Callers::new(settings, pepper, options.calls_per_second, Pool::new());
    let is_https = url.starts_with("https:");
    let site = Arc::new(Site::public(callers, entries, names, is_https, options.behind_proxy));
    log_line("intcred", &format!("serving {url}/mcp on {bound}"));
    tokio::select! {
        () = accept(&listener, acceptor.map(Arc::new), &site) => {}
        () = purge(&site) => {}
        () = signals.next() => {}
    }
    drop(listener);
    // A waiting call is cut off: the client asks again, and any other replica answers.
    let all = u32::try_from(REQUESTS_AT_ONCE).unwrap_or(u32::MAX);
    let _ = timeout(DRAIN, site.requests.acquire_many(all)).await;
    Ok(())
}

/// What links begin with. Without TLS, a key would cross the network in the clear.
fn public_url(options: &Options, bound: SocketAddr) -> Result<String, CliError> {
    let given = options.public_url.as_deref().map(|url| url.trim_end_matches('/'));
    let is_https = given.is_some_and(|url| url.starts_with("https://"));
    match (given, &options.tls) {
        (Some(url), Some(_)) if is_https => Ok(url.to_owned()),
        (_, Some(_)) => {
            Err(CliError::usage("with --tls-cert, --public-url is not https://", "set --public-url"))
        }
        (Some(url), None) if bound.ip().is_loopback() || (is_https && options.behind_proxy) => {
            Ok(url.to_owned())
        }
        (None, None) if bound.ip().is_loopback() => Ok(format!("http://{bound}")),
        (_, None) => Err(CliError::usage(
            "API keys would cross the network in the clear",
            "set --tls-cert and --tls-key; or, behind a proxy with TLS, --behind-proxy and an https --public-url",
        )),
    }
}

fn acceptor(certificate: &Path, key: &Path) -> Result<SslAcceptor, CliError> {
    require_private(key)?;
    let build = || {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
        builder.set_certificate_chain_file(certificate)?;
        builder.set_private_key_file(key, SslFiletype::PEM)?;
        builder.check_private_key()?;
        Ok(builder.build())
    };
    build().map_err(|_: openssl::error::ErrorStack| {
        CliError::usage(
            format!("cannot use the certificate {} with the key {}", certificate.display(), key.display()),
            "give the chain and the unencrypted private key in PEM",
        )
    })
}

async fn accept(listener: &TcpListener, acceptor: Option<Arc<SslAcceptor>>, site: &Arc<Site>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // The semaphore is never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok((stream, address)) = listener.accept().await else {
            // Probably no file descriptors are free.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (acceptor, site) = (acceptor.clone(), site.clone());
        tokio::spawn(async move {
            // Answers are small, and a client waits for each.
            let _ = stream.set_nodelay(true);
            match acceptor {
                None => connection::serve(stream, site, address.ip()).await,
                Some(acceptor) => {
                    if let Ok(Some(stream)) = timeout(HANDSHAKE, handshake(&acceptor, stream)).await {
                        connection::serve(stream, site, address.ip()).await;
                    }
                }
            }
            drop(place);
        });
    }
}

async fn handshake(acceptor: &SslAcceptor, stream: TcpStream) -> Option<SslStream<TcpStream>> {
    let mut stream = SslStream::new(Ssl::new(acceptor.context()).ok()?, stream).ok()?;
    Pin::new(&mut stream).accept().await.ok()?;
    Some(stream)
}

async fn purge(site: &Site) {
    let mut ticks = interval(PURGE);
    loop {
        ticks.tick().await;
        site.purge();
    }
}
