//! The connection settings, from the same sources as psql.
//!
//! The sources in order of precedence: the DSN (a URI or `key=value` pairs), the service that the DSN or
//! `PGSERVICE` names, the `PG*` variables, the defaults of libpq. Without a password in these, the password
//! file is read.
//!
//! | module | concept |
//! | --- | --- |
//! | `error` | the errors of connection settings |
//! | `keywords` | libpq's keywords and variables, and which of them have an effect here |
//! | `values` | keywords with their values, from one source |
//! | `uri`, `conninfo` | the two forms of a DSN |
//! | `environment` | the process's variables, home directory and user |
//! | `file`, `service`, `passfile` | reading the service file and the password file |
//! | `target`, `keepalive`, `tls` | parts of the settings |
//! | `resolve` | from the sources to the settings |

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
pub(crate) use target::{SessionAttrs, Target};
pub(crate) use tls::{Identity, Revoked, Roots, SslMode, TlsSettings};

use std::{fmt, time::Duration};
use tokio_postgres::Config;

/// The settings of a connection: servers, user, password, database, TLS and timeouts.
#[derive(Clone)]
pub struct Settings {
    /// In the order of the attempts.
    pub(crate) targets: Vec<Target>,
    /// The part that is the same for each target.
    pub(crate) config: Config,
    pub(crate) tls: TlsSettings,
    /// `target_session_attrs`
    pub(crate) session_attrs: SessionAttrs,
    /// `load_balance_hosts=random`
    pub(crate) shuffle: bool,
    /// `requirepeer`: the operating system user of a server behind a socket.
    pub(crate) peer: Option<String>,
    pub(crate) keepalive: Keepalive,
    /// For each address. `None`: as long as the operating system tries.
    pub(crate) connect_timeout: Option<Duration>,
    warnings: Vec<String>,
}

impl Settings {
    /// Warnings for the user, such as a password file that is not used because others can read it.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The same, for another role: with its password, or with none.
    #[must_use]
    pub fn with_login(&self, role: &str, password: Option<&crate::Secret>) -> Self {
        let mut settings = self.clone();
        settings.config.user(role);
        for target in &mut settings.targets {
            target.password = password.cloned();
        }
        settings
    }

    /// The name of the database.
    #[must_use]
    pub fn dbname(&self) -> &str {
        self.config.get_dbname().unwrap_or_default()
    }
}

/// Shows no password.
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
