//! The calls that add, replace, remove, enable and disable entries of the catalog.

use crate::announce::announce;
use crate::audit;
use crate::catalog::{self};
use crate::memory;
use crate::metering::Metering;
use crate::pg::call::{self, Answer, Call};
use crate::pg::error::forbidden;
use crate::pg::index_scan;
use crate::pg::prepared::{argument, execute, first, run, statement};
use crate::pg::text::Text;
use crate::pg::timestamp;
use crate::settings;
use integration_credentials_core::error::{ErrorCode, Refusal};
use integration_credentials_core::event::{Event, Operation};
use integration_credentials_core::options;
use integration_credentials_core::rules::{self, Rules, RulesError};
use integration_credentials_core::{limits, tool};
use serde_json::json;

const MAX_TEXT_CHARS: usize = 2048;

// UPDATE first, because an INSERT over a shipped entry replaces the whole row, is_enabled and functions
// included.
statement!(volatile REPLACE(TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID) "
    UPDATE integration_credentials.integration_catalog
    SET display_name = $2, rules = $3::pg_catalog.jsonb, docs_url = $4, example = $5,
        updated_at = pg_catalog.clock_timestamp()
    WHERE integration_key = $1
    RETURNING is_enabled");
statement!(volatile REGISTER(TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID) "
    INSERT INTO integration_credentials.integration_catalog
        (integration_key, display_name, rules, docs_url, example)
    VALUES ($1, $2, $3::pg_catalog.jsonb, $4, $5)
    ON CONFLICT DO NOTHING
    RETURNING is_enabled");

/// `admin_register_integration(key, display_name, actor, rules, docs_url, example)`
pub fn call_register(call: &Call) -> Answer {
    let metering = Metering::start(&tool::REGISTER);
    let key = limits::key(call.text(0))?;
    let display_name = limits::check("display_name", call.text(1), limits::MAX_KEY_CHARS)?;
    let actor = limits::actor(call.text(2))?;
    let rules = call.rules(3).map_err(|error| refuse_rules(&error))?.unwrap_or_else(|| "{}".to_owned());
    let docs_url = optional("docs_url", call.text(4))?;
    let example = optional("example", call.text(5))?;
    memory::require(rules::COMPILE_BYTES);
    Rules::compile(&rules).map_err(|error| refuse_rules(&error))?;
    let org = settings::current_org(call)?;

    let write = |statement| {
        let arguments = [
            argument(key),
            argument(display_name),
            argument(rules.as_str()),
            argument(docs_url),
            argument(example),
        ];
        first(statement, &arguments, |row| row.get::<bool>(1)).flatten()
    };
    let replaced = write(&REPLACE);
    let added = if replaced.is_none() { write(&REGISTER) } else { None };
    let was_update = added.is_none();
    // Neither wrote a row: another transaction has just added the entry.
    let is_enabled = replaced.or(added).or_else(|| write(&REPLACE));
    audit::write(call, &org, actor, "register_integration", key, &json!({"wasUpdate": was_update}));
    metering.finish(&org, actor, None, json!({"key": key, "display_name": display_name, "actor": actor}));
    Ok(call::json(&json!({"key": key, "displayName": display_name, "isEnabled": is_enabled})))
}

fn refuse_rules(error: &RulesError) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidRequest,
        error.to_string(),
        "Rules are a JSON object of minLength, maxLength, prefix, pattern and schema, each optional.",
    )
}

/// An optional text.
pub(super) fn optional<'a>(name: &str, text: Option<&'a str>) -> Result<Option<&'a str>, Refusal> {
    text.map(|text| limits::check(name, Some(text), MAX_TEXT_CHARS)).transpose()
}

