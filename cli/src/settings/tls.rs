//! The settings of TLS, which [`crate::tls`] applies.

use super::{
    environment::Environment,
    error::{SettingsError, expected},
    values::Values,
};
use crate::Secret;
use openssl::ssl::SslVersion;
use std::path::PathBuf;

/// `sslmode`, from the weakest to the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// `sslrootcert`: the trusted roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    /// `sslrootcert=system`
    System,
    /// A file that must exist, because the settings name it.
    File(PathBuf),
    /// `~/.postgresql/root.crt`, which may be missing.
    Default(PathBuf),
    /// There is no home directory.
    Nowhere,
}

/// `sslcrl` and `sslcrldir`: the revocation lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Revoked {
    pub file: Option<PathBuf>,
    /// With file names by `openssl rehash`.
    pub directory: Option<PathBuf>,
}

/// The client's certificate and private key.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub password: Option<Secret>,
}

#[derive(Clone, Debug)]
pub(crate) struct TlsSettings {
    pub mode: SslMode,
    pub roots: Roots,
    pub revoked: Revoked,
    pub identity: Option<Identity>,
    /// The oldest and the newest version of the protocol.
    pub versions: (SslVersion, Option<SslVersion>),
    /// `sslsni`: whether to send the host name to the server.
    pub sends_sni: bool,
    /// `sslnegotiation=direct`: whether to start TLS without a request.
    pub direct: bool,
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
            return Err(expected("sslmode", "disable, allow, prefer, require, verify-ca or verify-full"));
        }
    };
    // Any server can get a certificate from a public authority; only the name distinguishes servers.
    if roots == Roots::System && mode != SslMode::VerifyFull {
        return Err(expected("sslmode", "verify-full when sslrootcert=system"));
    }
    let direct = match values.filled("sslnegotiation") {
        None | Some("postgres") => false,
        Some("direct") => true,
        Some(_) => return Err(expected("sslnegotiation", "postgres or direct")),
    };
    if direct && mode < SslMode::Require {
        return Err(expected("sslmode", "require or more when sslnegotiation=direct"));
    }
    Ok(TlsSettings {
        mode,
        revoked: revoked(values, environment, &roots),
        roots,
        identity: identity(values, environment)?,
        versions: versions(values)?,
        sends_sni: values.filled("sslsni").is_none_or(|sni| sni.starts_with('1')),
        direct,
    })
}

fn revoked(values: &Values, environment: &Environment, roots: &Roots) -> Revoked {
    let named = |keyword| values.filled(keyword).map(PathBuf::from);
    let mut revoked = Revoked { file: named("sslcrl"), directory: named("sslcrldir") };
    if revoked == Revoked::default() && *roots != Roots::System {
        let file = environment.in_home(".postgresql").map(|directory| directory.join("root.crl"));
        revoked.file = file.filter(|path| path.exists());
    }
    revoked
}

fn identity(values: &Values, environment: &Environment) -> Result<Option<Identity>, SettingsError> {
    let default = |name| environment.in_home(".postgresql").map(|directory| directory.join(name));
    match values.filled("sslcertmode") {
        None | Some("allow") => {}
        Some("disable") => return Ok(None),
        // OpenSSL does not report whether the server requested the certificate.
        Some("require") => {
            return Err(SettingsError::Unsupported {
                keyword: "sslcertmode",
                harmless: &["disable", "allow"],
            });
        }
        Some(_) => return Err(expected("sslcertmode", "disable or allow")),
    }
    let certificate = match values.filled("sslcert") {
        Some(path) => Some(path.into()),
        None => default("postgresql.crt").filter(|path| path.exists()),
    };
    let key = values.filled("sslkey").map(PathBuf::from).or_else(|| default("postgresql.key"));
    let password = values.filled("sslpassword").map(|password| Secret::new(password.to_owned()));
    Ok(certificate.zip(key).map(|(certificate, key)| Identity { certificate, key, password }))
}

fn versions(values: &Values) -> Result<(SslVersion, Option<SslVersion>), SettingsError> {
    const ALL: [(&str, SslVersion); 4] = [
        ("TLSv1", SslVersion::TLS1),
        ("TLSv1.1", SslVersion::TLS1_1),
        ("TLSv1.2", SslVersion::TLS1_2),
        ("TLSv1.3", SslVersion::TLS1_3),
    ];
    let position = |keyword| {
        let found = values.filled(keyword).map(|given| {
            let position = ALL.iter().position(|(name, _)| given.eq_ignore_ascii_case(name));
            position.ok_or(expected(keyword, "TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3"))
        });
        found.transpose()
    };
    let oldest = position("ssl_min_protocol_version")?.unwrap_or(2);
    let newest = position("ssl_max_protocol_version")?;
    if newest.is_some_and(|newest| newest < oldest) {
        return Err(expected("ssl_max_protocol_version", "no older than ssl_min_protocol_version"));
    }
    Ok((ALL[oldest].1, newest.map(|newest| ALL[newest].1)))
}
