//! Connecting: one target after the other, with TLS as `sslmode` demands.

mod role;
mod socket;

use crate::{
    Error, Settings,
    deadline::within,
    settings::{SessionAttrs, SslMode, Target},
    tls::{self, Refusal},
};
use postgres_openssl::{TlsConnector, TlsStream};
use socket::{Address, Connection, Stream};
use std::{error::Error as StdError, future::ready, pin::Pin};
use tokio_postgres::{
    Client, Config,
    config::{
        SslMode::{Disable, Prefer, Require},
        SslNegotiation,
    },
    tls::TlsConnect,
};

type Connected = (Client, Connection);

/// Connects to the first target that accepts the login and has the role of `target_session_attrs`.
pub(crate) async fn connect(settings: &Settings) -> Result<Connected, Error> {
    let mut targets: Vec<_> = settings.targets.iter().collect();
    if settings.shuffle {
        shuffle(&mut targets);
    }
    // `prefer-standby` accepts any server in a second round.
    let rounds: &[SessionAttrs] = match settings.session_attrs {
        SessionAttrs::PreferStandby => &[SessionAttrs::Standby, SessionAttrs::Any],
        _ => &[settings.session_attrs],
    };
    let mut last = None;
    for &session_attrs in rounds {
        for target in &targets {
            match connect_to(target, settings, session_attrs).await {
                Ok(connected) => return Ok(connected),
                // As in libpq, a refused login ends the search.
                Err(error @ Error::NotAuthorised { .. }) => return Err(error),
                Err(error) => last = Some(error),
            }
        }
    }
    Err(last.unwrap_or_else(|| Error::Unexpected("the settings name no host".to_owned())))
}

async fn connect_to(
    target: &Target,
    settings: &Settings,
    session_attrs: SessionAttrs,
) -> Result<Connected, Error> {
    let failure = |reason: String| Error::Connect { target: target.to_string(), reason };
    let addresses = within(settings.connect_timeout, socket::addresses(target)).await;
    let addresses = addresses.map_err(|late| failure(late.to_string()))?;
    let mut addresses = addresses.map_err(|error| failure(error.to_string()))?;
    if settings.shuffle {
        shuffle(&mut addresses);
    }
    let mut last = failure("the host name has no address".to_owned());
    for address in &addresses {
        match (Attempt { target, address, settings, session_attrs }).make().await {
            Err(error @ Error::Connect { .. }) => last = error,
            decided => return decided,
        }
    }
    Err(last)
}

/// One address of a target.
struct Attempt<'a> {
    target: &'a Target,
    address: &'a Address,
    settings: &'a Settings,
    session_attrs: SessionAttrs,
}

/// A failed attempt, and whether to retry with or without TLS: `pg_hba.conf` may have no line for this one. A
/// wrong password is not sent a second time, and a refused certificate is not followed by an attempt without
/// TLS.
struct Failed {
    error: Error,
    retry: bool,
}

impl Attempt<'_> {
    async fn make(&self) -> Result<Connected, Error> {
        let mode = if self.target.is_socket() { SslMode::Disable } else { self.settings.tls.mode };
        let result = match mode {
            SslMode::Disable => self.with(mode, Disable).await,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => self.with(mode, Require).await,
            // Of two errors, that of the attempt with TLS says more, unless the server merely has no TLS.
            SslMode::Prefer => match self.with(mode, Prefer).await {
                Err(first) if first.retry => self.with(mode, Disable).await.map_err(|_| first),
                result => result,
            },
            SslMode::Allow => match self.with(mode, Disable).await {
                Err(first) if first.retry => {
                    self.with(mode, Require).await.map_err(|second| match second.error {
                        Error::NotAuthorised { .. } => second,
                        _ => first,
                    })
                }
                result => result,
            },
        };
        result.map_err(|failed| failed.error)
    }

    async fn with(
        &self,
        mode: SslMode,
        encrypted: tokio_postgres::config::SslMode,
    ) -> Result<Connected, Failed> {
        let connecting = within(self.settings.login_timeout(), self.try_with(mode, encrypted)).await;
        connecting.map_err(|late| self.failed(late.to_string()))?
    }

    async fn try_with(
        &self,
        mode: SslMode,
        encrypted: tokio_postgres::config::SslMode,
    ) -> Result<Connected, Failed> {
        let Settings { tls, keepalive, peer, .. } = self.settings;
        let refusal = Refusal::default();
        let connector = match encrypted {
            Disable => None,
            _ => Some(
                tls::connector(mode, &self.target.host, tls, &refusal)
                    .map_err(|reason| self.failed(reason))?,
            ),
        };
        let reaching = self.address.connect(keepalive, peer.as_deref());
        let stream = within(self.settings.connect_timeout, reaching).await;
        let stream = stream.map_err(|late| self.failed(late.to_string()))?;
        let stream = stream.map_err(|error| self.failed(error.to_string()))?;
        let connected = self.config(encrypted).connect_raw(stream, Tls(connector)).await;
        let (client, mut connection) = connected.map_err(|error| match refusal.reason() {
            Some(reason) => self.failed(reason.to_owned()),
            None => Failed {
                retry: error.code().is_some_and(|code| code.code() == "28000"),
                error: Error::of_login(&error, &self.target.to_string()),
            },
        })?;
        role::check(self.session_attrs, &client, &mut connection)
            .await
            .map_err(|reason| self.failed(reason))?;
        Ok((client, connection))
    }

    fn failed(&self, reason: String) -> Failed {
        Failed { error: Error::Connect { target: self.target.to_string(), reason }, retry: false }
    }

    fn config(&self, encrypted: tokio_postgres::config::SslMode) -> Config {
        let mut config = self.settings.config.clone();
        config.ssl_mode(encrypted);
        if self.settings.tls.direct {
            config.ssl_negotiation(SslNegotiation::Direct);
        }
        if let Some(password) = &self.target.password {
            config.password(password.expose());
        }
        config
    }
}

/// The connector of an attempt with TLS; `None` in an attempt without.
struct Tls(Option<TlsConnector>);

impl TlsConnect<Stream> for Tls {
    type Stream = TlsStream<Stream>;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, Self::Error>> + Send>>;

    fn connect(self, stream: Stream) -> Self::Future {
        match self.0 {
            Some(connector) => connector.connect(stream),
            None => Box::pin(ready(Err("this attempt is without TLS".into()))),
        }
    }
}

/// Shuffles, so that many clients spread over the servers.
fn shuffle<T>(items: &mut [T]) {
    for last in (1..items.len()).rev() {
        // Without randomness, keeps the order.
        let random = getrandom::u64().unwrap_or(u64::MAX);
        let chosen = usize::try_from(random % (last as u64 + 1)).unwrap_or(last);
        items.swap(last, chosen);
    }
}
