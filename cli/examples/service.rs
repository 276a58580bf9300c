//! A service that calls an API with the current credential.
//!
//! ```console
//! $ PGSERVICE=app cargo run --example service -- 127.0.0.1:8080 slack http://127.0.0.1:9090/
//! ```
//! The connection settings come from the same sources as those of psql. No request fails because of a
//! rotation: see `call`.

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderValue, Request, StatusCode, Uri, header::AUTHORIZATION},
    routing::get,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use intcred::{CacheOptions, Credential, CredentialCache, Settings};
use std::{env, error::Error, sync::Arc};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

#[derive(Clone)]
struct Service {
    credentials: CredentialCache,
    /// The integration's key.
    key: Arc<str>,
    api: Uri,
    http: Client<HttpConnector, Body>,
}

#[tokio::main]
#[allow(clippy::print_stdout, reason = "prints its address")]
async fn main() -> Result<(), Box<dyn Error>> {
    let [address, key, api] = env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "usage: service ADDRESS KEY API-URL")?;
    let credentials = CredentialCache::start(&Settings::resolve(None)?, CacheOptions::default()).await?;
    // Before the first request, so that no request waits for a fetch.
    credentials.warm().await?;
    let service = Service {
        credentials,
        key: key.into(),
        api: api.parse()?,
        http: Client::builder(TokioExecutor::new()).build_http(),
    };
    let listener = TcpListener::bind(address).await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/", get(answer)).with_state(service)).await?;
    Ok(())
}

async fn answer(State(service): State<Service>) -> (StatusCode, String) {
    match service.call().await {
        Ok(status) if status.is_success() => (StatusCode::OK, "done\n".to_owned()),
        Ok(status) => (StatusCode::BAD_GATEWAY, format!("the API answered {status}\n")),
        // Errors of the cache and of the HTTP client contain no credential.
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

impl Service {
    /// Calls the API. A rotation may reach the vendor before this service. So after a refusal, the service
    /// reads the credential again, and retries once if the revision differs.
    async fn call(&self) -> Result<StatusCode, Box<dyn Error + Send + Sync>> {
        let credential = self.credentials.get(&self.key).await?;
        let status = self.call_with(&credential).await?;
        if status != StatusCode::UNAUTHORIZED {
            return Ok(status);
        }
        let newer = self.credentials.reread(&self.key, credential.revision()).await?;
        if newer.revision() == credential.revision() {
            return Ok(status);
        }
        self.call_with(&newer).await
    }

    async fn call_with(&self, credential: &Credential) -> Result<StatusCode, Box<dyn Error + Send + Sync>> {
        let bearer = Zeroizing::new(format!("Bearer {}", credential.expose()?));
        let mut authorization =
            HeaderValue::from_str(&bearer).map_err(|_| "the credential is not valid in a header")?;
        authorization.set_sensitive(true);
        let request =
            Request::get(self.api.clone()).header(AUTHORIZATION, authorization).body(Body::empty())?;
        Ok(self.http.request(request).await?.status())
    }
}
