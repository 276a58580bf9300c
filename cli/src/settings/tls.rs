//! The settings of TLS; what is made of them is in [`crate::tls`].

use super::{SettingsError, environment::Environment, values::Values};
use std::path::PathBuf;

/// How much encryption, and how much proof of the server's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Where the trusted roots are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    /// `sslrootcert=system`
    System,
    /// It was named, so it has to be there.
    File(PathBuf),
    /// `~/.postgresql/root.crt`, which need not be there.
    Default(PathBuf),
    /// There is no home directory.
    Nowhere,
}

#[derive(Clone, Debug)]
pub(crate) struct TlsSettings {
    pub mode: SslMode,
    pub roots: Roots,
    /// The client's certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

pub(super) fn tls(values: &Values, environment: &Environment) -> Result<TlsSettings, SettingsError> {
    let default = |name| environment.in_home(".postgresql").map(|directory| directory.join(name));
    let roots = match values.filled("sslrootcert") {
        Some("system") => Roots::System,
        Some(path) => Roots::File(path.into()),
        None => default("root.crt").map_or(Roots::Nowhere, Roots::Default),
    };
    let mode = match values.filled("sslmode") {
        None if roots == Roots::System => SslMode::VerifyFull,
        None | Some("prefer") => SslMode::Prefer,
        Some("disable") => SslMode::Disable,
        Some("allow") => SslMode::Allow,
        Some("require") => SslMode::Require,
        Some("verify-ca") => SslMode::VerifyCa,
        Some("verify-full") => SslMode::VerifyFull,
        Some(_) => {
            return Err(SettingsError::Value {
                keyword: "sslmode",
                expected: "disable, allow, prefer, require, verify-ca or verify-full",
            });
        }
    };
    // Anybody can get a certificate from a public authority; only the name in it tells servers apart.
    if roots == Roots::System && mode != SslMode::VerifyFull {
        return Err(SettingsError::Value {
            keyword: "sslmode",
            expected: "verify-full when sslrootcert=system",
        });
    }
    let certificate = match values.filled("sslcert") {
        Some(path) => Some(path.into()),
        None => default("postgresql.crt").filter(|path| path.exists()),
    };
    let key = values.filled("sslkey").map(PathBuf::from).or_else(|| default("postgresql.key"));
    Ok(TlsSettings { mode, roots, identity: certificate.zip(key) })
}
