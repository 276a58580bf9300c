//! `rotation_status(key)`: whether a consumer may still use an older value.
//!
//! `converged` is never wrong: on doubt the verdict is `unknown`. A lease is counted out only when it had run
//! out before the snapshot, so that no renewal is overlooked. What a lease promises is in `consumers`.

use super::consumers;
use crate::pg::call::{Answer, Call, VOID};
use crate::pg::index_scan;
use crate::pg::prepared::{argument, run, statement};
use crate::pg::text::Text;
use crate::pg::timestamp::Moment;
use crate::pg::tuplestore::Rows;
use crate::{metering, settings};
use integration_credentials_core::error::{ErrorCode, Refusal};
use pgrx::spi::{SpiError, SpiHeapTupleData};
use pgrx::{IntoDatum, JsonB, pg_sys};
use serde_json::Value;

/// So many consumers are named.
const NAMED: usize = 20;

// $3 was taken before the snapshot of this statement.
statement!(volatile STATUS(TEXTOID, TEXTOID, TIMESTAMPTZOID) "
    WITH live AS MATERIALIZED (
        SELECT name, role_name, held, reported_at, lease_until FROM integration_credentials.consumers
        WHERE org_slug = $1 AND lease_until > $3)
    SELECT c.integration_key, c.revision,
        CASE WHEN c.pending_ciphertext IS NOT NULL THEN 'staged'
             WHEN c.ciphertext IS NULL THEN 'removed'
             WHEN c.previous_until > $3 THEN 'rotating' ELSE 'steady' END,
        CASE WHEN c.previous_until > $3 THEN c.previous_revision END,
        CASE WHEN c.previous_until > $3 THEN c.previous_until END,
        c.pending_at, c.pending_actor,
        (SELECT pg_catalog.count(*) FROM live WHERE live.held ? c.integration_key),
        (SELECT pg_catalog.jsonb_agg(b.who) FROM (
            (SELECT pg_catalog.jsonb_build_object('name', l.name, 'role', l.role_name,
                'oldest', l.held -> c.integration_key -> 0, 'newest', l.held -> c.integration_key -> 1,
                'leaseUntil', l.lease_until) AS who
            FROM live AS l WHERE l.held ? c.integration_key
                AND ((l.held -> c.integration_key ->> 0)::pg_catalog.int8 < c.revision
                    -- Of a key that was unregistered since, with revisions of its own.
                    OR l.reported_at < c.created_at)
            ORDER BY l.name LIMIT 100)
            UNION ALL
            (SELECT pg_catalog.jsonb_build_object(
                'role', r.role_name, 'readRevision', r.revision, 'readAt', r.last_read_at)
            FROM integration_credentials.credential_reads AS r
            WHERE r.org_slug = c.org_slug AND r.integration_key = c.integration_key
                AND r.revision < c.revision AND r.last_read_at >= c.updated_at
            ORDER BY r.role_name LIMIT 100)) AS b),
        (SELECT e.began_at FROM integration_credentials.lease_epoch AS e)
    FROM integration_credentials.configured_integrations AS c
    WHERE c.org_slug = $1 AND ($2 IS NULL OR c.integration_key = $2)
    ORDER BY c.integration_key");
// Which transaction has last changed a credential.
statement!(volatile CHANGED_BY(TEXTOID, TEXTOID) "
    SELECT c.integration_key, c.xmin::pg_catalog.text FROM integration_credentials.configured_integrations AS c
    WHERE c.org_slug = $1 AND ($2 IS NULL OR c.integration_key = $2)");
// On a standby, which has no unlogged table.
statement!(stable STATUS_OF_STANDBY(TEXTOID, TEXTOID, TIMESTAMPTZOID) "
    SELECT c.integration_key, c.revision,
        CASE WHEN c.pending_ciphertext IS NOT NULL THEN 'staged'
             WHEN c.ciphertext IS NULL THEN 'removed'
             WHEN c.previous_until > $3 THEN 'rotating' ELSE 'steady' END,
        CASE WHEN c.previous_until > $3 THEN c.previous_revision END,
        CASE WHEN c.previous_until > $3 THEN c.previous_until END,
        c.pending_at, c.pending_actor,
        NULL::pg_catalog.int8, NULL::pg_catalog.jsonb, NULL::pg_catalog.timestamptz
    FROM integration_credentials.configured_integrations AS c
    WHERE c.org_slug = $1 AND ($2 IS NULL OR c.integration_key = $2)
    ORDER BY c.integration_key");

/// How far a rotation is.
struct Status {
    key: String,
    revision: i64,
    state: Option<String>,
    previous_revision: Option<i64>,
    previous_until: Option<Moment>,
    pending_at: Option<Moment>,
    pending_actor: Option<String>,
    verdict: &'static str,
    reason: Option<String>,
    consumers: Option<i64>,
    behind: Option<JsonB>,
}

/// `rotation_status(key)`
pub fn call(call: &Call) -> Answer {
    let key = call.text(0);
    let org = settings::current_org(call)?;
    let mut rows = Rows::<11>::of(call);
    for status in read(&org, key, &own_changes(&org, key)) {
        rows.push([
            status.key.into_datum(),
            status.revision.into_datum(),
            status.state.into_datum(),
            status.previous_revision.into_datum(),
            status.previous_until.into_datum(),
            status.pending_at.into_datum(),
            status.pending_actor.into_datum(),
            status.verdict.into_datum(),
            status.reason.into_datum(),
            status.consumers.into_datum(),
            status.behind.into_datum(),
        ]);
    }
    Ok(VOID)
}

/// Refuses to go on if this transaction has changed the credential. To be called before a write of the row
/// that leaves the revision as it is, and makes the row one of this transaction.
pub fn require_committed(org: &str, key: &str) -> Result<(), Refusal> {
    if own_changes(org, Some(key)).is_empty() {
        return Ok(());
    }
    Err(not_converged(key, UNKNOWN, Some(OWN.to_owned()), &[]))
}

/// Refuses to go on while a consumer may use an older value.
pub fn require_converged(org: &str, key: &str) -> Result<(), Refusal> {
    let Some(Status { verdict, reason, behind, .. }) = read(org, Some(key), &[]).into_iter().next() else {
        return Err(Refusal::credentials_not_set(key));
    };
    if verdict == CONVERGED {
        return Ok(());
    }
    let behind = behind.as_ref().and_then(|JsonB(behind)| behind.as_array()).map(Vec::as_slice);
    Err(not_converged(key, verdict, reason, behind.unwrap_or_default()))
}

fn not_converged(key: &str, verdict: &'static str, reason: Option<String>, behind: &[Value]) -> Refusal {
    let name = |consumer: &Value| consumer.get("name").or_else(|| consumer.get("role")).cloned();
    let names: Vec<Value> = behind.iter().filter_map(name).take(NAMED).collect();
    Refusal {
        facts: vec![("verdict", verdict.into()), ("behind", names.into())],
        ..Refusal::new(
            ErrorCode::NotConverged,
            match reason {
                Some(reason) => {
                    format!("nobody can tell whether the previous value of {key:?} is still used: {reason}")
                }
                None => format!("{} consumers may still use the previous value of {key:?}", behind.len()),
            },
            "rotation_status(key) shows who. Wait, or call with force => true, which drops the value all the same.",
        )
    }
}

const CONVERGED: &str = "converged";
const WAITING: &str = "waiting";
const UNKNOWN: &str = "unknown";

fn read(org: &str, key: Option<&str>, own: &[String]) -> Vec<Status> {
    // SAFETY: a variable of the server.
    let is_standby = unsafe { pg_sys::RecoveryInProgress() };
    let doubt = if is_standby {
        Some("this server is a standby, and leases are on the primary".to_owned())
    } else if index_scan::sees_an_old_snapshot() {
        Some("a REPEATABLE READ transaction has an old snapshot of the leases".to_owned())
    } else {
        if !metering::is_read_only() {
            consumers::begin_epoch();
        }
        None
    };
    let now = Moment::now();
    let arguments = [argument(org), argument(key), argument(now)];
    let statement = if is_standby { &STATUS_OF_STANDBY } else { &STATUS };
    run(statement, &arguments, |rows| {
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            let key: Option<String> = row.get(1)?;
            let is_own = key.is_some_and(|key| own.contains(&key));
            all.push(status(&row, now, doubt.as_deref().or(is_own.then_some(OWN)))?);
        }
        Ok(all)
    })
}

const OWN: &str =
    "this transaction has changed the credential, and others read the older one until the commit";

/// The keys that this transaction has changed.
fn own_changes(org: &str, key: Option<&str>) -> Vec<String> {
    // SAFETY: reads a variable of the transaction.
    if unsafe { pg_sys::GetTopTransactionIdIfAny() } == pg_sys::InvalidTransactionId {
        return Vec::new();
    }
    run(&CHANGED_BY, &[argument(org), argument(key)], |rows| {
        let mut own = Vec::new();
        for row in rows {
            let (key, changed_by) = (row.get::<String>(1)?, row.get::<String>(2)?);
            let changed_by = changed_by.and_then(|id| id.parse().ok()).map(pg_sys::TransactionId::from_inner);
            // SAFETY: any id may be asked for.
            if changed_by.is_some_and(|id| unsafe { pg_sys::TransactionIdIsCurrentTransactionId(id) }) {
                own.extend(key);
            }
        }
        Ok(own)
    })
}

fn status(row: &SpiHeapTupleData<'_>, now: Moment, doubt: Option<&str>) -> Result<Status, SpiError> {
    let text = |column| row.get::<Text>(column).map(|text| text.map(|Text(text)| text));
    let behind = row.get::<JsonB>(9)?;
    let complete_from = row.get::<Moment>(10)?.map(|began_at| began_at.after(settings::max_lease()));
    let reason = match (doubt, complete_from) {
        (Some(doubt), _) => Some(doubt.to_owned()),
        (None, None) => {
            Some("leases were lost, or never taken, and this transaction is read-only".to_owned())
        }
        (None, Some(from)) if now < from => Some(format!(
            "leases are not complete before {from}: this server was set up, or lost them in a crash"
        )),
        _ => None,
    };
    let verdict = match (&reason, &behind) {
        (Some(_), _) => UNKNOWN,
        (None, Some(_)) => WAITING,
        (None, None) => CONVERGED,
    };
    Ok(Status {
        key: text(1)?.unwrap_or_default(),
        revision: row.get(2)?.unwrap_or_default(),
        state: text(3)?,
        previous_revision: row.get(4)?,
        previous_until: row.get(5)?,
        pending_at: row.get(6)?,
        pending_actor: text(7)?,
        verdict,
        reason,
        consumers: row.get(8)?,
        behind,
    })
}
