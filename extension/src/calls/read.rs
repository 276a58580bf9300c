//! The calls that read: one credential, all credentials, and that of the aggregator.

use crate::memory;
use crate::pg::call::{Answer, Call, VOID};
use crate::pg::index_scan;
use crate::pg::index_scan::{AsOf, Row};
use crate::pg::prepared::{argument, run, statement};
use crate::pg::text::{self, Raw};
use crate::pg::tuplestore::Rows;
use crate::{catalog, keyring, reads, redaction, settings};
use integration_credentials_core::envelope::{Place, Purpose};
use integration_credentials_core::error::Refusal;
use integration_credentials_core::limits;
use pgrx::IntoDatum;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::spi::SpiTupleTable;
use std::ffi::CStr;
use zeroize::Zeroizing;

const CREDENTIALS: &CStr = c"configured_integrations";

statement!(stable ALL(TEXTOID) "
    SELECT integration_key, ciphertext, revision, updated_at
    FROM integration_credentials.configured_integrations
    WHERE org_slug = $1 AND ciphertext IS NOT NULL
    ORDER BY integration_key");

/// `get_integration_credentials(key)`
pub fn call_get(call: &Call) -> Answer {
    let revision = |row: &Row| row.get::<i64>(c"revision");
    let (Found { value, org, key }, revision) = get(call, Purpose::Credential, CREDENTIALS, revision)?;
    reads::record(call, &org, key, revision.unwrap_or_default());
    Ok(value.as_str().into_datum())
}

/// `get_integration_credentials_with_revision(key)`: value and revision come from one row.
pub fn call_get_with_revision(call: &Call) -> Answer {
    let mut rows = Rows::<3>::of(call);
    let (Found { value, org, key }, (revision, updated_at)) =
        get(call, Purpose::Credential, CREDENTIALS, |row| {
            (row.get::<i64>(c"revision"), row.get::<TimestampWithTimeZone>(c"updated_at"))
        })?;
    reads::record(call, &org, key, revision.unwrap_or_default());
    rows.push([value.as_str().into_datum(), revision.into_datum(), updated_at.into_datum()]);
    Ok(VOID)
}

/// `get_aggregator_credentials(key)`
pub fn call_get_aggregator(call: &Call) -> Answer {
    let found = get(call, Purpose::Aggregator, c"aggregator_credentials", |_| ());
    found.map(|(Found { value, .. }, ())| value.as_str().into_datum())
}

/// `get_all_integration_credentials()`. A credential that cannot be decrypted has an error in place of a
/// value.
pub fn call_get_all(call: &Call) -> Answer {
    let org = settings::current_org(call)?;
    let mut rows = Rows::<5>::of(call);
    let enabled = catalog::enabled_keys();
    let of_org = [argument(org.as_str())];
    let mut add_all = |credentials: SpiTupleTable<'_>| {
        for row in credentials {
            // A key that is not UTF-8 becomes another text, under which nothing decrypts.
            let key = row.get(1)?.map(|Raw(bytes)| text::lossy(&bytes)).unwrap_or_default();
            if !enabled.contains(&key) {
                continue;
            }
            let ciphertext = row.get::<&[u8]>(2)?.unwrap_or_default();
            let place = Place { purpose: Purpose::Credential, org: &org, key: &key };
            let value = keyring::decrypt(place, ciphertext);
            if let Ok(value) = &value {
                redaction::remember(value);
            }
            // Without a keyring no value can be decrypted: the call fails once, instead of once for each row.
            if value.is_err()
                && let Err(refusal) = keyring::sealing_key()
            {
                return Ok(Err(refusal));
            }
            let revision = row.get::<i64>(3)?;
            if value.is_ok() {
                reads::record(call, &org, &key, revision.unwrap_or_default());
            }
            rows.push([
                key.into_datum(),
                value.as_ref().ok().and_then(|value| value.as_str().into_datum()),
                revision.into_datum(),
                row.get::<TimestampWithTimeZone>(4)?.into_datum(),
                value.as_ref().err().and_then(|refusal| refusal.code.as_str().into_datum()),
            ]);
        }
        Ok(Ok(VOID))
    };
    index_scan::query(&[CREDENTIALS], || run(&ALL, &of_org, &mut add_all))
}

/// A value, and whose it is.
struct Found<'a> {
    value: Zeroizing<String>,
    org: String,
    key: &'a str,
}

/// The value of a row, and the other columns that `read` takes.
fn get<'a, R>(
    call: &'a Call,
    purpose: Purpose,
    table: &'static CStr,
    read: impl Fn(&Row) -> R,
) -> Result<(Found<'a>, R), Refusal> {
    let key = limits::key(call.text(0))?;
    let org = settings::current_org(call)?;
    catalog::find_enabled(key)?;
    let place = [(c"org_slug", org.as_str()), (c"integration_key", key)];
    let found = index_scan::find(table, place, AsOf::Statement, |row| {
        row.get::<&[u8]>(c"ciphertext").map(|ciphertext| {
            memory::require_copies(ciphertext, 3);
            (ciphertext.to_vec(), read(row))
        })
    });
    let (ciphertext, read) = found.flatten().ok_or_else(|| Refusal::credentials_not_set(key))?;
    let value = keyring::decrypt(Place { purpose, org: &org, key }, &ciphertext)?;
    // A later error of the caller's statement may quote the value.
    redaction::remember(&value);
    Ok((Found { value, org, key }, read))
}
