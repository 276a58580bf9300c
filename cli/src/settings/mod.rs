//! Where and how to connect, from the same sources as psql.
//!
//! In order of precedence: the DSN (a URI or `key=value` pairs), the service that it or `PGSERVICE` names, the `PG*`
//! variables, libpq's defaults. A password that none of them gives is looked up in the password file.

mod conninfo;
mod environment;
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
pub(crate) use keepalive::Keepalive;
pub(crate) use target::{Target, Wanted};
pub(crate) use tls::{Identity, Revoked, Roots, SslMode, TlsSettings};

use environment::Environment;
use std::{fmt, io, path::PathBuf, time::Duration};
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
    /// Resolves the DSN, if there is one, together with the environment of this process.
    pub fn resolve(dsn: Option<&str>) -> Result<Self, SettingsError> {
        resolve::resolve(dsn, &Environment::of_process())
    }

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

fn remedy(harmless: &[&str]) -> String {
    if harmless.is_empty() {
        "leave it out".to_owned()
    } else {
        format!("leave it out or at {}", harmless.join(" or "))
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

/// What is wrong with the connection settings. Never shows a value that could be a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// Neither libpq nor this client knows it.
    #[error("the connection settings have an unknown keyword \"{0}\"")]
    UnknownKeyword(String),
    /// libpq can do what it asks for, this client can't, and to leave it out unseen would not be safe.
    #[error("the connection setting \"{keyword}\" is not supported here; {}", remedy(harmless))]
    Unsupported {
        /// Which one.
        keyword: &'static str,
        /// The values that it may have here, besides none.
        harmless: &'static [&'static str],
    },
    /// A variable that could say anything.
    #[error("the environment variable {0} is not UTF-8")]
    Variable(&'static str),
    /// Not `key=value` pairs.
    #[error("the DSN is neither a postgresql:// URI nor key=value pairs: it has {0}")]
    Conninfo(&'static str),
    /// Not a URI that libpq would read.
    #[error("the DSN is not a valid URI: it has {0}")]
    Uri(&'static str),
    /// A value that its keyword can't have.
    #[error("the connection setting \"{keyword}\" must be {expected}")]
    Value {
        /// Whose value.
        keyword: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// Lists of different lengths.
    #[error("the connection settings have {hosts} hosts and {others} values for \"{keyword}\"")]
    Count {
        /// How many hosts.
        hosts: usize,
        /// Whose list has another length.
        keyword: &'static str,
        /// That length.
        others: usize,
    },
    /// No file has it.
    #[error("no service file has the service \"{0}\"")]
    ServiceNotFound(String),
    /// A line that is not a setting.
    #[error("{path:?}, line {line}, is not keyword=value")]
    ServiceFile {
        /// The file.
        path: PathBuf,
        /// 1-based.
        line: usize,
    },
    /// A file that was named and can't be read.
    #[error("cannot read {path:?}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No `user`, no `PGUSER`, and the operating system has no name for this process's user either.
    #[error("there is no user to connect as; set PGUSER or put user=... into the DSN")]
    NoUser,
}
