//! The calls that read: one credential, also its previous or pending value, all credentials, and that of the
//! aggregator.

use super::stored::{ciphertext, keeps_previous};
use crate::pg::call::{Answer, Call, VOID};
use crate::pg::index_scan::{self, AsOf, Row};
use crate::pg::prepared::{argument, run, statement};
use crate::pg::text::{self, Raw};
use crate::pg::timestamp::Moment;
use crate::pg::tuplestore::Rows;
use crate::{catalog, keyring, reads, redaction, settings};
use integration_credentials_core::envelope::{Place, Purpose};
use integration_credentials_core::error::{ErrorCode, Refusal};
use integration_credentials_core::limits;
use pgrx::IntoDatum;
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
    current(call, Purpose::Credential, CREDENTIALS, |_| ()).map(|(value, ())| value.as_str().into_datum())
}

/// `get_integration_credentials_with_revision(key)`: value and revision come from one row.
pub fn call_get_with_revision(call: &Call) -> Answer {
    let mut rows = Rows::<3>::of(call);
    let (value, (revision, updated_at)) = current(call, Purpose::Credential, CREDENTIALS, |row| {
        (row.get::<i64>(c"revision"), row.get::<Moment>(c"updated_at"))
    })?;
    rows.push([value.as_str().into_datum(), revision.into_datum(), updated_at.into_datum()]);
    Ok(VOID)
}

/// `get_aggregator_credentials(key)`
pub fn call_get_aggregator(call: &Call) -> Answer {
    let found = current(call, Purpose::Aggregator, c"aggregator_credentials", |_| ());
    found.map(|(value, ())| value.as_str().into_datum())
}

/// `get_integration_credentials(key, which)`
pub fn call_get_which(call: &Call) -> Answer {
    type Read = fn(&Row) -> Option<Vec<u8>>;
    type Missing = fn(&str) -> Refusal;
    let (read, revision, missing): (Read, Option<&CStr>, Missing) = match call.text(1) {
        Some("current") => {
            (|row| ciphertext(row, c"ciphertext"), Some(c"revision"), Refusal::credentials_not_set)
        }
        Some("previous") => (previous, Some(c"previous_revision"), Refusal::no_previous),
        Some("pending") => (|row| ciphertext(row, c"pending_ciphertext"), None, Refusal::no_pending),
        _ => {
            return Err(Refusal::new(
                ErrorCode::InvalidRequest,
                "which is neither current, previous nor pending",
                "Name the value to read: current, previous or pending.",
            ));
        }
    };
    let (place, found) = look_up(call, Purpose::Credential, CREDENTIALS, |row| {
        read(row).map(|value| (value, revision.and_then(|column| row.get::<i64>(column))))
    })?;
    let (value, revision) = found.flatten().ok_or_else(|| missing(place.key))?;
    let value = place.open(&value)?;
    reads::record(call, &place.org, place.key, revision);
    Ok(value.as_str().into_datum())
}

/// `get_valid_integration_credentials(key)`: both values come from one row.
pub fn call_get_valid(call: &Call) -> Answer {
    let mut rows = Rows::<3>::of(call);
    let (place, found) = look_up(call, Purpose::Credential, CREDENTIALS, |row| {
        let current = ciphertext(row, c"ciphertext")?;
        let until = row.get::<Moment>(c"previous_until");
        Some((
            (current, row.get::<i64>(c"revision")),
            previous(row).map(|previous| (previous, row.get::<i64>(c"previous_revision"), until)),
        ))
    })?;
    let ((current, revision), previous) =
        found.flatten().ok_or_else(|| Refusal::credentials_not_set(place.key))?;
    rows.push([place.open(&current)?.as_str().into_datum(), revision.into_datum(), None]);
    // Who reads both accepts either, and is not behind.
    reads::record(call, &place.org, place.key, revision);
    if let Some((previous, revision, until)) = previous {
        rows.push([place.open(&previous)?.as_str().into_datum(), revision.into_datum(), until.into_datum()]);
    }
    Ok(VOID)
}

/// The previous value, while it is kept. After a removal only a rollback brings the value back.
fn previous(row: &Row) -> Option<Vec<u8>> {
    let is_set = row.has_bytes(c"ciphertext");
    if keeps_previous(row) && is_set { ciphertext(row, c"previous_ciphertext") } else { None }
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
                reads::record(call, &org, &key, revision);
            }
            rows.push([
                key.into_datum(),
                value.as_ref().ok().and_then(|value| value.as_str().into_datum()),
                revision.into_datum(),
                row.get::<Moment>(4)?.into_datum(),
                value.as_ref().err().and_then(|refusal| refusal.code.as_str().into_datum()),
            ]);
        }
        Ok(Ok(VOID))
    };
    index_scan::query(&[CREDENTIALS], || run(&ALL, &of_org, &mut add_all))
}

/// The current value of a row, and the other columns that `read` takes.
fn current<R>(
    call: &Call,
    purpose: Purpose,
    table: &'static CStr,
    read: impl Fn(&Row) -> R,
) -> Result<(Zeroizing<String>, R), Refusal> {
    let revision = |row: &Row| match purpose {
        Purpose::Credential => row.get::<i64>(c"revision"),
        Purpose::Aggregator => None,
    };
    let (place, found) = look_up(call, purpose, table, |row| {
        ciphertext(row, c"ciphertext").map(|ciphertext| (ciphertext, revision(row), read(row)))
    })?;
    let (ciphertext, revision, read) =
        found.flatten().ok_or_else(|| Refusal::credentials_not_set(place.key))?;
    let value = place.open(&ciphertext)?;
    if let Some(revision) = revision {
        reads::record(call, &place.org, place.key, Some(revision));
    }
    Ok((value, read))
}

/// Where a call reads.
struct Looked<'a> {
    purpose: Purpose,
    org: String,
    key: &'a str,
}

impl Looked<'_> {
    /// Decrypts a value of the row.
    fn open(&self, ciphertext: &[u8]) -> Result<Zeroizing<String>, Refusal> {
        let &Self { purpose, ref org, key } = self;
        let value = keyring::decrypt(Place { purpose, org, key }, ciphertext)?;
        // A later error of the caller's statement may quote the value.
        redaction::remember(&value);
        Ok(value)
    }
}

/// Finds the row of an enabled integration, and what `read` takes of it.
fn look_up<'a, R>(
    call: &'a Call,
    purpose: Purpose,
    table: &'static CStr,
    read: impl Fn(&Row) -> R,
) -> Result<(Looked<'a>, Option<R>), Refusal> {
    let key = limits::key(call.text(0))?;
    let org = settings::current_org(call)?;
    let entry = catalog::find_enabled(key)?;
    let row = [(c"org_slug", org.as_str()), (c"integration_key", key)];
    let found = index_scan::find_again(table, row, AsOf::Statement, &entry.credential, read);
    Ok((Looked { purpose, org, key }, found))
}
