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
use crate::reads::{self, Read};
use crate::{metering, settings};
use integration_credentials_core::error::{ErrorCode, Refusal};
use pgrx::spi::{SpiError, SpiHeapTupleData};
use pgrx::{IntoDatum, JsonB, pg_sys};
use serde_json::{Value, json};

/// So many leases and reads are shown.
const MOST_BEHIND: usize = 100;
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
            SELECT pg_catalog.jsonb_build_object('name', l.name, 'role', l.role_name,
                'oldest', l.held -> c.integration_key -> 0, 'newest', l.held -> c.integration_key -> 1,
                'leaseUntil', l.lease_until) AS who
            FROM live AS l
            WHERE (l.held -> c.integration_key ->> 0)::pg_catalog.int8 < c.revision
                -- The integration was registered again since, and its revisions began anew.
                OR l.held ? c.integration_key AND l.reported_at < c.created_at
            ORDER BY l.name LIMIT 100) AS b),
        (SELECT e.began_at FROM integration_credentials.lease_epoch AS e), c.updated_at,
        c.xmin::pg_catalog.text::pg_catalog.int8
    FROM integration_credentials.configured_integrations AS c
    WHERE c.org_slug = $1 AND ($2 IS NULL OR c.integration_key = $2)
    ORDER BY c.integration_key");
// On a standby, which has no unlogged table.
statement!(stable STATUS_OF_STANDBY(TEXTOID, TEXTOID, TIMESTAMPTZOID) "
    SELECT c.integration_key, c.revision,
        CASE WHEN c.pending_ciphertext IS NOT NULL THEN 'staged'
             WHEN c.ciphertext IS NULL THEN 'removed'
             WHEN c.previous_until > $3 THEN 'rotating' ELSE 'steady' END,
        CASE WHEN c.previous_until > $3 THEN c.previous_revision END,
        CASE WHEN c.previous_until > $3 THEN c.previous_until END,
        c.pending_at, c.pending_actor,
        NULL::pg_catalog.int8, NULL::pg_catalog.jsonb, NULL::pg_catalog.timestamptz, c.updated_at,
        c.xmin::pg_catalog.text::pg_catalog.int8
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
    updated_at: Option<Moment>,
}

/// `rotation_status(key)`
pub fn call(call: &Call) -> Answer {
    let key = call.text(0);
    let org = settings::current_org(call)?;
    let mut rows = Rows::<11>::of(call);
    for status in read(&org, key) {
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

/// Refuses to go on while a consumer may use a value older than the current revision, which is returned.
pub fn require_converged(org: &str, key: &str) -> Result<i64, Refusal> {
    let Some(Status { revision, verdict, reason, behind, .. }) = read(org, Some(key)).into_iter().next()
    else {
        return Err(Refusal::no_previous(key));
    };
    if verdict == CONVERGED {
        return Ok(revision);
    }
    let behind = behind.as_ref().and_then(|JsonB(behind)| behind.as_array()).map(Vec::as_slice);
    let name = |consumer: &Value| consumer.get("name").or_else(|| consumer.get("role")).cloned();
    let behind = behind.unwrap_or_default();
    let names: Vec<Value> = behind.iter().filter_map(name).take(NAMED).collect();
    Err(Refusal {
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
    })
}

const CONVERGED: &str = "converged";
const WAITING: &str = "waiting";
const UNKNOWN: &str = "unknown";

fn read(org: &str, key: Option<&str>) -> Vec<Status> {
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
    let mut all = run(statement, &arguments, |rows| {
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            all.push(status(&row, now, doubt.as_deref())?);
        }
        Ok(all)
    });
    // After the rows, so that no read of the meantime is overlooked.
    let reads = reads::of_org(org, key);
    for status in &mut all {
        status.add_reads(org, &reads);
    }
    all
}

impl Status {
    /// Adds the roles that, after the change, have read an older revision last.
    fn add_reads(&mut self, org: &str, reads: &[Read]) {
        let Some(since) = self.updated_at else { return };
        let is_behind =
            |read: &&Read| read.key == self.key && read.revision < self.revision && read.at >= since;
        let behind = reads.iter().filter(is_behind).take(MOST_BEHIND).map(
            |read| json!({"role": read.role, "readRevision": read.revision, "readAt": read.at.to_string()}),
        );
        let mut behind: Vec<Value> = behind.collect();
        if !behind.is_empty() {
            let leases = self.behind.take().and_then(|JsonB(leases)| leases.as_array().cloned());
            behind.splice(..0, leases.unwrap_or_default());
            behind.truncate(MOST_BEHIND);
            self.behind = Some(JsonB(behind.into()));
        }
        self.reason = self.reason.take().or_else(|| reads::doubt(org, &self.key, since).map(str::to_owned));
        self.verdict = match (&self.reason, &self.behind) {
            (Some(_), _) => UNKNOWN,
            (None, Some(_)) => WAITING,
            (None, None) => CONVERGED,
        };
    }
}

fn status(row: &SpiHeapTupleData<'_>, now: Moment, doubt: Option<&str>) -> Result<Status, SpiError> {
    let text = |column| row.get::<Text>(column).map(|text| text.map(|Text(text)| text));
    let behind = row.get::<JsonB>(9)?;
    let complete_from = row.get::<Moment>(10)?.map(|began_at| began_at.after(settings::max_lease()));
    let changed_by = row.get::<i64>(12)?.and_then(|xmin| u32::try_from(xmin).ok()).unwrap_or_default();
    // SAFETY: asks about the transactions of this process.
    let is_uncommitted = unsafe { pg_sys::TransactionIdIsCurrentTransactionId(changed_by.into()) };
    let reason = match (doubt, complete_from) {
        (Some(doubt), _) => Some(doubt.to_owned()),
        _ if is_uncommitted => Some(
            "this transaction has changed the credential, and until it commits, others read the value before"
                .to_owned(),
        ),
        (None, None) => {
            Some("leases were lost, or never taken, and this transaction is read-only".to_owned())
        }
        (None, Some(from)) if now < from => Some(format!(
            "leases are not complete before {from}: this server was set up, or lost them in a crash"
        )),
        _ => None,
    };
    Ok(Status {
        key: text(1)?.unwrap_or_default(),
        revision: row.get(2)?.unwrap_or_default(),
        state: text(3)?,
        previous_revision: row.get(4)?,
        previous_until: row.get(5)?,
        pending_at: row.get(6)?,
        pending_actor: text(7)?,
        // Until the reads are known.
        verdict: UNKNOWN,
        reason,
        consumers: row.get(8)?,
        behind,
        updated_at: row.get(11)?,
    })
}
