//! `get_integration_credentials(key)` and its siblings: for all keys, and for the aggregator.

use crate::boundary::{Answer, Call, VOID};
use crate::rows::Rows;
use crate::statement::{argument, run, statement};
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

/// `get_all_integration_credentials()`: all or, if one of them cannot be decrypted, none.
pub fn call_get_all(call: &Call) -> Answer {
    let org = settings::current_org()?;
    let mut rows = Rows::<4>::of(call);
    run(&ALL, &[argument(org.as_str())], |credentials| {
        for row in credentials {
            let key = row.get::<String>(1)?.unwrap_or_default();
            let ciphertext = row.get::<&[u8]>(2)?.unwrap_or_default();
            let place = Place { purpose: Purpose::Credential, org: &org, key: &key };
            let value = match keys::decrypt(place, ciphertext) {
                Ok(value) => value,
                Err(Failure { code, message, hint }) => {
                    return Ok(Err(Failure::new(code, format!("integration {key:?}: {message}"), hint)));
                }
            };
            rows.push([
                key.into_datum(),
                value.as_str().into_datum(),
                row.get::<i64>(3)?.into_datum(),
                row.get::<TimestampWithTimeZone>(4)?.into_datum(),
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
