//! The keyring that this session caches: read at its first use, and again after a configuration reload.

use crate::memory;
use crate::settings::{self, KeyringSource};
use integration_credentials_core::audit::{self, Authenticity, Hash};
use integration_credentials_core::envelope::{self, EnvelopeError, Place};
use integration_credentials_core::error::{ErrorCode, Refusal};
use integration_credentials_core::keyring::Keyring;
use integration_credentials_core::seal::{self, SealError, SealingKey, Terms};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

mod source;

/// How long a missing key is not searched for again: reading the keyring may call a KMS.
const MISSING: Duration = Duration::from_secs(5);

struct Loaded {
    at_reload: pg_sys::TimestampTz,
    keyring: Rc<Keyring>,
}

thread_local! {
    static LOADED: RefCell<Option<Loaded>> = const { RefCell::new(None) };
    static MISSED_AT: Cell<Option<Instant>> = const { Cell::new(None) };
    /// When the keyring could not be used, and the reload before that.
    static UNUSABLE_AT: Cell<Option<(Instant, pg_sys::TimestampTz)>> = const { Cell::new(None) };
}

/// Encrypts a value for its place.
pub fn encrypt(place: Place<'_>, value: &str) -> Result<Vec<u8>, Refusal> {
    envelope::encrypt(&*keyring()?, place, value).map_err(|error| refusal(&error))
}

/// The keyring as its source has it now, which this session then caches.
pub fn read_anew() -> Result<Rc<Keyring>, Refusal> {
    load()
}

/// Decrypts the ciphertext of a place.
pub fn decrypt(place: Place<'_>, ciphertext: &[u8]) -> Result<Zeroizing<String>, Refusal> {
    memory::require_copies(ciphertext, 2);
    with_known_key(
        |keyring| envelope::decrypt(keyring, place, ciphertext),
        |error| matches!(error, EnvelopeError::UnknownKey(_)),
    )?
    .map_err(|error| refusal(&error))
}

/// The key that values are sealed to now.
pub fn sealing_key() -> Result<SealingKey, Refusal> {
    Ok(seal::sealing_key(&*keyring()?))
}

/// The time of this server, in seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Opens a value that was sealed for these terms.
pub fn open(terms: Terms<'_>, sealed: &[u8]) -> Result<Zeroizing<String>, Refusal> {
    with_known_key(
        |keyring| seal::open(keyring, terms, now(), sealed),
        |error| matches!(error, SealError::UnknownKey(_)),
    )?
    .map_err(|error| {
        Refusal::new(
            ErrorCode::InvalidRequest,
            error.to_string(),
            "Call sealing_key() as the session role that sets the value, and seal the value again to the key it returns.",
        )
    })
}

/// The MAC of an audit row; `None` without a usable keyring, since a removal must work without one.
pub fn mac(digest: &Hash) -> Option<Vec<u8>> {
    let unusable_lately =
        UNUSABLE_AT.get().is_some_and(|(at, at_reload)| at.elapsed() < MISSING && at_reload == last_reload());
    if unusable_lately {
        return None;
    }
    let keyring = keyring().inspect_err(|_| UNUSABLE_AT.set(Some((Instant::now(), last_reload()))));
    audit::mac(&*keyring.ok()?, digest)
}

/// Judges the MAC of an audit row.
pub fn judge(digest: &Hash, mac: &[u8]) -> Result<Authenticity, Refusal> {
    let judged = with_known_key(
        |keyring| match audit::judge(keyring, digest, mac) {
            Authenticity::UnknownKey => Err(Authenticity::UnknownKey),
            known => Ok(known),
        },
        |_| true,
    )?;
    Ok(judged.unwrap_or_else(|unknown| unknown))
}

/// Reads the keyring again when a key is unknown: another session may already use a key that was added.
fn with_known_key<T, E>(
    attempt: impl Fn(&Keyring) -> Result<T, E>,
    is_unknown: impl Fn(&E) -> bool,
) -> Result<Result<T, E>, Refusal> {
    let result = attempt(&*keyring()?);
    let missed_lately = MISSED_AT.get().is_some_and(|at| at.elapsed() < MISSING);
    if missed_lately || !result.as_ref().is_err_and(&is_unknown) {
        return Ok(result);
    }
    let result = attempt(&*load()?);
    if result.as_ref().is_err_and(is_unknown) {
        MISSED_AT.set(Some(Instant::now()));
    }
    Ok(result)
}

/// The keyring.
pub fn keyring() -> Result<Rc<Keyring>, Refusal> {
    let cached = LOADED.with_borrow(|loaded| {
        loaded
            .as_ref()
            .filter(|loaded| loaded.at_reload == last_reload())
            .map(|loaded| loaded.keyring.clone())
    });
    cached.map_or_else(load, Ok)
}

fn last_reload() -> pg_sys::TimestampTz {
    // SAFETY: a variable of the server, written when this process handles a reload.
    unsafe { pg_sys::PgReloadTime }
}

fn load() -> Result<Rc<Keyring>, Refusal> {
    let (document, setting) = match settings::keyring_source()? {
        KeyringSource::File(path) => (source::read_file(&path), "keyring_file"),
        KeyringSource::Command(command) => (source::run_command(&command), "keyring_command"),
    };
    let parsed = document.and_then(|document| Keyring::parse(&document).map_err(|error| error.to_string()));
    let keyring = Rc::new(parsed.map_err(|problem| unusable(&problem, setting))?);
    LOADED.set(Some(Loaded { at_reload: last_reload(), keyring: keyring.clone() }));
    Ok(keyring)
}

fn unusable(problem: &str, setting: &str) -> Refusal {
    Refusal::new(
        ErrorCode::EncryptionUnavailable,
        format!("cannot use the keyring: {problem}"),
        format!(
            "Correct integration_credentials.{setting}, or the file or command it names, then reload the configuration."
        ),
    )
}

/// The refusal of a call that cannot encrypt or decrypt.
pub fn refusal(error: &EnvelopeError) -> Refusal {
    let hint = match error {
        EnvelopeError::UnknownKey(_) => {
            "Put the missing key back into the keyring, or set the credential again."
        }
        EnvelopeError::NotAuthentic | EnvelopeError::Malformed => {
            "The keyring has another key with this id, or the row was altered. Restore the keyring that wrote the row, \
             or set the credential again."
        }
        EnvelopeError::Encrypt => "Check the operating system's source of random bytes, then try again.",
    };
    Refusal::new(ErrorCode::EncryptionUnavailable, error.to_string(), hint)
}
