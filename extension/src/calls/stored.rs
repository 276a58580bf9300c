//! The stored row of a credential, as of now, and the checks of a change against it.

use super::receipt::Change;
use crate::keyring;
use crate::pg::index_scan::{self, AsOf, Row};
use crate::pg::timestamp::Moment;
use integration_credentials_core::envelope::{self, Place, Purpose};
use integration_credentials_core::error::Refusal;
use std::ffi::CStr;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// Its table.
pub const TABLE: &CStr = c"configured_integrations";

/// What a change needs to know of the row before.
pub struct Stored {
    /// Its revision; 0 if it only has a pending value.
    pub revision: i64,
    /// The current value.
    pub ciphertext: Option<Vec<u8>>,
    /// The pending value.
    pub pending: Option<Vec<u8>>,
}

impl Stored {
    /// Reads the row; `None` if there is none.
    pub fn read(org: &str, key: &str) -> Option<Self> {
        let place = [(c"org_slug", org), (c"integration_key", key)];
        index_scan::find(TABLE, place, AsOf::Now, |row: &Row| Self {
            revision: row.get(c"revision").unwrap_or_default(),
            ciphertext: row.get(c"ciphertext"),
            pending: row.get(c"pending_ciphertext"),
        })
    }

    /// The ciphertext of the current value, if that is `value`. One that cannot be decrypted is another.
    pub fn equal_to(&self, change: &Change<'_>, value: &str) -> Option<Vec<u8>> {
        let place = Place { purpose: Purpose::Credential, org: change.org, key: change.key };
        self.ciphertext.as_ref().filter(|ciphertext| is_of(place, ciphertext, value)).cloned()
    }
}

/// Whether a ciphertext is that of `value`. The time depends on nothing but their lengths.
pub fn is_of(place: Place<'_>, ciphertext: &[u8], value: &str) -> bool {
    envelope::length(ciphertext) == Some(value.len())
        && keyring::decrypt(place, ciphertext)
            .is_ok_and(|stored| stored.as_bytes().ct_eq(value.as_bytes()).into())
}

/// Until when a value that is replaced now is kept; `None` if it is not kept.
pub fn until(kept: Duration) -> Option<Moment> {
    (!kept.is_zero()).then(|| Moment::now().after(kept))
}

/// Refuses a change if the row does not have the revision that the caller expects. A refusal after the
/// change rolls it back.
pub fn check_expected(key: &str, expected: Option<i64>, found: i64) -> Result<(), Refusal> {
    match expected {
        Some(expected) if expected != found => Err(Refusal::revision_conflict(key, expected, found)),
        _ => Ok(()),
    }
}
