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

/// Time for a server to log in thousands of clients.
pub(crate) const LONGEST_LOGIN: Duration = Duration::from_mins(1);

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
    /// How often a client that tries until it succeeds has failed; see [`Self::login_timeout`].
    failed_attempts: u32,
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

    /// For each address and the login there: `connect_timeout`, doubled by each failed attempt.
    ///
    /// A server that has restarted has a queue of logins. Postgres begins those of clients that have left, too,
    /// and carries them out unless it has to ask the client. So clients that leave after a fixed time and queue
    /// again may all of them never get in.
    pub(crate) fn login_timeout(&self) -> Option<Duration> {
        self.connect_timeout.map(|limit| {
            let longer = limit.saturating_mul(2_u32.saturating_pow(self.failed_attempts));
            longer.min(limit.max(LONGEST_LOGIN))
        })
    }

    /// For a client that tries until it succeeds, and again later.
    pub(crate) fn count_attempt(&mut self, has_succeeded: bool) {
        self.failed_attempts = if has_succeeded { 0 } else { self.failed_attempts.saturating_add(1) };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_timeout_doubles_up_to_a_minute_and_is_never_shorter_than_connect_timeout() {
        for (connect_timeout, expected) in
            [("10", vec![10, 20, 40, 60, 60]), ("1", vec![1, 2, 4, 8, 16, 32, 60]), ("90", vec![90, 90])]
        {
            let mut settings =
                Settings::resolve(Some(&format!("user=u connect_timeout={connect_timeout}"))).unwrap();
            for seconds in &expected {
                assert_eq!(settings.login_timeout(), Some(Duration::from_secs(*seconds)));
                settings.count_attempt(false);
            }
            settings.failed_attempts = u32::MAX;
            settings.count_attempt(false);
            assert_eq!(settings.login_timeout().map(|limit| limit.as_secs()), expected.last().copied());
            settings.count_attempt(true);
            assert_eq!(settings.login_timeout().map(|limit| limit.as_secs()), expected.first().copied());
        }
        let mut without = Settings::resolve(Some("user=u connect_timeout=0")).unwrap();
        without.count_attempt(false);
        assert_eq!(without.login_timeout(), None);
    }
}
