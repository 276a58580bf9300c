//! TLS as libpq's `sslmode` means it, with rustls.
//!
//! Trusted roots that are there are used in every mode, also in `prefer` and `require`. Two differences from libpq, both
//! stricter: an `sslrootcert` that was named and is missing is an error in every mode, and a certificate has to carry
//! the host in its subject alternative names, for the common name has not counted in browsers or rustls for years.

use crate::settings::{Roots, SslMode, TlsSettings};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use std::{fmt::Display, fs, os::unix::fs::MetadataExt, path::Path, sync::Arc};

/// What of the server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Nothing,
    Chain,
    ChainAndName,
}

/// The configuration for a server that is to be reached in this mode, which is `Disable` for a socket, whatever the
/// settings say. The error says what is wrong with which file.
pub(crate) fn client_config(mode: SslMode, settings: &TlsSettings) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let roots = if mode == SslMode::Disable { None } else { roots(mode, &settings.roots)? };
    let check = match (mode, &roots) {
        (SslMode::VerifyFull, _) => Check::ChainAndName,
        (_, Some(_)) => Check::Chain,
        (_, None) => Check::Nothing,
    };
    let verifier =
        Verifier { provider: provider.clone(), roots: roots.unwrap_or_else(RootCertStore::empty), check };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match &settings.identity {
        _ if mode == SslMode::Disable => Ok(builder.with_no_client_auth()),
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|error| problem(certificate, error)),
    }
}

/// The trusted roots, if there are any; the verifying modes insist on them.
fn roots(mode: SslMode, roots: &Roots) -> Result<Option<RootCertStore>, String> {
    let mut store = RootCertStore::empty();
    let path = match roots {
        Roots::System => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if store.is_empty() {
                return Err("the system has no trusted root certificates".to_owned());
            }
            return Ok(Some(store));
        }
        Roots::File(path) => path,
        Roots::Default(path) if path.exists() => path,
        Roots::Default(_) | Roots::Nowhere if mode < SslMode::VerifyCa => return Ok(None),
        Roots::Default(_) | Roots::Nowhere => {
            return Err("there is no ~/.postgresql/root.crt to verify the server with; \
                        set sslrootcert to a file or to \"system\""
                .to_owned());
        }
    };
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|error| problem(path, error))?;
    }
    Ok(Some(store))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| problem(path, error))?;
    if certificates.is_empty() { Err(problem(path, "no certificate in it")) } else { Ok(certificates) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let metadata = fs::metadata(path).map_err(|error| problem(path, error))?;
    // libpq's rule: the owner's alone, or root's and readable by its group.
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        return Err(problem(path, "group or others have access to it; chmod 600 it"));
    }
    PrivateKeyDer::from_pem_file(path).map_err(|error| problem(path, error))
}

fn problem(path: &Path, what: impl Display) -> String {
    format!("\"{}\": {what}", path.display())
}

#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    roots: RootCertStore,
    check: Check,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.check != Check::Nothing {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &self.roots,
                intermediates,
                now,
                algorithms,
            )?;
            if self.check == Check::ChainAndName {
                verify_server_name(&certificate, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    // Even a certificate that nobody checks must belong to whoever presents it.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What is wrong with the server's certificate, in words.
pub(crate) fn explain(error: &Error) -> String {
    let Error::InvalidCertificate(reason) = error else { return error.to_string() };
    let reason = match reason {
        CertificateError::UnknownIssuer => "no trusted root has signed it",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is not for this host name"
        }
        other => return format!("the server's certificate is refused: {other}"),
    };
    format!("the server's certificate is refused: {reason}")
}
