//! The errors of the library. No message contains a secret.
//!
//! No error keeps a `tokio_postgres::Error`: its `Debug` prints DETAIL and CONTEXT, which may quote a
//! statement.

use crate::{SettingsError, tls};
use integration_credentials_core::error::{ErrorCode, Refusal};
use serde::Deserialize;
use std::{error::Error as _, sync::Arc};
use tokio_postgres::error::DbError;

/// The oldest major version of PostgreSQL that the extension supports.
pub(crate) const OLDEST_SERVER: u32 = 15;
const CLOSED: &str = "the server closed the connection";

/// Why a call failed. No message contains a secret.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The extension refused the call: an argument, a rule, the catalog, a grant, or the keyring.
    #[error("{message}")]
    Refused {
        /// The error code, which has an HTTP status and a SQLSTATE.
        code: ErrorCode,
        /// The reason, for people.
        message: String,
        /// The remedy, where the server gives one.
        hint: Option<String>,
    },
    /// The credential has another revision than the call expected. Nothing was changed.
    #[error("{message}")]
    RevisionConflict {
        /// The revision that is there.
        revision: i64,
        /// The reason, for people.
        message: String,
        /// The remedy, where the server gives one.
        hint: Option<String>,
    },
    /// A consumer may still use the previous value. Nothing was changed.
    #[error("{message}")]
    NotConverged {
        /// The names of those who are behind; empty if the server does not know.
        behind: Vec<String>,
        /// The reason, for people.
        message: String,
        /// The remedy, where the server gives one.
        hint: Option<String>,
    },
    /// The connection settings are invalid, or name a file that cannot be read.
    #[error(transparent)]
    Settings(Arc<SettingsError>),
    /// No connection: no server of the settings answered, or none was suitable.
    #[error("cannot connect to {target}: {reason}")]
    Connect {
        /// The server, as host and port, or as the path of its socket.
        target: String,
        /// The reason.
        reason: String,
    },
    /// The server refused the login.
    #[error("{target} refuses the login: {message}")]
    NotAuthorised {
        /// The server, as host and port, or as the path of its socket.
        target: String,
        /// The server's message.
        message: String,
    },
    /// The server is older than PostgreSQL 15.
    #[error("the server is PostgreSQL {version}, and integration_credentials needs {minimum} or newer",
        minimum = OLDEST_SERVER)]
    ServerTooOld {
        /// The server's version.
        version: String,
    },
    /// The database does not have the extension, or has another version of it.
    #[error("the database \"{database}\" does not have the extension: {message}")]
    ExtensionMissing {
        /// The name of the database.
        database: String,
        /// The server's message.
        message: String,
    },
    /// The session is a superuser's, and the schema `integration_credentials` has objects of a role that is
    /// no superuser. Nothing was called, because the functions of that role would run as the superuser.
    #[error(
        "nothing was called: role \"{owner}\", which is no superuser, owns objects of the schema \
             integration_credentials in the database \"{database}\""
    )]
    ForeignSchema {
        /// The name of the database.
        database: String,
        /// The role that owns the objects.
        owner: String,
    },
    /// The connection was lost, or the server gave no answer in time.
    #[error("the connection was lost: {reason}")]
    Disconnected {
        /// The reason.
        reason: String,
    },
    /// The session listens, but notifications of other sessions do not arrive: a pooler drops them.
    #[error("notifications do not arrive: a connection pooler in transaction mode drops them")]
    NotificationsLost,
    /// The server returned an older revision than was read before, until the timeout of the fetch.
    #[error("the server is behind: it returned revision {found} of \"{key}\" after revision {known}")]
    Behind {
        /// The integration's key.
        key: String,
        /// The revision that the server returned.
        found: i64,
        /// The highest revision that was read before.
        known: i64,
    },
    /// The lease on the credential has run out, so that the server no longer counts on this process: the credential
    /// may have been rotated, and the old one revoked. Get it again.
    #[error("the lease on the credential is over: {reason}")]
    LeaseOver {
        /// The reason.
        reason: String,
    },
    /// Any other error of the server.
    #[error("{message} (SQLSTATE {sqlstate})")]
    Database {
        /// The SQLSTATE.
        sqlstate: String,
        /// The reason, for people.
        message: String,
        /// The remedy, where the server gives one.
        hint: Option<String>,
    },
    /// The server's answer does not have the form that this release expects.
    #[error("unexpected answer from the server: {0}")]
    Unexpected(String),
}

