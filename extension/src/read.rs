//! `get_integration_credentials(key)` and its siblings: for all keys, and for the aggregator.

use crate::boundary::{Answer, Call, VOID};
use crate::rows::Rows;
use crate::statement::{argument, run, statement};
use crate::text::{self, Raw};
use crate::{catalog, keys, lookup, settings};
use integration_credentials_core::envelope::{Place, Purpose};
use integration_credentials_core::error::{ErrorCode, Failure};
use integration_credentials_core::limits;
use pgrx::IntoDatum;
use pgrx::datum::TimestampWithTimeZone;
use std::ffi::CStr;

statement!(stable ALL(TEXTOID) "
    SELECT c.integration_key, c.ciphertext, c.revision, c.updated_at
    FROM integration_credentials.integration_catalog k
    JOIN integration_credentials.configured_integrations c ON c.integration_key = k.integration_key
    WHERE k.is_enabled AND c.org_slug = $1 AND c.ciphertext IS NOT NULL
    ORDER BY c.integration_key");

/// `get_integration_credentials(key)`
pub fn call_get(call: &Call) -> Answer {
    get(call, Purpose::Credential, c"configured_integrations")
}

/// `get_aggregator_credentials(key)`
pub fn call_get_aggregator(call: &Call) -> Answer {
    get(call, Purpose::Aggregator, c"aggregator_credentials")
}

/// `get_all_integration_credentials()`. A credential that cannot be decrypted has an error in place of a value.
pub fn call_get_all(call: &Call) -> Answer {
    let org = settings::current_org()?;
    let mut rows = Rows::<5>::of(call);
    run(&ALL, &[argument(org.as_str())], |credentials| {
        for row in credentials {
            // One that is not UTF-8 becomes another, under which nothing decrypts.
            let key = row.get(1)?.map(|Raw(bytes)| text::lossy(&bytes)).unwrap_or_default();
            let ciphertext = row.get::<&[u8]>(2)?.unwrap_or_default();
            let place = Place { purpose: Purpose::Credential, org: &org, key: &key };
            let value = keys::decrypt(place, ciphertext);
            // Without a keyring, there is no value at all.
            if value.is_err()
                && let Err(failure) = keys::sealing_key()
            {
                return Ok(Err(failure));
            }
            rows.push([
                key.into_datum(),
                value.as_ref().ok().and_then(|value| value.as_str().into_datum()),
                row.get::<i64>(3)?.into_datum(),
                row.get::<TimestampWithTimeZone>(4)?.into_datum(),
                value.as_ref().err().and_then(|failure| failure.code.as_str().into_datum()),
            ]);
        }
        Ok(Ok(VOID))
    })
}

fn get(call: &Call, purpose: Purpose, table: &'static CStr) -> Answer {
    let key = limits::key(call.text(0))?;
    let org = settings::current_org()?;
    catalog::find_enabled(key)?;
    let ciphertext: Option<Vec<u8>> =
        lookup::find(table, [(c"org_slug", &org), (c"integration_key", key)], |row| row.get(c"ciphertext"))
            .flatten();
    let value = keys::decrypt(Place { purpose, org: &org, key }, &ciphertext.ok_or_else(|| not_set(key))?)?;
    Ok(value.as_str().into_datum())
}

/// The refusal of a key that this org has no credential for.
pub fn not_set(key: &str) -> Failure {
    Failure::new(
        ErrorCode::CredentialsNotSet,
        format!("there is no credential for integration {key:?}"),
        "admin_set_integration_credentials(key, value, actor) sets one.",
    )
}
