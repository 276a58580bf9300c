//! `get_integration_credentials(key)` and its siblings: for all keys, and for the aggregator.

use crate::boundary::{Answer, Call, VOID};
use crate::rows::Rows;
use crate::statement::{Statement, argument, first, run, statement};
use crate::{catalog, keys, settings};
use integration_credentials_core::envelope::{Place, Purpose};
use integration_credentials_core::error::{ErrorCode, Failure};
use integration_credentials_core::limits;
use pgrx::IntoDatum;
use pgrx::datum::TimestampWithTimeZone;
use std::thread::LocalKey;

statement!(stable CREDENTIAL(TEXTOID, TEXTOID) "
    SELECT k.is_enabled, c.ciphertext
    FROM integration_credentials.integration_catalog k
    LEFT JOIN integration_credentials.configured_integrations c
        ON c.integration_key = k.integration_key AND c.org_slug = $2
    WHERE k.integration_key = $1");

statement!(stable AGGREGATOR(TEXTOID, TEXTOID) "
    SELECT k.is_enabled, a.ciphertext
    FROM integration_credentials.integration_catalog k
    LEFT JOIN integration_credentials.aggregator_credentials a
        ON a.integration_key = k.integration_key AND a.org_slug = $2
    WHERE k.integration_key = $1");

statement!(stable ALL(TEXTOID) "
    SELECT c.integration_key, c.ciphertext, c.revision, c.updated_at
    FROM integration_credentials.integration_catalog k
    JOIN integration_credentials.configured_integrations c ON c.integration_key = k.integration_key
    WHERE k.is_enabled AND c.org_slug = $1 AND c.ciphertext IS NOT NULL
    ORDER BY c.integration_key");

/// `get_integration_credentials(key)`
pub fn call_get(call: &Call) -> Answer {
    get(call, Purpose::Credential, &CREDENTIAL)
}

/// `get_aggregator_credentials(key)`
pub fn call_get_aggregator(call: &Call) -> Answer {
    get(call, Purpose::Aggregator, &AGGREGATOR)
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

struct Row {
    is_enabled: bool,
    ciphertext: Option<Vec<u8>>,
}

fn get(call: &Call, purpose: Purpose, statement: &'static LocalKey<Statement>) -> Answer {
    let key = limits::key(call.text(0))?;
    let org = settings::current_org()?;
    let row = first(statement, &[argument(key), argument(org.as_str())], |row| {
        Ok(Row { is_enabled: row.get(1)?.unwrap_or(false), ciphertext: row.get(2)? })
    });
    let Row { is_enabled, ciphertext } = row.ok_or_else(catalog::not_found)?;
    if !is_enabled {
        return Err(catalog::disabled(key));
    }
    let ciphertext = ciphertext.ok_or_else(|| not_set(key))?;
    let value = keys::decrypt(Place { purpose, org: &org, key }, &ciphertext)?;
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
