//! TLS as libpq's `sslmode` means it, with the library that libpq uses, so that both can read the same certificates.
//!
//! Trusted roots that are there are used in every mode, also in `allow`, `prefer` and `require`.

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

/// Why the server's certificate was refused, once it was. OpenSSL's own words for that are of no help to people.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusal(Arc<OnceLock<String>>);

impl Refusal {
    /// In words.
    pub fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    fn because(&self, what: &str) {
        // Of several reasons, the first.
        let _ = self.0.set(format!("the server's certificate is refused: {what}"));
    }
}

/// How TLS begins with a server that is to be reached in this mode, which is not `Disable`. The error says what is wrong
/// with which file.
pub(crate) fn connector(
    mode: SslMode,
    host: &str,
    settings: &TlsSettings,
    refusal: &Refusal,
) -> Result<TlsConnector, String> {
    let mut builder = builder(settings).map_err(|error| reason(&error))?;
    let verifies = trust(&mut builder, mode, &settings.roots)?;
    revoke(&mut builder, &settings.revoked, verifies)?;
    if let Some(identity) = &settings.identity {
        identify(&mut builder, identity)?;
    }
    if verifies {
        let (host, refusal) = (host.to_owned(), refusal.clone());
        let checks_name = mode == SslMode::VerifyFull;
        builder.set_verify_callback(SslVerifyMode::PEER, move |holds, chain| {
            holds && (!checks_name || is_for(chain, &host)) || {
                refusal.because(if holds { "it is not for this host name" } else { fault(chain) });
                false
            }
        });
    } else {
        builder.set_verify(SslVerifyMode::NONE);
    }
    let mut configuration = builder.build().configure().map_err(|error| reason(&error))?;
    // Not as libpq does it: see `name`.
    configuration.set_verify_hostname(false);
    configuration.set_use_server_name_indication(settings.names_host);
    Ok(TlsConnector::new(configuration, host))
}

fn builder(settings: &TlsSettings) -> Result<SslConnectorBuilder, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    // It comes with the roots of the system, which nobody has asked for.
    builder.set_cert_store(X509StoreBuilder::new()?.build());
    let (oldest, newest) = settings.versions;
    builder.set_min_proto_version(Some(oldest))?;
    builder.set_max_proto_version(newest)?;
    if settings.direct {
        set_postgresql_alpn(&mut builder)?;
    }
    Ok(builder)
}

/// Takes the trusted roots in, if there are any; the verifying modes insist on them.
fn trust(builder: &mut SslConnectorBuilder, mode: SslMode, roots: &Roots) -> Result<bool, String> {
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

/// Takes the lists of revoked certificates in. With one, each certificate needs a list of who signed it.
fn revoke(builder: &mut SslConnectorBuilder, revoked: &Revoked, verifies: bool) -> Result<(), String> {
    let Some(named) = revoked.file.as_ref().or(revoked.directory.as_ref()) else { return Ok(()) };
    if !verifies {
        return Err(problem(
            named,
            "no certificate is verified, so none can be revoked; set sslrootcert, too",
        ));
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
        let shown = path.to_str().ok_or_else(|| problem(path, "its name is not UTF-8"))?;
        let added = store
            .add_lookup(X509Lookup::hash_dir())
            .and_then(|lookup| lookup.add_dir(shown, SslFiletype::PEM));
        added.map_err(|error| problem(path, reason(&error)))?;
    }
    let all = X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL;
    store.set_flags(all).map_err(|error| reason(&error))
}

fn identify(builder: &mut SslConnectorBuilder, identity: &Identity) -> Result<(), String> {
    let Identity { certificate, key, .. } = identity;
    readable(certificate)?;
    builder.set_certificate_chain_file(certificate).map_err(|error| problem(certificate, reason(&error)))?;
    let private = private_key(identity)?;
    builder.set_private_key(&private).map_err(|_| problem(key, "it is not the key of the certificate"))
}

fn private_key(Identity { key: path, password, .. }: &Identity) -> Result<PKey<Private>, String> {
    let metadata = fs::metadata(path).map_err(|error| problem(path, error))?;
    // libpq's rule: the owner's alone, or root's and readable by its group.
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        return Err(problem(path, "group or others have access to it; chmod 600 it"));
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
            (true, None) => problem(path, "it needs a password; set sslpassword"),
            (true, Some(_)) => problem(path, "sslpassword does not open it"),
            (false, _) => problem(path, reason(&error)),
        }
    })
}

/// The words of the operating system are clearer than OpenSSL's.
fn readable(path: &Path) -> Result<(), String> {
    File::open(path).map(drop).map_err(|error| problem(path, error))
}

fn problem(path: &Path, what: impl Display) -> String {
    format!("\"{}\": {what}", path.display())
}

/// The first of OpenSSL's errors, which is the one that others follow from.
pub(crate) fn reason(stack: &ErrorStack) -> String {
    let first = stack.errors().first().and_then(openssl::error::Error::reason);
    first.unwrap_or("OpenSSL gives no reason").to_owned()
}

/// Whether the server's own certificate is for the host; of the others of the chain that is not asked.
fn is_for(chain: &X509StoreContextRef, host: &str) -> bool {
    chain.error_depth() != 0
        || chain.current_cert().is_some_and(|certificate| name::is_for(certificate, host))
}

/// What is wrong with a chain, in words. The numbers are those of `openssl/x509_vfy.h`.
fn fault(chain: &X509StoreContextRef) -> &'static str {
    match chain.error().as_raw() {
        2 | 18..=21 => "no trusted root has signed it",
        3 => "there is no list of revoked certificates for it",
        9 => "it is not valid yet",
        10 => "it has expired",
        12 => "the list of revoked certificates has expired",
        23 => "it was revoked",
        _ => chain.error().error_string(),
    }
}