impl Error {
    /// The remedy, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused { hint, .. }
            | Self::RevisionConflict { hint, .. }
            | Self::NotConverged { hint, .. }
            | Self::Database { hint, .. } => hint.as_deref(),
            Self::ExtensionMissing { .. } => Some(
                "As a superuser, in that database: CREATE EXTENSION integration_credentials; or, where an older \
                      version is installed, ALTER EXTENSION integration_credentials UPDATE;",
            ),
            Self::ForeignSchema { .. } => Some(
                "A superuser who calls them runs the code of that role. If the extension is installed there, give its \
                 objects back to a superuser. Otherwise drop the schema and run CREATE EXTENSION integration_credentials.",
            ),
            Self::NotificationsLost => {
                Some("Connect directly to the server, or through a pooler in session mode.")
            }
            Self::Behind { .. } => Some("Read from the primary, or from a standby with less lag."),
            Self::Disconnected { .. } => {
                Some("A change may or may not have been committed. Calling again is safe.")
            }
            _ => None,
        }
    }

    /// The code of a call that the extension refused.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::RevisionConflict { .. } => Some(ErrorCode::RevisionConflict),
            Self::NotConverged { .. } => Some(ErrorCode::NotConverged),
            _ => None,
        }
    }

    /// An error of a call.
    pub(crate) fn of_call(error: &tokio_postgres::Error, database: &str) -> Self {
        if let Some(refusal) = error.as_db_error() {
            return Self::of_database(refusal, database);
        }
        let is_io = error.source().is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
        if error.is_closed() || is_io {
            Self::Disconnected { reason: words(error) }
        } else {
            Self::Unexpected(words(error))
        }
    }

    fn of_database(error: &DbError, database: &str) -> Self {
        let sqlstate = error.code().code();
        let message = error.message().to_owned();
        let hint = error.hint().map(str::to_owned);
        match (ErrorCode::from_sqlstate(sqlstate), sqlstate) {
            (Some(code @ ErrorCode::ForbiddenAdminScope), _) => {
                let grant = "Ask a superuser for membership in the group role that may do this: `intcred grant ROLE --to GROUP`.";
                Self::Refused { code, message, hint: hint.or_else(|| Some(grant.to_owned())) }
            }
            (Some(ErrorCode::RevisionConflict), _) => {
                Self::RevisionConflict { revision: Facts::of(error).revision, message, hint }
            }
            (Some(ErrorCode::NotConverged), _) => {
                Self::NotConverged { behind: Facts::of(error).behind, message, hint }
            }
            (Some(code), _) => Self::Refused { code, message, hint },
            (None, "3F000" | "42883" | "42P01") => {
                Self::ExtensionMissing { database: database.to_owned(), message }
            }
            // The server shuts down, or terminates the session.
            (None, "57P01" | "57P02" | "57P03" | "57P05") => Self::Disconnected { reason: message },
            // From a pooler that has lost the server.
            (None, sqlstate) if sqlstate.starts_with("08") => Self::Disconnected { reason: message },
            (None, sqlstate) => Self::Database { sqlstate: sqlstate.to_owned(), message, hint },
        }
    }

    /// An error while connecting.
    pub(crate) fn of_login(error: &tokio_postgres::Error, target: &str) -> Self {
        let target = target.to_owned();
        match error.as_db_error() {
            Some(error) if error.code().code().starts_with("28") || error.code().code() == "42501" => {
                Self::NotAuthorised { target, message: error.message().to_owned() }
            }
            Some(error) => Self::Connect { target, reason: error.message().to_owned() },
            None if words(error) == "password missing" => Self::NotAuthorised {
                target,
                message:
                    "the server asks for a password, and neither the DSN nor PGPASSWORD nor ~/.pgpass has one"
                        .to_owned(),
            },
            None => Self::Connect { target, reason: words(error) },
        }
    }
}

/// What the DETAIL of a refusal says besides the code.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Facts {
    revision: i64,
    behind: Vec<String>,
}

impl Facts {
    fn of(error: &DbError) -> Self {
        // A DETAIL of another form is that of a later release.
        error.detail().and_then(|detail| serde_json::from_str(detail).ok()).unwrap_or_default()
    }
}

/// A refusal that the client decides itself, in the words of the server.
impl From<Refusal> for Error {
    fn from(Refusal { code, message, hint, .. }: Refusal) -> Self {
        Self::Refused { code, message, hint: Some(hint) }
    }
}

impl From<SettingsError> for Error {
    fn from(error: SettingsError) -> Self {
        Self::Settings(Arc::new(error))
    }
}

/// The innermost error, without the layers that only refer to it.
fn words(error: &tokio_postgres::Error) -> String {
    let Some(below) = error.source() else { return error.to_string() };
    // OpenSSL's error is below that of the handshake; after the handshake, inside an I/O error.
    let io = below.downcast_ref::<std::io::Error>();
    let inside = io.and_then(|io| io.get_ref()?.downcast_ref());
    if let Some(tls) = inside.or_else(|| below.source()?.downcast_ref::<openssl::ssl::Error>()) {
        return of_tls(tls);
    }
    if io.is_some_and(|io| io.kind() == std::io::ErrorKind::UnexpectedEof) {
        return CLOSED.to_owned();
    }
    below.to_string()
}

/// OpenSSL's reason. In TLS 1.3, the client's handshake ends before the server refuses its certificate.
fn of_tls(error: &openssl::ssl::Error) -> String {
    match (error.ssl_error(), error.io_error()) {
        (Some(stack), _) => format!("TLS failed: {}", tls::reason(stack)),
        (None, Some(io)) => format!("TLS failed: {io}"),
        (None, None) => CLOSED.to_owned(),
    }
}
