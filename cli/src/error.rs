//! What can go wrong, in words that are fit to be shown.
//!
//! Nothing here keeps a `tokio_postgres::Error`: its `Debug` prints DETAIL and CONTEXT, which may quote a statement.

use crate::{SettingsError, tls};
use integration_credentials_core::error::{ErrorCode, Refusal};
use std::{error::Error as _, sync::Arc};
use tokio_postgres::error::DbError;

/// The oldest major version that the extension runs on.
pub(crate) const OLDEST_SERVER: u32 = 15;
const CLOSED: &str = "the server closed the connection";

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The rules of the product, or the grants on it, say no.
    #[error("{message}")]
    Refused {
        /// Which row of the error table.
        code: ErrorCode,
        /// What happened.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The settings contradict themselves or name what isn't there.
    #[error(transparent)]
    Settings(Arc<SettingsError>),
    /// No server answered as it should.
    #[error("cannot connect to {target}: {reason}")]
    Connect {
        /// Where.
        target: String,
        /// Why not.
        reason: String,
    },
    /// The server does not let this user in.
    #[error("{target} refuses the login: {message}")]
    NotAuthorised {
        /// Where.
        target: String,
        /// What the server says.
        message: String,
    },
    /// The server is of a version that the extension does not run on.
    #[error("the server is PostgreSQL {version}, and integration_credentials needs {minimum} or newer",
        minimum = OLDEST_SERVER)]
    ServerTooOld {
        /// What it says of itself.
        version: String,
    },
    /// The database lacks the extension, or has another version of it.
    #[error("the database \"{database}\" does not have the extension: {message}")]
    ExtensionMissing {
        /// Which database.
        database: String,
        /// What the server says.
        message: String,
    },
    /// What has the extension's name in this database is not the extension's.
    #[error(
        "nothing was called: role \"{owner}\", which is no superuser, owns objects of the schema \
             integration_credentials in the database \"{database}\""
    )]
    ForeignSchema {
        /// Which database.
        database: String,
        /// Who owns it.
        owner: String,
    },
    /// The connection broke during the call.
    #[error("the connection was lost: {reason}")]
    Disconnected {
        /// Why.
        reason: String,
    },
    /// What other sessions announce does not reach this one, though it listens.
    #[error(
        "notifications do not arrive: what lies between here and the server hands out its connections by transaction"
    )]
    NotificationsLost,
    /// What the server says is older than what was read before, and stayed so.
    #[error(
        "the server is behind: it has revision {found} of \"{key}\", and revision {known} was seen before"
    )]
    Behind {
        /// The integration.
        key: String,
        /// The revision that was read.
        found: i64,
        /// The revision that is known.
        known: i64,
    },
    /// Any other error of the server.
    #[error("{message} (SQLSTATE {sqlstate})")]
    Database {
        /// Its SQLSTATE.
        sqlstate: String,
        /// What happened.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The server's answer is not of the agreed form.
    #[error("unexpected answer from the server: {0}")]
    Unexpected(String),
}

impl Error {
    /// What to do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused { hint, .. } | Self::Database { hint, .. } => hint.as_deref(),
            Self::ExtensionMissing { .. } => {
                Some("As a superuser, in that database: CREATE EXTENSION integration_credentials;")
            }
            Self::ForeignSchema { .. } => Some(
                "A superuser would run functions of that role. Find out whose schema it is, and give the extension's \
                 objects back to a superuser, or drop the schema and run CREATE EXTENSION integration_credentials.",
            ),
            Self::NotificationsLost => Some(
                "Give the listener its own DSN: straight to the server, or through a pooler in session mode.",
            ),
            Self::Behind { .. } => {
                Some("Read from the primary, or from a standby that is not that far behind.")
            }
            Self::Disconnected { .. } => {
                Some("Whether a change took effect is not known. Calling again is safe.")
            }
            _ => None,
        }
    }

    /// The code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        if let Self::Refused { code, .. } = self { Some(*code) } else { None }
    }

    /// An error of a call on a connection that stood.
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
                let grant = "Ask for the group role that may do this; `intcred grant` makes the group roles.";
                Self::Refused { code, message, hint: hint.or_else(|| Some(grant.to_owned())) }
            }
            (Some(code), _) => Self::Refused { code, message, hint },
            (None, "3F000" | "42883" | "42P01") => {
                Self::ExtensionMissing { database: database.to_owned(), message }
            }
            // The server shuts down, or was told to end this session.
            (None, "57P01" | "57P02" | "57P03" | "57P05") => Self::Disconnected { reason: message },
            // What a pooler says that has lost the server.
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
                message: "it asks for a password, and there is none in the DSN, PGPASSWORD or ~/.pgpass"
                    .to_owned(),
            },
            None => Self::Connect { target, reason: words(error) },
        }
    }
}

/// A refusal that the client decides itself, in the words of the server.
impl From<Refusal> for Error {
    fn from(Refusal { code, message, hint }: Refusal) -> Self {
        Self::Refused { code, message, hint: Some(hint) }
    }
}

impl From<SettingsError> for Error {
    fn from(error: SettingsError) -> Self {
        Self::Settings(Arc::new(error))
    }
}

/// The error without the layers that only say that there is one below.
fn words(error: &tokio_postgres::Error) -> String {
    let Some(below) = error.source() else { return error.to_string() };
    // Before there is a session, OpenSSL's error is below that of the handshake; later, inside one of the system's.
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

/// What OpenSSL says. In TLS 1.3 the client has long said its last word when the server refuses its certificate.
fn of_tls(error: &openssl::ssl::Error) -> String {
    match (error.ssl_error(), error.io_error()) {
        (Some(stack), _) => format!("TLS failed: {}", tls::reason(stack)),
        (None, Some(io)) => format!("TLS failed: {io}"),
        (None, None) => CLOSED.to_owned(),
    }
}
