//! `admin_set_integration_credentials(key, value, actor)`: the steps of the set call, in order.

use crate::announce::announce;
use crate::boundary::{self, Answer, Call};
use crate::journal::{self, Metering};
use crate::statement::{argument, first, statement};
use crate::{catalog, keys, settings, sync, validate};
use integration_credentials_core::envelope::{Place, Purpose};
use integration_credentials_core::error::ErrorCode;
use integration_credentials_core::event::{Event, Operation};
use integration_credentials_core::{limits, tool};
use serde_json::json;

// Asks the catalog once more, for it may have changed while the validator ran.
// xmax is 0 in a row that was just inserted, and this transaction's own id in one that ON CONFLICT locked to update.
statement!(writing UPSERT(TEXTOID, TEXTOID, BYTEAOID) r#"
    INSERT INTO integration_credentials.configured_integrations AS c (org_slug, integration_key, ciphertext)
    SELECT $1, $2, $3 FROM integration_credentials.integration_catalog WHERE integration_key = $2 AND is_enabled
    ON CONFLICT (org_slug, integration_key) DO UPDATE
        SET ciphertext = excluded.ciphertext,
            revision = c.revision + 1,
            updated_at = pg_catalog.clock_timestamp()
    RETURNING c.revision, c.xmax <> '0'::pg_catalog.xid,
        pg_catalog.to_char(c.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"#);

struct Saved {
    revision: i64,
    was_update: bool,
    updated_at: String,
}

/// Answers the call.
pub fn call(call: &Call) -> Answer {
    let metering = Metering::start(&tool::SET);
    let key = limits::key(call.text(0))?;
    let value = limits::value(call.text(1))?;
    let actor = limits::actor(call.text(2))?;
    let org = settings::current_org()?;

    let entry = catalog::find_enabled(key)?;
    validate::check(&entry, key, value, call.datum(1))?;

    let ciphertext = keys::encrypt(Place { purpose: Purpose::Credential, org: &org, key }, value)?;
    let Saved { revision, was_update, updated_at } =
        save(&org, key, &ciphertext).ok_or_else(|| catalog::disabled(key))?;

    announce(&Event { org: org.clone(), key: key.to_owned(), revision, operation: Operation::Set });
    let sync_problem = sync::hand_on(&entry, &org, key, value, call.datum(1));

    journal::audit(&org, actor, "set_integration_credentials", key, &json!({"wasUpdate": was_update}));
    let outcome = sync_problem.as_ref().map(|_| ErrorCode::ToolSetupFailed);
    // Not even to be redacted is the value copied: its name is enough.
    metering.finish(&org, actor, outcome, json!({"key": key, "value": null, "actor": actor}));

    let mut result =
        json!({"key": key, "isConfigured": true, "hasCredentials": true, "updatedAt": updated_at});
    if let Some(problem) = sync_problem {
        let code = ErrorCode::ToolSetupFailed;
        result["error"] = json!({"status": code.status(), "code": code.as_str(), "message": problem});
    }
    Ok(boundary::json(result))
}

fn save(org: &str, key: &str, ciphertext: &[u8]) -> Option<Saved> {
    first(&UPSERT, &[argument(org), argument(key), argument(ciphertext)], |row| {
        Ok(Saved {
            revision: row.get(1)?.unwrap_or_default(),
            was_update: row.get(2)?.unwrap_or_default(),
            updated_at: row.get(3)?.unwrap_or_default(),
        })
    })
}
