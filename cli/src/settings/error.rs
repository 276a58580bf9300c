//! What is wrong with connection settings.

use std::{io, path::PathBuf};

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

pub(super) const fn expected(keyword: &'static str, expected: &'static str) -> SettingsError {
    SettingsError::Value { keyword, expected }
}

fn remedy(harmless: &[&str]) -> String {
    if harmless.is_empty() {
        "leave it out".to_owned()
    } else {
        format!("leave it out or at {}", harmless.join(" or "))
    }
}
