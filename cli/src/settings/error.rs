//! The errors of connection settings.

use std::{io, path::PathBuf};

/// An error of the connection settings. Never shows a value that could be a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A keyword that neither libpq nor this client has.
    #[error("the connection settings have an unknown keyword \"{0}\"")]
    UnknownKeyword(String),
    /// A setting of libpq that this client does not support, and that would not be safe to ignore.
    #[error("the connection setting \"{keyword}\" is not supported; {}", remedy(harmless))]
    Unsupported {
        /// The keyword.
        keyword: &'static str,
        /// The values that are accepted here, besides none.
        harmless: &'static [&'static str],
    },
    /// A `PG*` variable that is not UTF-8. Ignoring the variable could ignore a setting that protects.
    #[error("the environment variable {0} is not UTF-8")]
    Variable(&'static str),
    /// A DSN that is neither a URI nor `key=value` pairs.
    #[error("the DSN is neither a postgresql:// URI nor key=value pairs: {0}")]
    Conninfo(&'static str),
    /// A URI that libpq would not accept.
    #[error("the DSN is not a valid URI: {0}")]
    Uri(&'static str),
    /// A value that is out of range.
    #[error("the connection setting \"{keyword}\" must be {expected}")]
    Value {
        /// The keyword.
        keyword: &'static str,
        /// The values that are accepted.
        expected: &'static str,
    },
    /// Lists of hosts, addresses and ports of different lengths.
    #[error("the connection settings have {hosts} hosts and {others} values for \"{keyword}\"")]
    Count {
        /// The number of hosts.
        hosts: usize,
        /// The keyword of the other list.
        keyword: &'static str,
        /// The length of the other list.
        others: usize,
    },
    /// A service that no service file has.
    #[error("no service file has the service \"{0}\"")]
    ServiceNotFound(String),
    /// A line of a service file that is not a setting.
    #[error("{path:?}, line {line}, is not keyword=value")]
    ServiceFile {
        /// The path of the file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
    },
    /// A service file that cannot be read.
    #[error("cannot read {path:?}: {source}")]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// No user: neither `user` nor `PGUSER` is set, and the user of this process has no name.
    #[error("no user to connect as; set PGUSER, or user=... in the DSN")]
    NoUser,
}

pub(super) const fn expected(keyword: &'static str, expected: &'static str) -> SettingsError {
    SettingsError::Value { keyword, expected }
}

fn remedy(harmless: &[&str]) -> String {
    if harmless.is_empty() {
        "remove the setting".to_owned()
    } else {
        format!("remove the setting, or set {}", harmless.join(" or "))
    }
}
