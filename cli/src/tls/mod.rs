//! TLS by the rules of libpq, with OpenSSL as in libpq, so that both read the same certificates.
//!
//! As in libpq, a file of trusted roots is used in every mode, also in `allow`, `prefer` and `require`.

mod name;

use crate::settings::{Identity, Revoked, Roots, SslMode, TlsSettings};
use openssl::{
    error::ErrorStack,
    pkey::{PKey, Private},
    ssl::{SslConnector, SslConnectorBuilder, SslFiletype, SslMethod, SslVerifyMode},
    x509::{
        X509StoreContextRef,
        store::{X509Lookup, X509StoreBuilder},
        verify::X509VerifyFlags,
    },
};
use postgres_openssl::{TlsConnector, set_postgresql_alpn};
use std::{
    fmt::Display,
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, OnceLock},
};
use zeroize::Zeroizing;

/// Why the server's certificate was refused. OpenSSL's own message does not help people.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusal(Arc<OnceLock<String>>);

impl Refusal {
    pub fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    fn record(&self, what: &str) {
        // The first of several reasons.
        let _ = self.0.set(format!("the server's certificate is refused: {what}"));
    }
}

/// The connector for a mode other than `Disable`. The error names the file and the problem.
pub(crate) fn connector(
    mode: SslMode,
    host: &str,
    settings: &TlsSettings,
    refusal: &Refusal,
) -> Result<TlsConnector, String> {
    let mut builder = builder(settings).map_err(|error| reason(&error))?;
    let verifies = add_roots(&mut builder, mode, &settings.roots)?;
    add_revocation_lists(&mut builder, &settings.revoked, verifies)?;
    if let Some(identity) = &settings.identity {
        add_identity(&mut builder, identity)?;
    }
    if verifies {
        let (host, refusal) = (host.to_owned(), refusal.clone());
        let checks_name = mode == SslMode::VerifyFull;
        builder.set_verify_callback(SslVerifyMode::PEER, move |holds, chain| {
            holds && (!checks_name || is_for(chain, &host)) || {
                refusal.record(if holds { "it is for another host name" } else { problem_of(chain) });
                false
            }
        });
    } else {
        builder.set_verify(SslVerifyMode::NONE);
    }
    let mut configuration = builder.build().configure().map_err(|error| reason(&error))?;
    // Not as libpq does it: see `name`.
    configuration.set_verify_hostname(false);
    configuration.set_use_server_name_indication(settings.sends_sni);
    Ok(TlsConnector::new(configuration, host))
}

fn builder(settings: &TlsSettings) -> Result<SslConnectorBuilder, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    // OpenSSL adds the roots of the system, which libpq uses only for sslrootcert=system.
    builder.set_cert_store(X509StoreBuilder::new()?.build());
    let (oldest, newest) = settings.versions;
    builder.set_min_proto_version(Some(oldest))?;
    builder.set_max_proto_version(newest)?;
    if settings.direct {
        set_postgresql_alpn(&mut builder)?;
    }
    Ok(builder)
}

/// Adds the trusted roots, and returns whether there are any. The verifying modes demand roots.
fn add_roots(builder: &mut SslConnectorBuilder, mode: SslMode, roots: &Roots) -> Result<bool, String> {
    let path = match roots {
        Roots::System => {
            builder.set_default_verify_paths().map_err(|error| reason(&error))?;
            return Ok(true);
        }
        Roots::File(path) => path,
        Roots::Default(path) if path.exists() => path,
        Roots::Default(_) | Roots::Nowhere if mode < SslMode::VerifyCa => return Ok(false),
        Roots::Default(_) | Roots::Nowhere => {
            return Err("there is no ~/.postgresql/root.crt to verify the server with; \
                        set sslrootcert to a file or to \"system\""
                .to_owned());
        }
    };
    readable(path)?;
    builder.set_ca_file(path).map_err(|error| problem(path, reason(&error)))?;
    Ok(true)
}

