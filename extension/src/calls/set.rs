//! The set calls: for a plain value and for a sealed value, and the steps that both share.

use super::caller::Role;
use super::key_lock;
use crate::announce::announce;
use crate::audit;
use crate::catalog::Entry;
use crate::memory;
use crate::metering::Metering;
use crate::pg::call::{self, Answer, Call};
use crate::pg::error;
use crate::pg::prepared::{argument, run, statement};
use crate::pg::{relation, timestamp};
use crate::redaction::{self, Came};
use crate::user_functions::{sync_handler, validator};
use crate::{catalog, keyring, settings};
use base64::{Engine, engine::general_purpose::STANDARD};
use integration_credentials_core::envelope::{Place, Purpose};
use integration_credentials_core::error::{ErrorCode, Refusal};
use integration_credentials_core::event::{Event, Operation};
use integration_credentials_core::seal::{self, SealingKey, Terms};
use integration_credentials_core::{limits, tool};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use serde::Serialize;
use serde_json::json;
use std::rc::Rc;

/// The most copies of the value that a call has in memory: opened, encrypted, as arguments, and kept for
/// redaction.
const COPIES: usize = 8;

// xmax is 0 in an inserted row, and the id of this transaction in a row that ON CONFLICT locked to update.
statement!(volatile UPSERT(TEXTOID, TEXTOID, BYTEAOID) "
    INSERT INTO integration_credentials.configured_integrations AS c (org_slug, integration_key, ciphertext)
    VALUES ($1, $2, $3)
    ON CONFLICT (org_slug, integration_key) DO UPDATE
        SET ciphertext = excluded.ciphertext,
            revision = c.revision + 1,
            updated_at = pg_catalog.clock_timestamp()
    RETURNING c.revision, c.xmax <> '0'::pg_catalog.xid, c.updated_at");

struct Saved {
    revision: i64,
    was_update: bool,
    updated_at: String,
}

/// A checked request, plain or opened.
struct Request<'a> {
    call: &'a Call,
    org: &'a str,
    key: &'a str,
    value: &'a str,
    actor: &'a str,
    is_sealed: bool,
}

/// `admin_set_integration_credentials(key, value, actor)`
pub fn call(call: &Call) -> Answer {
    let metering = Metering::start(&tool::SET);
    let key = limits::key(call.text(0))?;
    let value = settings::check_value(call.text(1))?;
    let actor = limits::actor(call.text(2))?;
    redaction::remember_if_secret(key);
    discourage_literals()?;
    let org = settings::current_org(call)?;
    set(metering, &Request { call, org: &org, key, value, actor, is_sealed: false })
}

/// `admin_set_integration_credentials_sealed(key, sealed, actor)`
pub fn call_sealed(call: &Call) -> Answer {
    let metering = Metering::start(&tool::SET_SEALED);
    let key = limits::key(call.text(0))?;
    let sealed = call.bytes(1).ok_or_else(|| {
        Refusal::new(
            ErrorCode::InvalidRequest,
            "sealed is NULL",
            "Give a value sealed to the key that sealing_key() returns.",
        )
    })?;
    let actor = limits::actor(call.text(2))?;
    if call.caller.is_guest() && !call.caller.role.is_superuser() {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "cannot open a sealed value in a function of another role",
            "Call as the session role that sealed the value, not from a SECURITY DEFINER function, trigger or index.",
        ));
    }
    let org = settings::current_org(call)?;
    memory::require_copies(sealed, COPIES);
    let value = keyring::open(Terms { org: &org, key, role: &Role::session().name() }, sealed)?;
    settings::check_value(Some(&value))?;
    set(metering, &Request { call, org: &org, key, value: &value, actor, is_sealed: true })
}

/// `sealing_key()`: the key, and the terms that a client seals a value for.
pub fn call_sealing_key(call: &Call) -> Answer {
    let org = settings::current_org(call)?;
    let SealingKey { id, public } = keyring::sealing_key()?;
    Ok(call::json(&json!({
        "form": seal::VERSION,
        "org": org,
        "role": Role::session().name(),
        "issuedAt": keyring::now(),
        "keyId": id,
        "publicKey": STANDARD.encode(public),
    })))
}

