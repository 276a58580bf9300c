//! The server's key to seal to, and the terms of the session that asked for it.

use crate::{Error, Secret};
use base64::{Engine, engine::general_purpose::STANDARD};
use integration_credentials_core::seal;
use serde::{Deserialize, Serialize};

/// The answer of `sealing_key()`: what a value is sealed with. As JSON, the answer itself.
///
/// A sealed value opens for the org, the session role and the integration that it was sealed for, and for ten
/// minutes after `issued_at`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealingKey {
    /// The form of the sealed value: 2.
    pub form: u8,
    /// The org of the session that asked.
    pub org: String,
    /// The session role that asked, and that alone can set the value.
    pub role: String,
    /// When, in seconds since 1970, by the clock of the server.
    pub issued_at: u64,
    /// The id of the keyring's key that opens the value.
    pub key_id: String,
    /// The X25519 public key, in base64.
    pub public_key: String,
}

impl SealingKey {
    /// Seals a value for an integration.
    ///
    /// # Errors
    /// [`Error::Unexpected`] if the key has another form than this release seals.
    pub fn seal(&self, key: &str, value: &Secret) -> Result<Vec<u8>, Error> {
        let Self { form, org, role, issued_at, key_id, public_key } = self;
        if *form != seal::VERSION {
            return Err(unexpected(&format!(
                "form {form}, and this release supports form {}",
                seal::VERSION
            )));
        }
        let public = STANDARD.decode(public_key).ok().and_then(|bytes| bytes.try_into().ok());
        let public = public.ok_or_else(|| unexpected("no public key"))?;
        let to = seal::SealingKey { id: key_id.clone(), public };
        seal::seal(&to, seal::Terms { org, key, role }, *issued_at, value.expose())
            .map_err(|error| unexpected(&error.to_string()))
    }
}

fn unexpected(what: &str) -> Error {
    Error::Unexpected(format!("the sealing key has {what}"))
}
