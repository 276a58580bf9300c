//! `report_held_revisions(consumer, name, held, lease)`: a process that holds credentials renews its lease.
//!
//! The report is a promise: until the lease runs out, the process uses no value of a key that it does not
//! report, and none older than what it reports. `docs/services.md` has the protocol.

use crate::metering;
use crate::pg::call::{Answer, Call, VOID};
use crate::pg::prepared::{argument, execute, first, statement};
use crate::pg::timestamp::{Moment, span};
use crate::settings;
use integration_credentials_core::error::{ErrorCode, Refusal};
use integration_credentials_core::limits;
use std::collections::HashMap;
use std::time::Duration;

/// The longest `held`, in bytes: a thousand keys of ordinary length.
const MAX_HELD_BYTES: usize = 60 << 10;

statement!(volatile REPORT(TEXTOID, TEXTOID, UUIDOID, TEXTOID, JSONBOID, TIMESTAMPTZOID, TIMESTAMPTZOID) "
    INSERT INTO integration_credentials.consumers AS c
        (org_slug, role_name, consumer, name, held, reported_at, lease_until)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (org_slug, role_name, consumer) DO UPDATE
        SET name = excluded.name, held = excluded.held,
            reported_at = excluded.reported_at, lease_until = excluded.lease_until
    RETURNING c.xmax = '0'::pg_catalog.xid");
statement!(volatile END(TEXTOID, TEXTOID, UUIDOID) "
    DELETE FROM integration_credentials.consumers WHERE org_slug = $1 AND role_name = $2 AND consumer = $3");
statement!(volatile BEGIN_EPOCH() "
    INSERT INTO integration_credentials.lease_epoch DEFAULT VALUES ON CONFLICT DO NOTHING");
// Leases that ran out. A row that is being renewed is skipped.
statement!(volatile SWEEP(TEXTOID, TIMESTAMPTZOID) "
    DELETE FROM integration_credentials.consumers
    WHERE (org_slug, role_name, consumer) IN (
        SELECT c.org_slug, c.role_name, c.consumer FROM integration_credentials.consumers AS c
        WHERE c.org_slug = $1 AND c.lease_until <= $2
        FOR UPDATE SKIP LOCKED)");

/// Notes since when leases are complete, unless that is noted.
pub fn begin_epoch() {
    execute(&BEGIN_EPOCH, &[]);
}

/// Answers the call.
pub fn call_report(call: &Call) -> Answer {
    metering::refuse_if_read_only("report_held_revisions");
    let consumer = call.uuid(0).ok_or_else(|| refusal("consumer is NULL"))?;
    let name = limits::check("name", call.text(1), limits::MAX_ACTOR_CHARS)?;
    let (document, text) = call.json(2, "held", MAX_HELD_BYTES)?.ok_or_else(|| refusal("held is NULL"))?;
    check(&text)?;
    let lease = lease(call)?;
    let org = settings::current_org(call)?;
    let role = call.caller.role.name();
    let row = [argument(org.as_str()), argument(role), argument(consumer)];
    if lease.is_zero() {
        execute(&END, &row);
        return Ok(VOID);
    }

    let now = Moment::now();
    let [of_org, of_role, of_consumer] = row;
    let arguments = [
        of_org,
        of_role,
        of_consumer,
        argument(name),
        argument(document),
        argument(now),
        argument(now.after(lease)),
    ];
    let is_new = first(&REPORT, &arguments, |row| row.get::<bool>(1)).flatten().unwrap_or_default();
    if is_new {
        begin_epoch();
        execute(&SWEEP, &[argument(org.as_str()), argument(now)]);
    }
    Ok(VOID)
}

/// Checks that each key has the oldest revision that is used, and the newest that is known.
fn check(held: &str) -> Result<(), Refusal> {
    let problem = "held is not an object of keys with [oldest revision, newest revision]";
    let held: HashMap<String, (i64, i64)> = serde_json::from_str(held).map_err(|_| refusal(problem))?;
    for (key, (oldest, newest)) in &held {
        limits::key(Some(key))?;
        if *oldest < 0 || newest < oldest {
            return Err(refusal(problem));
        }
    }
    Ok(())
}

fn lease(call: &Call) -> Result<Duration, Refusal> {
    let given = call.interval(3).ok_or_else(|| refusal("lease is NULL"))?;
    let lease = span(&given).ok_or_else(|| refusal("lease is negative"))?;
    let longest = settings::max_lease();
    if lease > longest {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            format!(
                "lease is longer than integration_credentials.max_lease, which is {} s",
                longest.as_secs()
            ),
            "Ask for a shorter lease, or have a superuser raise integration_credentials.max_lease.",
        ));
    }
    Ok(lease)
}

fn refusal(problem: &str) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidRequest,
        problem,
        "Call report_held_revisions(consumer uuid, name text, held jsonb, lease interval), with held as \
         {\"slack\": [41, 42]}: the oldest revision that the process uses, and the newest that it knows.",
    )
}
