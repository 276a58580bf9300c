//! `get_integration_credentials(key)` and its sibling for the aggregator.

use crate::boundary::{Answer, Call};
use crate::statement::{Statement, argument, first, statement};
use crate::{catalog, keys, settings};
use integration_credentials_core::envelope::{Place, Purpose};
use integration_credentials_core::error::{ErrorCode, Failure};
use integration_credentials_core::limits;
use pgrx::IntoDatum;
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

/// `get_integration_credentials(key)`
pub fn call_get(call: &Call) -> Answer {
    get(call, Purpose::Credential, &CREDENTIAL)
}

/// `get_aggregator_credentials(key)`
pub fn call_get_aggregator(call: &Call) -> Answer {
    get(call, Purpose::Aggregator, &AGGREGATOR)
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
