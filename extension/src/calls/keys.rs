//! The calls about keys: which keys this server has, and which ciphertexts it cannot decrypt. For operators.

use crate::keyring;
use crate::memory;
use crate::pg::call::{Answer, Call, VOID};
use crate::pg::index_scan::{self, Row};
use crate::pg::text::{Raw, lossy};
use crate::pg::tuplestore::Rows;
use crate::user_functions::routine::require_superuser;
use integration_credentials_core::envelope::{self, Place, Purpose};
use integration_credentials_core::seal;
use pgrx::IntoDatum;
use std::ffi::CStr;

/// `keyring_status()`: the keys as the file or command of this server has them now.
pub fn call_keyring_status(call: &Call) -> Answer {
    require_superuser("see the keys of the keyring")?;
    let mut rows = Rows::<3>::of(call);
    let keyring = keyring::read_anew()?;
    for key in keyring.keys() {
        let writes = key.id() == keyring.primary_id();
        rows.push([key.id().into_datum(), seal::fingerprint(key).into_datum(), writes.into_datum()]);
    }
    Ok(VOID)
}

/// A table with ciphertexts; its columns, and what they hold.
type Ciphertexts = (&'static CStr, Purpose, &'static [(&'static CStr, &'static str)]);

const CIPHERTEXTS: [Ciphertexts; 2] = [
    (
        c"configured_integrations",
        Purpose::Credential,
        &[
            (c"ciphertext", "current"),
            (c"previous_ciphertext", "previous"),
            (c"pending_ciphertext", "pending"),
        ],
    ),
    (c"aggregator_credentials", Purpose::Aggregator, &[(c"ciphertext", "aggregator")]),
];

/// `check_all_credentials()`: the ciphertexts of all orgs that this server cannot decrypt.
pub fn call_check_all(call: &Call) -> Answer {
    require_superuser("decrypt the credentials of all orgs")?;
    let mut rows = Rows::<5>::of(call);
    let keyring = keyring::read_anew()?;
    for (table, purpose, columns) in CIPHERTEXTS {
        index_scan::visit(table, |row| {
            let (org, key) = (text(row, c"org_slug"), text(row, c"integration_key"));
            let place = Place { purpose, org: &org, key: &key };
            for &(column, which) in columns {
                let Some(ciphertext) = row.get::<&[u8]>(column) else { continue };
                memory::require_copies(ciphertext, 2);
                if let Err(error) = envelope::decrypt(&keyring, place, ciphertext) {
                    rows.push([
                        org.as_str().into_datum(),
                        key.as_str().into_datum(),
                        which.into_datum(),
                        envelope::key_id(ciphertext).and_then(IntoDatum::into_datum),
                        error.to_string().into_datum(),
                    ]);
                }
            }
        });
    }
    Ok(VOID)
}

/// A text that is not UTF-8 becomes another text, under which nothing decrypts.
fn text(row: &Row, column: &CStr) -> String {
    row.get::<Raw>(column).map(|Raw(bytes)| lossy(&bytes)).unwrap_or_default()
}
