//! The stored row of a credential, as of now, and the checks of a change against it.

use super::receipt::Change;
use crate::catalog::Entry;
use crate::keyring;
use crate::memory;
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
    /// The value that was asked for.
    pub ciphertext: Option<Vec<u8>>,
}

impl Stored {
    /// Reads the revision and one of the ciphertexts, as of now; `None` if there is no row.
    pub fn read(org: &str, key: &str, entry: &Entry, column: &CStr) -> Option<Self> {
        let place = [(c"org_slug", org), (c"integration_key", key)];
        index_scan::find_again(TABLE, place, AsOf::Now, &entry.credential, |row| Self {
            revision: row.get(c"revision").unwrap_or_default(),
            ciphertext: ciphertext(row, column),
        })
    }

    /// The revision of the row, or 0 if there is none.
    pub fn revision(org: &str, key: &str) -> i64 {
        let place = [(c"org_slug", org), (c"integration_key", key)];
        index_scan::find(TABLE, place, AsOf::Now, |row| row.get(c"revision")).flatten().unwrap_or_default()
    }

    /// Whether a previous value is kept.
    pub fn has_previous(org: &str, key: &str) -> bool {
        let place = [(c"org_slug", org), (c"integration_key", key)];
        index_scan::find(TABLE, place, AsOf::Now, keeps_previous).unwrap_or(false)
    }

    /// Whether the ciphertext is that of `value`. One that cannot be decrypted is of another.
    pub fn is(&self, change: &Change<'_>, value: &str) -> bool {
        let place = Place { purpose: Purpose::Credential, org: change.org, key: change.key };
        self.ciphertext.as_deref().is_some_and(|ciphertext| is_of(place, ciphertext, value))
    }
}

/// Whether a row that is being read keeps a previous value, whose time is not over.
pub fn keeps_previous(row: &Row) -> bool {
    is_kept(row.get(c"previous_until"), Moment::now())
}

/// Whether a previous value with this time is kept.
pub fn is_kept(previous_until: Option<Moment>, now: Moment) -> bool {
    previous_until.is_some_and(|until| until > now)
}

/// A ciphertext of a row that is being read.
pub fn ciphertext(row: &Row, column: &CStr) -> Option<Vec<u8>> {
    row.get::<&[u8]>(column).map(|ciphertext| {
        memory::require_copies(ciphertext, 3);
        ciphertext.to_vec()
    })
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
