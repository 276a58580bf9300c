//! The pepper: the server's half of every login. An API key alone cannot log in to Postgres, nor can the pepper.

use super::api_key::ApiKey;
use crate::{cli_error::CliError, input::read_file};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use intcred::Secret;
use openssl::{error::ErrorStack, hash::MessageDigest, pkey::PKey, sign::Signer};
use std::{fs, io, os::unix::fs::MetadataExt, path::Path};
use zeroize::Zeroizing;

const BYTES: std::ops::RangeInclusive<usize> = 32..=1024;
/// What the key of the links is derived from. No API key.
const OF_TICKETS: &[u8] = b"intcred mcp ticket v1";

pub struct Pepper(Zeroizing<Vec<u8>>);

impl Pepper {
    /// Reads the file, without the newline at its end.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        require_private(path)?;
        let mut bytes = read_file(path, *BYTES.end() + 1)?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        if !BYTES.contains(&bytes.len()) {
            return Err(CliError::usage(
                format!("the pepper in {} does not have 32 to 1024 bytes", path.display()),
                "make one with `umask 077; openssl rand -base64 32 >FILE`",
            ));
        }
        Ok(Self(bytes))
    }

    /// The password of the key's role.
    pub fn password(&self, key: &ApiKey) -> Result<Secret, ErrorStack> {
        let code = self.authenticate(key.expose().as_bytes())?;
        Ok(Secret::new(STANDARD_NO_PAD.encode(*code)))
    }

    /// The key of the links.
    pub fn ticket_key(&self) -> Result<Zeroizing<[u8; 32]>, ErrorStack> {
        self.authenticate(OF_TICKETS)
    }

    /// HMAC-SHA256
    fn authenticate(&self, text: &[u8]) -> Result<Zeroizing<[u8; 32]>, ErrorStack> {
        let key = PKey::hmac(&self.0)?;
        let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
        let mut code = Zeroizing::new([0; 32]);
        signer.update(text)?;
        signer.sign(&mut *code)?;
        Ok(code)
    }
}

/// Fails unless a file is a regular one, and nobody but its owner has access or, for a file of root, its group reads.
pub fn require_private(path: &Path) -> Result<(), CliError> {
    let at = |source| CliError::File { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(at)?;
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if !metadata.is_file() || metadata.mode() & forbidden != 0 {
        let reason = "not a regular file, or group or others have access; run chmod 600";
        return Err(at(io::Error::new(io::ErrorKind::PermissionDenied, reason)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_the_hmac_of_rfc_4231() {
        // Test case 2 has a shorter key than a file may have.
        let pepper = Pepper(Zeroizing::new(b"Jefe".to_vec()));
        let code = pepper.authenticate(b"what do ya want for nothing?").unwrap();
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let bytes = expected.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        let bytes: Vec<_> = bytes.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        assert_eq!(*code, *bytes);
    }

    #[test]
    fn each_key_and_each_pepper_has_another_password() {
        let (first, second) = (Pepper(vec![1; 32].into()), Pepper(vec![2; 32].into()));
        let (a, b) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
        let passwords = [first.password(&a), first.password(&b), second.password(&a)];
        let passwords = passwords.map(Result::unwrap);
        assert!(passwords[0] != passwords[1] && passwords[0] != passwords[2]);
        assert_eq!(first.password(&a).unwrap(), passwords[0]);
    }
}
