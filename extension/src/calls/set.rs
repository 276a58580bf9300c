//! The set calls: for a plain value and for a sealed value, and the steps that both share.

use super::caller::Role;
use super::key_lock;
use super::receipt::{Change, State};
use super::stored::{self, Stored};
use crate::catalog::Entry;
use crate::memory;
use crate::metering::Metering;
use crate::pg::call::{self, Answer, Call};
use crate::pg::error::{self, Raised};
use crate::pg::prepared::{argument, first, run, statement};
use crate::pg::relation;
use crate::pg::timestamp::Moment;
use crate::redaction::{self, Came};
use crate::user_functions::{sync_handler, validator};
use crate::{catalog, keyring, settings};
use base64::{Engine, engine::general_purpose::STANDARD};
use integration_credentials_core::envelope::{Place, Purpose};
use integration_credentials_core::error::{ErrorCode, Refusal};
use integration_credentials_core::event::Operation;
use integration_credentials_core::options::{self, SetOptions};
use integration_credentials_core::seal::{self, SealingKey, Terms};
use integration_credentials_core::{limits, tool};
use pgrx::pg_sys;
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::SystemTime;
use zeroize::Zeroizing;

/// The most copies of the value that a call has in memory: opened, encrypted, as arguments, and kept for
/// redaction.
pub const COPIES: usize = 8;

