//! Where and how to connect, from the same sources as psql.
//!
//! In order of precedence: the DSN (a URI or `key=value` pairs), the service that it or `PGSERVICE` names, the `PG*`
//! variables, libpq's defaults. A password that none of them gives is looked up in the password file.

mod conninfo;
mod environment;
mod error;
mod file;
mod keepalive;
mod keywords;
mod passfile;
mod resolve;
mod service;
mod target;
mod tls;
mod uri;
mod values;

pub use environment::os_user;
pub use error::SettingsError;
pub(crate) use keepalive::Keepalive;
pub(crate) use target::{Target, Wanted};
pub(crate) use tls::{Identity, Revoked, Roots, SslMode, TlsSettings};

use std::{fmt, time::Duration};
use tokio_postgres::Config;

/// Everything that a connection needs to know.
#[derive(Clone)]
pub struct Settings {
    /// Tried in this order.
    pub(crate) targets: Vec<Target>,
    /// What is the same for each target.
    pub(crate) config: Config,
    pub(crate) tls: TlsSettings,
    /// Which of the targets will do.
    pub(crate) wanted: Wanted,
    /// `load_balance_hosts=random`
    pub(crate) shuffle: bool,
    /// The user whose server it has to be, behind a socket.
    pub(crate) peer: Option<String>,
    pub(crate) keepalive: Keepalive,
    /// For each address; without one, as long as the operating system tries.
    pub(crate) connect_timeout: Option<Duration>,
    warnings: Vec<String>,
}

impl Settings {
    /// What was passed over, such as a password file that others can read.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The database's name.
    #[must_use]
    pub fn dbname(&self) -> &str {
        self.config.get_dbname().unwrap_or_default()
    }
}

/// Without passwords.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("targets", &self.targets)
            .field("user", &self.config.get_user())
            .field("dbname", &self.config.get_dbname())
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}
