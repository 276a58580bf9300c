//! Connecting: one target after the other, with as much TLS as the settings ask for.

use crate::{
    Error, Settings,
    error::tls_error,
    settings::{SslMode, Target},
    tls,
};
use tokio::time::timeout;
use tokio_postgres::{
    Config, Connection, Socket,
    config::SslMode::{Disable, Prefer, Require},
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
type Connected = (tokio_postgres::Client, Connection<Socket, TlsStream>);

/// Connects to the first of the targets that lets us in.
pub(crate) async fn connect(settings: &Settings) -> Result<Connected, Error> {
    let mut last = None;
    for target in &settings.targets {
        match connect_to(target, settings).await {
            Ok(connected) => return Ok(connected),
            // As in libpq, a server that refuses the login has the last word.
            Err(error @ Error::NotAuthorised { .. }) => return Err(error),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::Unexpected("no host in the settings".to_owned())))
}

async fn connect_to(target: &Target, settings: &Settings) -> Result<Connected, Error> {
    let mode = if target.is_socket() { SslMode::Disable } else { settings.tls.mode };
    let shown = target.to_string();
    let attempt = async |encrypted| {
        let config = config(target, settings, encrypted);
        let tls = tls::client_config(mode, &settings.tls)
            .map_err(|reason| Failed::other(Error::Connect { target: shown.clone(), reason }))?;
        let connecting = config.connect(MakeRustlsConnect::new(tls));
        let result = match settings.connect_timeout {
            None => connecting.await,
            Some(limit) => timeout(limit, connecting).await.map_err(|_| {
                let reason = format!("no answer within {} s", limit.as_secs());
                Failed::other(Error::Connect { target: shown.clone(), reason })
            })?,
        };
        result.map_err(|error| Failed {
            retry: tls_error(&error).is_some() || error.code().is_some_and(|code| code.code() == "28000"),
            error: Error::of_login(&error, &shown),
        })
    };
    let result = match mode {
        SslMode::Disable => attempt(Disable).await,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => attempt(Require).await,
        // Of two failures the one with TLS says more, unless it only says that there is no TLS.
        SslMode::Prefer => match attempt(Prefer).await {
            Err(first) if first.retry => attempt(Disable).await.map_err(|_| first),
            result => result,
        },
        SslMode::Allow => match attempt(Disable).await {
            Err(first) if first.retry => attempt(Require).await.map_err(|second| match second.error {
                Error::NotAuthorised { .. } => second,
                _ => first,
            }),
            result => result,
        },
    };
    result.map_err(|failed| failed.error)
}

/// A failed attempt, and whether one with the other kind of encryption may fare better: TLS itself failed, or
/// `pg_hba.conf` has no line for this kind. A wrong password is not sent a second time.
struct Failed {
    error: Error,
    retry: bool,
}

impl Failed {
    fn other(error: Error) -> Self {
        Self { error, retry: false }
    }
}

fn config(target: &Target, settings: &Settings, encrypted: tokio_postgres::config::SslMode) -> Config {
    let mut config = settings.config.clone();
    config.host(&target.host).port(target.port).ssl_mode(encrypted);
    if let Some(address) = target.hostaddr {
        config.hostaddr(address);
    }
    if let Some(password) = &target.password {
        config.password(password.expose());
    }
    config
}