statement!(volatile IN_USE(TEXTOID) "
    SELECT FROM integration_credentials.configured_integrations
    WHERE integration_key = $1 AND (ciphertext IS NOT NULL OR pending_ciphertext IS NOT NULL) LIMIT 1");
// For tables of 0.1.0, until ALTER EXTENSION UPDATE.
statement!(volatile IN_USE_0_1_0(TEXTOID) "
    SELECT FROM integration_credentials.configured_integrations
    WHERE integration_key = $1 AND ciphertext IS NOT NULL LIMIT 1");
// Conflicts with the lock of each set call, so that no credential is set between the query above and the
// removal.
statement!(volatile LOCK() "
    LOCK TABLE integration_credentials.configured_integrations IN SHARE ROW EXCLUSIVE MODE");
// Deletes the rows of removed credentials with the entry, and what was kept of them.
statement!(volatile FORGET(TEXTOID) "
    DELETE FROM integration_credentials.configured_integrations
    WHERE integration_key = $1 AND ciphertext IS NULL");
// Only a superuser may remove an entry with functions: only a superuser could register the functions again.
statement!(volatile UNREGISTER(TEXTOID, BOOLOID) "
    DELETE FROM integration_credentials.integration_catalog
    WHERE integration_key = $1 AND ($2 OR (validator IS NULL AND sync_handler IS NULL))
    RETURNING true");

/// `admin_unregister_integration(key, actor)`
pub fn call_unregister(call: &Call) -> Answer {
    let metering = Metering::start(&tool::UNREGISTER);
    let key = limits::key(call.text(0))?;
    let actor = limits::actor(call.text(1))?;
    let org = settings::current_org(call)?;
    let entry = catalog::find(key)?;

    if index_scan::sees_an_old_snapshot() {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "a REPEATABLE READ transaction cannot see whether the integration is in use",
            "Call admin_unregister_integration() in a READ COMMITTED transaction.",
        ));
    }
    execute(&LOCK, &[]);
    let in_use = if entry.keep_previous.is_some() { &IN_USE } else { &IN_USE_0_1_0 };
    if first(in_use, &[argument(key)], |_| Ok(())).is_some() {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            format!("integration {key:?} is in use: an org has a credential for it, or a pending value"),
            "Remove the credential in each org with admin_remove_integration_credentials(), discard the pending value, or \
             disable the integration.",
        ));
    }
    execute(&FORGET, &[argument(key)]);
    let may_take_off = call.caller.role.is_superuser();
    if first(&UNREGISTER, &[argument(key), argument(may_take_off)], |_| Ok(())).is_none() {
        // The entry is gone, or has a function.
        catalog::find(key)?;
        return Err(forbidden(&format!(
            "unregister integration {key:?}, which has a validator or a sync handler"
        )));
    }

    audit::write(call, &org, actor, "unregister_integration", key, &json!({}));
    metering.finish(&org, actor, None, json!({"key": key, "actor": actor}));
    Ok(call::json(&json!({"key": key})))
}

statement!(volatile SWITCH(TEXTOID, BOOLOID) "
    UPDATE integration_credentials.integration_catalog
    SET is_enabled = $2, updated_at = pg_catalog.clock_timestamp()
    WHERE integration_key = $1 AND is_enabled <> $2
    RETURNING true");
// The orgs that have, or had, a credential, and the caller's own org in any case.
statement!(volatile AFFECTED(TEXTOID, TEXTOID) "
    SELECT org_slug, revision FROM integration_credentials.configured_integrations WHERE integration_key = $1
    UNION ALL
    SELECT $2, 0 WHERE NOT EXISTS (
        SELECT FROM integration_credentials.configured_integrations WHERE integration_key = $1 AND org_slug = $2)");

/// `admin_set_integration_enabled(key, enabled, actor)`. A call that changes nothing is not audited or
/// announced.
pub fn call_set_enabled(call: &Call) -> Answer {
    let metering = Metering::start(&tool::SET_ENABLED);
    let key = limits::key(call.text(0))?;
    let enabled = call.boolean(1).ok_or_else(|| {
        Refusal::new(ErrorCode::InvalidRequest, "enabled is NULL", "Give enabled as true or false.")
    })?;
    let actor = limits::actor(call.text(2))?;
    let org = settings::current_org(call)?;
    catalog::find(key)?;

    let switched = first(&SWITCH, &[argument(key), argument(enabled)], |_| Ok(()));
    if switched.is_some() {
        let operation = if enabled { Operation::Enable } else { Operation::Disable };
        for (org, revision) in affected(key, &org) {
            announce(&Event { org, key: key.to_owned(), revision, operation });
        }
        let action = if enabled { "enable_integration" } else { "disable_integration" };
        audit::write(call, &org, actor, action, key, &json!({}));
    }
    metering.finish(&org, actor, None, json!({"key": key, "enabled": enabled, "actor": actor}));
    Ok(call::json(&json!({"key": key, "isEnabled": enabled})))
}

statement!(volatile KEEP(TEXTOID, INTERVALOID) "
    UPDATE integration_credentials.integration_catalog
    SET keep_previous = $2, updated_at = pg_catalog.clock_timestamp()
    WHERE integration_key = $1 AND keep_previous <> $2
    RETURNING true");

/// `admin_set_integration_keep_previous(key, keep_previous, actor)`. A call that changes nothing is not audited.
pub fn call_set_keep_previous(call: &Call) -> Answer {
    let metering = Metering::start(&tool::SET_KEEP_PREVIOUS);
    let key = limits::key(call.text(0))?;
    let invalid = |problem: &str| {
        let hint = "Give keep_previous as an interval of 0 to ten years; 0 keeps no previous value.";
        Refusal::new(ErrorCode::InvalidRequest, problem, hint)
    };
    let interval = call.interval(1).ok_or_else(|| invalid("keep_previous is NULL"))?;
    let kept = timestamp::span(&interval).ok_or_else(|| invalid("keep_previous is negative"))?;
    let seconds = options::check_kept("keep_previous", kept)?.as_secs();
    let actor = limits::actor(call.text(2))?;
    let org = settings::current_org(call)?;
    catalog::find(key)?;
    if first(&KEEP, &[argument(key), argument(interval)], |_| Ok(())).is_some() {
        audit::write(
            call,
            &org,
            actor,
            "set_integration_keep_previous",
            key,
            &json!({"keepPrevious": seconds}),
        );
    }
    metering.finish(&org, actor, None, json!({"key": key, "keep_previous": seconds, "actor": actor}));
    Ok(call::json(&json!({"key": key, "keepPrevious": seconds})))
}

fn affected(key: &str, own: &str) -> Vec<(String, i64)> {
    run(&AFFECTED, &[argument(key), argument(own)], |rows| {
        let mut affected = Vec::with_capacity(rows.len());
        for row in rows {
            affected.extend(row.get(1)?.map(|Text(org)| org).zip(row.get::<i64>(2)?));
        }
        Ok(affected)
    })
}