/// Gives a notice for a literal, or refuses it: redaction does not reach every place that shows a statement.
fn discourage_literals() -> Result<(), Refusal> {
    let came = redaction::how_the_value_came();
    let message = "the value is a literal in the text of the statement, where other roles may see it";
    let hint = "Pass the value as a parameter. Better, seal it: use `intcred set`, or see sealing_key().";
    match came {
        Came::Otherwise => Ok(()),
        _ if settings::refuse_literals() => Err(Refusal::new(ErrorCode::InvalidRequest, message, hint)),
        Came::AsLiteral => {
            error::notice(message, hint);
            Ok(())
        }
        Came::AsLiteralAgain => Ok(()),
    }
}

/// The receipt of a change.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State<'a> {
    pub key: &'a str,
    pub is_configured: bool,
    pub has_credentials: bool,
    pub updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// The failure of a sync handler.
#[derive(Serialize)]
pub struct Problem {
    status: u16,
    code: &'static str,
    message: String,
}

/// The steps of a set. Arguments and org were checked before.
///
/// 1. Find the entry of the catalog, which must be enabled.
/// 2. Lock the table of credentials: from here on, `admin_unregister_integration()` waits.
/// 3. Check the value by the rules, then by the validator, while no row is locked: a validator may be slow.
/// 4. Encrypt, so that the plaintext never enters a tuple.
/// 5. Queue for the credential, then upsert the row by one INSERT ... ON CONFLICT. Its xmax distinguishes
///    insert and update.
/// 6. Find the entry again, and check the value again if the entry differs: another transaction may have
///    disabled it or changed its rules while this one waited in 2, 3 or 5. A refusal here rolls back the upsert.
/// 7. Keep the event for the commit.
/// 8. Run the sync handler of the entry of step 6. The result shows a failure, and the upsert stays.
/// 9. Write the audit row and the metering row.
fn set(metering: Metering, request: &Request<'_>) -> Answer {
    let &Request { call, org, key, value, actor, .. } = request;
    let checked = find_entry(request)?;
    memory::require_copies(value.as_bytes(), COPIES);
    redaction::remember(value);
    relation::lock(c"configured_integrations", pg_sys::RowExclusiveLock);
    validator::check(&checked, key, value)?;
    let ciphertext = keyring::encrypt(Place { purpose: Purpose::Credential, org, key }, value)?;
    key_lock::acquire(org, key);
    let Saved { revision, was_update, updated_at } = save(org, key, &ciphertext);
    let entry = find_entry(request)?;
    if entry != checked {
        validator::check(&entry, key, value)?;
    }

    announce(&Event { org: org.to_owned(), key: key.to_owned(), revision, operation: Operation::Set });
    let sync_problem = sync_handler::hand_on(&entry, org, key, value);

    audit::write(call, org, actor, "set_integration_credentials", key, &json!({"wasUpdate": was_update}));
    let outcome = sync_problem.as_ref().map(|_| ErrorCode::ToolSetupFailed);
    // The value is not copied, not even to be redacted: metering needs only the parameter's name.
    metering.finish(org, actor, outcome, json!({"key": key, "value": null, "sealed": null, "actor": actor}));

    let error = sync_problem.map(|message| {
        let code = ErrorCode::ToolSetupFailed;
        Problem { status: code.status(), code: code.as_str(), message }
    });
    Ok(call::json(&State { key, is_configured: true, has_credentials: true, updated_at, error }))
}

/// The entry that a value is checked by. A caller could probe a sealed value with rules of its own and roll
/// them back without a trace, so uncommitted rules and functions do not see a sealed value.
fn find_entry(request: &Request<'_>) -> Result<Rc<Entry>, Refusal> {
    let entry = catalog::find_enabled(request.key)?;
    if request.is_sealed && (entry.is_uncommitted || validator::is_uncommitted(&entry)) {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            format!(
                "this transaction has changed integration {:?} or one of its functions; uncommitted rules and functions \
                 cannot check a sealed value",
                request.key
            ),
            "Commit the change first, then set the value in a transaction of its own.",
        ));
    }
    Ok(entry)
}

fn save(org: &str, key: &str, ciphertext: &[u8]) -> Saved {
    run(&UPSERT, &[argument(org), argument(key), argument(ciphertext)], |rows| {
        let row = rows.first();
        Ok(Saved {
            revision: row.get(1)?.unwrap_or_default(),
            was_update: row.get(2)?.unwrap_or_default(),
            updated_at: row.get::<TimestampWithTimeZone>(3)?.map(timestamp::iso8601).unwrap_or_default(),
        })
    })
}