/// Adds the revocation lists. With any list, each certificate of the chain needs a list of its issuer.
fn add_revocation_lists(
    builder: &mut SslConnectorBuilder,
    revoked: &Revoked,
    verifies: bool,
) -> Result<(), String> {
    let Some(named) = revoked.file.as_ref().or(revoked.directory.as_ref()) else { return Ok(()) };
    if !verifies {
        return Err(problem(named, "a revocation list needs trusted roots; set sslrootcert too"));
    }
    let store = builder.cert_store_mut();
    if let Some(path) = &revoked.file {
        readable(path)?;
        let added = store
            .add_lookup(X509Lookup::file())
            .and_then(|lookup| lookup.load_crl_file(path, SslFiletype::PEM));
        added.map_err(|error| problem(path, reason(&error)))?;
    }
    if let Some(path) = &revoked.directory {
        fs::read_dir(path).map_err(|error| problem(path, error))?;
        let shown = path.to_str().ok_or_else(|| problem(path, "the path is not UTF-8"))?;
        let added = store
            .add_lookup(X509Lookup::hash_dir())
            .and_then(|lookup| lookup.add_dir(shown, SslFiletype::PEM));
        added.map_err(|error| problem(path, reason(&error)))?;
    }
    let all = X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL;
    store.set_flags(all).map_err(|error| reason(&error))
}

fn add_identity(builder: &mut SslConnectorBuilder, identity: &Identity) -> Result<(), String> {
    let Identity { certificate, key, .. } = identity;
    readable(certificate)?;
    builder.set_certificate_chain_file(certificate).map_err(|error| problem(certificate, reason(&error)))?;
    let private = private_key(identity)?;
    builder
        .set_private_key(&private)
        .map_err(|_| problem(key, "the file is not the private key of the certificate"))
}

fn private_key(Identity { key: path, password, .. }: &Identity) -> Result<PKey<Private>, String> {
    let metadata = fs::metadata(path).map_err(|error| problem(path, error))?;
    // The rule of libpq: only the owner has access or, for a file of root, the group may read.
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        return Err(problem(path, "group or others have access; run chmod 600"));
    }
    let bytes = Zeroizing::new(fs::read(path).map_err(|error| problem(path, error))?);
    let mut was_asked = false;
    let given = PKey::private_key_from_pem_callback(&bytes, |buffer| {
        was_asked = true;
        let password = password.as_ref().map_or("", |password| password.expose()).as_bytes();
        let room = buffer.get_mut(..password.len());
        Ok(room.map_or(0, |room| {
            room.copy_from_slice(password);
            room.len()
        }))
    });
    given.or_else(|error| PKey::private_key_from_der(&bytes).map_err(|_| error)).map_err(|error| {
        match (was_asked, password) {
            (true, None) => problem(path, "the key is encrypted; set sslpassword"),
            (true, Some(_)) => problem(path, "sslpassword does not decrypt the key"),
            (false, _) => problem(path, reason(&error)),
        }
    })
}

/// Fails with the operating system's error, which is clearer than OpenSSL's.
fn readable(path: &Path) -> Result<(), String> {
    File::open(path).map(drop).map_err(|error| problem(path, error))
}

fn problem(path: &Path, what: impl Display) -> String {
    format!("\"{}\": {what}", path.display())
}

/// The first of OpenSSL's errors, which is the cause of the others.
pub(crate) fn reason(stack: &ErrorStack) -> String {
    let first = stack.errors().first().and_then(openssl::error::Error::reason);
    first.unwrap_or("OpenSSL gave no reason").to_owned()
}

/// Whether the server's own certificate is for the host. Holds for the other certificates of the chain.
fn is_for(chain: &X509StoreContextRef, host: &str) -> bool {
    chain.error_depth() != 0
        || chain.current_cert().is_some_and(|certificate| name::is_for(certificate, host))
}

/// The problem of a chain, by the numbers of `openssl/x509_vfy.h`.
fn problem_of(chain: &X509StoreContextRef) -> &'static str {
    match chain.error().as_raw() {
        2 | 18..=21 => "no trusted root has signed it",
        3 => "there is no revocation list of its issuer",
        9 => "it is not valid yet",
        10 => "it has expired",
        12 => "the revocation list of its issuer has expired",
        23 => "it is revoked",
        _ => chain.error().error_string(),
    }
}