// xmax is 0 in an inserted row, and the id of this transaction in a row that ON CONFLICT locked to update. $5 is the
// revision of the row as it was read, from which follows what becomes of its previous value; no row is returned if that
// has changed since.
macro_rules! upsert {
    ($previous:literal) => {
        concat!(
            "
    INSERT INTO integration_credentials.configured_integrations AS c
        (org_slug, integration_key, ciphertext, expires_at)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (org_slug, integration_key) DO UPDATE
        SET ciphertext = excluded.ciphertext,
            revision = c.revision + 1,
            updated_at = pg_catalog.clock_timestamp(),",
            $previous,
            "
            expires_at = excluded.expires_at
        WHERE c.revision = $5
    RETURNING c.revision, c.updated_at, c.previous_until, c.pending_ciphertext IS NOT NULL,
        c.xmax <> '0'::pg_catalog.xid"
        )
    };
}
// A value is replaced, and kept as the previous one until $6.
statement!(volatile ROTATE(TEXTOID, TEXTOID, BYTEAOID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID) upsert!("
            previous_revision = c.revision,
            previous_ciphertext = c.ciphertext,
            previous_until = $6,
            previous_expires_at = c.expires_at,"));
// There is no value, or the one that is replaced is not kept.
statement!(volatile REPLACE(TEXTOID, TEXTOID, BYTEAOID, TIMESTAMPTZOID, INT8OID) upsert!("
            previous_revision = NULL,
            previous_ciphertext = NULL,
            previous_until = NULL,
            previous_expires_at = NULL,"));
// The new value equals the current one: the previous value stays, so that a set that is tried twice does not destroy
// what a rollback would bring back.
statement!(volatile REPEAT(TEXTOID, TEXTOID, BYTEAOID, TIMESTAMPTZOID, INT8OID) upsert!(""));
// For tables of 0.1.0, until ALTER EXTENSION UPDATE.
statement!(volatile UPSERT_0_1_0(TEXTOID, TEXTOID, BYTEAOID) "
    INSERT INTO integration_credentials.configured_integrations AS c (org_slug, integration_key, ciphertext)
    VALUES ($1, $2, $3)
    ON CONFLICT (org_slug, integration_key) DO UPDATE
        SET ciphertext = excluded.ciphertext,
            revision = c.revision + 1,
            updated_at = pg_catalog.clock_timestamp()
    RETURNING c.revision, true, c.updated_at, false, false, c.xmax <> '0'::pg_catalog.xid");
statement!(volatile STAGE(TEXTOID, TEXTOID, BYTEAOID, TEXTOID, TIMESTAMPTZOID) "
    INSERT INTO integration_credentials.configured_integrations AS c
        (org_slug, integration_key, revision, pending_ciphertext, pending_at, pending_actor, pending_expires_at)
    VALUES ($1, $2, 0, $3, pg_catalog.clock_timestamp(), $4, $5)
    ON CONFLICT (org_slug, integration_key) DO UPDATE
        SET pending_ciphertext = excluded.pending_ciphertext,
            pending_at = excluded.pending_at,
            pending_actor = excluded.pending_actor,
            pending_expires_at = excluded.pending_expires_at
    RETURNING c.revision, c.ciphertext IS NOT NULL, c.updated_at,
        c.previous_until > pg_catalog.clock_timestamp(), true");

/// A checked request, plain or opened.
struct Request<'a> {
    change: Change<'a>,
    value: &'a str,
    is_sealed: bool,
    /// `None` for a call without the argument.
    options: Option<SetOptions>,
}

/// `admin_set_integration_credentials(key, value, actor [, options])`
pub fn call(call: &Call) -> Answer {
    let metering = Metering::start(&tool::SET);
    let key = limits::key(call.text(0))?;
    let value = settings::check_value(call.text(1))?;
    let actor = limits::actor(call.text(2))?;
    redaction::remember_if_secret(key);
    discourage_literals()?;
    let options = options(call)?;
    let org = settings::current_org(call)?;
    let change = Change { call, org: &org, key, actor };
    set(metering, &Request { change, value, is_sealed: false, options })
}

/// `admin_set_integration_credentials_sealed(key, sealed, actor [, options])`
pub fn call_sealed(call: &Call) -> Answer {
    let metering = Metering::start(&tool::SET_SEALED);
    let key = limits::key(call.text(0))?;
    let actor = limits::actor(call.text(2))?;
    let options = options(call)?;
    let org = settings::current_org(call)?;
    let value = open(call, 1, &org, key)?;
    settings::check_value(Some(&value))?;
    let change = Change { call, org: &org, key, actor };
    set(metering, &Request { change, value: &value, is_sealed: true, options })
}

/// Opens an argument that was sealed by this session's role, for this org and integration.
pub fn open(call: &Call, index: usize, org: &str, key: &str) -> Result<Zeroizing<String>, Refusal> {
    let sealed = call.bytes(index).ok_or_else(|| {
        Refusal::new(
            ErrorCode::InvalidRequest,
            "sealed is NULL",
            "Give a value sealed to the key that sealing_key() returns.",
        )
    })?;
    if call.caller.is_guest() && !call.caller.role.is_superuser() {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "cannot open a sealed value in a function of another role",
            "Call as the session role that sealed the value, not from a SECURITY DEFINER function, trigger or index.",
        ));
    }
    memory::require_copies(sealed, COPIES);
    keyring::open(Terms { org, key, role: &Role::session().name() }, sealed)
}

/// The options, which only the overload with four arguments has.
fn options(call: &Call) -> Result<Option<SetOptions>, Refusal> {
    const OPTIONS: usize = 3;
    if call.arguments() <= OPTIONS {
        return Ok(None);
    }
    let given = call.json(OPTIONS, "options", options::MAX_BYTES)?;
    let options = given.map(|(_, text)| SetOptions::parse(&text, SystemTime::now())).transpose()?;
    Ok(Some(options.unwrap_or_default()))
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

/// The steps of a set. Arguments and org were checked before.
///
/// 1. Find the entry of the catalog, which must be enabled.
/// 2. Lock the table of credentials: from here on, `admin_unregister_integration()` waits.
/// 3. Check the value by the rules, then by the validator, while no row is locked: a validator may be slow.
/// 4. Encrypt, so that the plaintext never enters a tuple. A dry run ends here.
/// 5. Queue for the credential, then upsert the row by one INSERT ... ON CONFLICT. Its xmax distinguishes
///    insert and update.
/// 6. Find the entry again, and check the value again if the entry differs: another transaction may have
///    disabled it or changed its rules while this one waited in 2, 3 or 5. A refusal here rolls back the upsert.
/// 7. Keep the event for the commit.
/// 8. Run the sync handler of the entry of step 6. The result shows a failure, and the upsert stays.
/// 9. Write the audit row and the metering row.
fn set(metering: Metering, request: &Request<'_>) -> Answer {
    let Request { change, value, is_sealed, options } = request;
    let &Change { org, key, actor, .. } = change;
    let checked = catalog::find_enabled(key)?;
    refuse_uncommitted(&checked, key, *is_sealed)?;
    memory::require_copies(value.as_bytes(), COPIES);
    redaction::remember(value);
    relation::lock(c"configured_integrations", pg_sys::RowExclusiveLock);
    validator::check(&checked, key, value)?;
    let ciphertext = keyring::encrypt(Place { purpose: Purpose::Credential, org, key }, value)?;

    // The value is not copied, not even to be redacted: metering needs only the parameter's name.
    let mut parameters = json!({"key": key, "value": null, "sealed": null, "actor": actor});
    if options.is_some() {
        parameters["options"] = Value::Null;
    }
    let given = options.unwrap_or_default();
    if given.is_dry_run {
        let would_be = foresee(change, &checked, value, &given)?;
        metering.finish(org, actor, None, parameters);
        return Ok(call::json(&json!({"key": key, "wouldBe": would_be})));
    }

    key_lock::acquire(org, key);
    let (state, sync_problem) = if given.is_staged {
        let state = stage(change, &ciphertext, &given)?;
        recheck(request, &checked)?;
        (state, None)
    } else {
        let Saved { state, was_update, is_unchanged } = save(change, value, &ciphertext, &checked, &given)?;
        let entry = recheck(request, &checked)?;
        change.announce(Operation::Set, state.revision);
        let sync_problem = sync_handler::hand_on(&entry, org, key, value);
        let mut metadata = json!({"wasUpdate": was_update});
        if is_unchanged {
            metadata["unchanged"] = true.into();
        }
        change.audit("set_integration_credentials", &metadata);
        (state, sync_problem)
    };
    metering.finish(org, actor, sync_problem.as_ref().map(|_| ErrorCode::ToolSetupFailed), parameters);
    Ok(call::json(&match options {
        None => state.short(key, sync_problem),
        Some(_) => state.full(key, sync_problem),
    }))
}

/// Finds the entry again, and checks the value again if the entry differs.
fn recheck(request: &Request<'_>, checked: &Entry) -> Result<Rc<Entry>, Refusal> {
    let Request { change: Change { key, .. }, value, is_sealed, .. } = request;
    let entry = catalog::find_enabled(key)?;
    refuse_uncommitted(&entry, key, *is_sealed)?;
    if *entry != *checked {
        validator::check(&entry, key, value)?;
    }
    Ok(entry)
}

/// A caller could probe a value that it has not written with rules of its own, and roll them back without a
/// trace. So uncommitted rules and functions do not see such a value.
pub fn refuse_uncommitted(entry: &Entry, key: &str, is_unseen: bool) -> Result<(), Refusal> {
    if is_unseen && (entry.is_uncommitted || validator::is_uncommitted(entry)) {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            format!(
                "this transaction has changed integration {key:?} or one of its functions; uncommitted rules and functions \
                 do not see a value that the caller may not read"
            ),
            "Commit the change first, then make this call in a transaction of its own.",
        ));
    }
    Ok(())
}

struct Saved {
    state: State,
    was_update: bool,
    is_unchanged: bool,
}

/// Upserts the current value.
fn save(
    change: &Change<'_>,
    value: &str,
    ciphertext: &[u8],
    entry: &Entry,
    given: &SetOptions,
) -> Result<Saved, Refusal> {
    let &Change { org, key, .. } = change;
    let (state, was_locked, is_unchanged) = match entry.keep_previous {
        Some(keep_previous) => {
            let until = stored::until(given.keep_previous.unwrap_or(keep_previous));
            let attempt =
                || upsert(change, entry, value, ciphertext, given.expires_at.map(Moment::from), until);
            // An upsert that updates nothing has locked the row, which then stays as the second attempt reads it.
            attempt().or_else(attempt).unwrap_or_else(|| {
                let problem = "a trigger of the table configured_integrations suppresses the row; drop it, then set again";
                Raised::internal(problem).throw()
            })
        }
        None => run(&UPSERT_0_1_0, &[argument(org), argument(key), argument(ciphertext)], |rows| {
            let row = rows.first();
            Ok((State::of(&row)?, row.get(6)?.unwrap_or_default(), false))
        }),
    };
    stored::check_expected(key, given.expected_revision, state.revision - 1)?;
    // A row that had a pending value only is updated, and yet this is its first value.
    Ok(Saved { state, was_update: was_locked && state.revision > 1, is_unchanged })
}

/// Reads the row, and upserts it unless another transaction has changed it in between. Returns its state, whether a row
/// was locked to be updated, and whether that had the same value.
fn upsert(
    change: &Change<'_>,
    entry: &Entry,
    value: &str,
    ciphertext: &[u8],
    expires_at: Option<Moment>,
    until: Option<Moment>,
) -> Option<(State, bool, bool)> {
    let stored = current(change, entry);
    let revision = stored.as_ref().map_or(0, |stored| stored.revision);
    let is_unchanged = stored.as_ref().is_some_and(|stored| stored.is(change, value));
    let has_value = stored.is_some_and(|stored| stored.ciphertext.is_some());
    let arguments = [
        argument(change.org),
        argument(change.key),
        argument(ciphertext),
        argument(expires_at),
        argument(revision),
        argument(until),
    ];
    let (statement, count) = match until {
        _ if is_unchanged => (&REPEAT, 5),
        Some(_) if has_value => (&ROTATE, 6),
        _ => (&REPLACE, 5),
    };
    first(statement, &arguments[..count], |row| {
        let state = State {
            revision: row.get(1)?.unwrap_or_default(),
            has_credentials: true,
            updated_at: row.get(2)?.unwrap_or_else(Moment::now),
            has_previous: stored::is_kept(row.get(3)?, Moment::now()),
            has_pending: row.get(4)?.unwrap_or_default(),
        };
        let was_locked = row.get(5)?.unwrap_or_default();
        // A row that was purged in between is inserted.
        Ok((state, was_locked, was_locked && is_unchanged))
    })
}

/// The row with its current value.
fn current(change: &Change<'_>, entry: &Entry) -> Option<Stored> {
    Stored::read(change.org, change.key, entry, c"ciphertext")
}

/// Stores a value as pending.
fn stage(change: &Change<'_>, ciphertext: &[u8], given: &SetOptions) -> Result<State, Refusal> {
    let &Change { org, key, actor, .. } = change;
    let arguments = [
        argument(org),
        argument(key),
        argument(ciphertext),
        argument(actor),
        argument(given.expires_at.map(Moment::from)),
    ];
    let state = run(&STAGE, &arguments, |rows| State::of(&rows.first()));
    stored::check_expected(key, given.expected_revision, state.revision)?;
    change.announce(Operation::Stage, state.revision);
    change.audit("stage_integration_credentials", &json!({"revision": state.revision}));
    Ok(state)
}

/// What a set would do to the current value.
fn foresee(
    change: &Change<'_>,
    entry: &Entry,
    value: &str,
    given: &SetOptions,
) -> Result<&'static str, Refusal> {
    let stored = current(change, entry);
    let revision = stored.as_ref().map_or(0, |stored| stored.revision);
    stored::check_expected(change.key, given.expected_revision, revision)?;
    Ok(match stored {
        Some(stored) if stored.is(change, value) => "unchanged",
        _ if revision > 0 => "rotation",
        _ => "insert",
    })
}
