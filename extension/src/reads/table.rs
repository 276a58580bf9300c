//! Writing the ledger to its table, and reading both.
//!
//! A transaction that writes an entry leaves its own id in memory. So the ledger needs no callback at the end of the
//! transaction: whoever looks next asks Postgres how that transaction ended. What was rolled back is written again,
//! by whichever way: an error, a savepoint, a prepared transaction.

use super::memory;
use crate::maintenance;
use crate::pg::error::{Raised, log};
use crate::pg::heap_insert::is_plain;
use crate::pg::index_scan::{self, Row};
use crate::pg::lock::{Lock, Mode};
use crate::pg::owner::as_table_owner;
use crate::pg::prepared::{argument, execute, statement};
use crate::pg::text::Text;
use crate::pg::timestamp::Moment;
use crate::pg::{relation, session};
use integration_credentials_core::read_ledger::{ENTRIES, Entry, Fate, PARTITIONS};
use pgrx::{direct_function_call, pg_sys};
use std::collections::BTreeMap;
use std::ffi::CStr;

const TABLE: &CStr = c"credential_reads";

/// How many entries a statement writes at most, and a round of the worker as a rule: in 10 ms. The copies fit 300 KB.
const BATCH: usize = 1000;
/// From so many entries on that wait, three quarters of the ledger, a round writes all.
const CROWDED: usize = PARTITIONS * ENTRIES / 4 * 3;

// The last read counts, not the highest revision: a role that reads an older one again has that one. The worker of a
// server and a call of `rotation_status` take turns, but a row may be newer after the clock was set back.
statement!(volatile WRITE(TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID) "
    INSERT INTO integration_credentials.credential_reads AS r
        (org_slug, integration_key, role_name, revision, last_read_at, reads)
    SELECT u.org_slug, u.integration_key, u.role_name, u.revision, u.last_read_at, u.reads
    FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),
                    pg_catalog.unnest($5), pg_catalog.unnest($6))
        AS u (org_slug, integration_key, role_name, revision, last_read_at, reads)
    ON CONFLICT (org_slug, integration_key, role_name) DO UPDATE
    SET revision = CASE WHEN excluded.last_read_at >= r.last_read_at THEN excluded.revision ELSE r.revision END,
        last_read_at = GREATEST(r.last_read_at, excluded.last_read_at),
        reads = r.reads + excluded.reads");

/// The last read of a credential by a role.
pub struct Read {
    /// The integration key.
    pub key: String,
    /// The name of the role.
    pub role: String,
    /// The revision that it read last.
    pub revision: i64,
    /// When.
    pub at: Moment,
    /// How many times it has read the credential.
    pub reads: i64,
}

/// The job of the maintenance worker.
pub fn job() -> bool {
    if relation::oid(TABLE) == pg_sys::InvalidOid {
        // The SQL of an earlier release.
        memory::forget(session::database());
        return false;
    }
    if let Some(reads) = memory::untold(session::database().to_u32()) {
        log(format!(
            "integration_credentials: the read ledger had no room for {reads} reads of credentials in database {:?}",
            session::database_name().to_string_lossy()
        ));
    }
    match write() {
        Written::Nothing => false,
        Written::Elsewhere => true,
        Written::Some { waiting } => {
            if waiting >= CROWDED {
                flush();
            }
            true
        }
        Written::Refused => Raised::internal(
            "the table credential_reads has a trigger, a rule, a policy or a constraint that the extension did not make",
        )
        .throw(),
    }
}

/// Writes in this transaction what is not written yet of this database, if the table is there and as it was made. What
/// this leaves out, [`of_org`] has from memory.
pub fn flush() {
    if relation::oid(TABLE) != pg_sys::InvalidOid {
        while matches!(write(), Written::Some { .. }) {}
    }
}

#[derive(PartialEq, Eq)]
enum Written {
    Nothing,
    /// A batch, of so many entries that waited.
    Some {
        waiting: usize,
    },
    /// Another transaction is writing, and has not ended yet.
    Elsewhere,
    Refused,
}

fn write() -> Written {
    // One transaction at a time, to its end: an entry has room for one.
    if !Lock::reads().try_acquire(Mode::Exclusive) {
        return Written::Elsewhere;
    }
    let database = session::database().to_u32();
    let waiting = settle(database);
    if waiting == 0 {
        return Written::Nothing;
    }
    // SAFETY: in a transaction that may write. Postgres closes the table after an error.
    unsafe {
        let table = relation::open(TABLE, pg_sys::RowExclusiveLock);
        let written = if is_plain(&*table) {
            let taken = take(database);
            if taken.is_empty() {
                Written::Nothing
            } else {
                as_table_owner(table, || insert(&taken));
                Written::Some { waiting }
            }
        } else {
            Written::Refused
        };
        relation::close(table);
        if matches!(written, Written::Some { .. }) {
            // This transaction may be rolled back, and not be the worker's.
            maintenance::request();
        }
        written
    }
}

/// Settles what earlier transactions wrote. Returns how many entries wait to be written.
fn settle(database: u32) -> usize {
    let mut writers = Vec::new();
    memory::each(|partition| {
        for writer in partition.writers(database) {
            // Few, for one transaction at a time writes.
            if !writers.contains(&writer) {
                writers.push(writer);
            }
        }
    });
    let fates: Vec<_> = writers.into_iter().map(|writer| (writer, fate(writer))).collect();
    let fate =
        |writer| fates.iter().find(|(known, _)| *known == writer).map_or(Fate::Open, |(_, fate)| *fate);
    let mut waiting = 0;
    let mut count = |_: &Entry, _| {
        waiting += 1;
        false
    };
    memory::each(|partition| partition.take(database, 0, fate, &mut count));
    waiting
}

/// Takes entries for this transaction, or subtransaction, to write.
fn take(database: u32) -> Vec<(Entry, i64)> {
    let mut taken: Vec<(Entry, i64)> = Vec::new();
    if taken.try_reserve_exact(BATCH).is_err() {
        Raised::out_of_memory().throw()
    }
    // SAFETY: in a transaction that may write.
    let writer = unsafe { pg_sys::GetCurrentFullTransactionId() }.value;
    memory::each_in_turn(|partition| {
        let mut is_full = false;
        let write = |entry: &Entry, reads| {
            is_full = taken.len() == BATCH;
            if !is_full {
                taken.push((*entry, reads));
            }
            !is_full
        };
        partition.take(database, writer, |_| Fate::Open, write);
        is_full
    });
    taken
}

fn insert(taken: &[(Entry, i64)]) {
    let texts = |text: fn(&Entry) -> String| taken.iter().map(|(entry, _)| text(entry)).collect::<Vec<_>>();
    let numbers = |number: fn(&(Entry, i64)) -> i64| taken.iter().map(number).collect::<Vec<_>>();
    execute(
        &WRITE,
        &[
            argument(texts(|entry| entry.subject().org.to_owned())),
            argument(texts(|entry| entry.subject().key.to_owned())),
            argument(texts(|entry| role_name(entry.subject().role))),
            argument(numbers(|(entry, _)| entry.revision)),
            argument(taken.iter().map(|(entry, _)| Moment::from(entry.at)).collect::<Vec<_>>()),
            argument(numbers(|(_, reads)| *reads)),
        ],
    );
}

/// How a transaction that wrote entries ended.
fn fate(writer: u64) -> Fate {
    if is_current(writer) {
        return Fate::Open;
    }
    // SAFETY: the function takes an xid8, and answers a text: NULL for a transaction of long ago.
    let status =
        unsafe { direct_function_call::<Text>(pg_sys::pg_xact_status, &[Some(pg_sys::Datum::from(writer))]) };
    match status.as_ref().map(|Text(status)| status.as_str()) {
        Some("committed") => Fate::Committed,
        Some("in progress") => Fate::Open,
        // Of long ago, a read may be counted twice, but is not lost.
        _ => Fate::Aborted,
    }
}

fn is_current(writer: u64) -> bool {
    // SAFETY: in a transaction.
    unsafe { pg_sys::TransactionIdIsCurrentTransactionId(xid(writer)) }
}

/// The transaction id, without its epoch.
fn xid(writer: u64) -> pg_sys::TransactionId {
    pg_sys::TransactionId::from(u32::try_from(writer & u64::from(u32::MAX)).unwrap_or_default())
}

/// What is known of the reads of an org, or of one of its keys: by key, then by role.
pub fn of_org(org: &str, key: Option<&str>) -> Vec<Read> {
    let is_asked = |its: &str| key.is_none_or(|key| key == its);
    if relation::oid(TABLE) == pg_sys::InvalidOid {
        return with_memory(Vec::new(), org, is_asked, |_| false);
    }
    let read = |row: &Row| {
        let text = |column| row.get(column).map(|Text(text)| text).unwrap_or_default();
        let number = |column| row.get::<i64>(column).unwrap_or_default();
        Read {
            key: text(c"integration_key"),
            role: text(c"role_name"),
            revision: number(c"revision"),
            at: row.get(c"last_read_at").unwrap_or(Moment::from(0)),
            reads: number(c"reads"),
        }
    };
    index_scan::latest_of(TABLE, [(c"org_slug", org)], read, |rows, snapshot| {
        with_memory(rows, org, is_asked, |writer| is_shown(writer, snapshot))
    })
}

/// The rows of the table, and what memory has beyond them.
fn with_memory(
    rows: Vec<Read>,
    org: &str,
    is_asked: impl Fn(&str) -> bool,
    is_shown: impl Fn(u64) -> bool,
) -> Vec<Read> {
    let rows = rows.into_iter().filter(|read| is_asked(&read.key));
    let mut reads: BTreeMap<_, _> = rows.map(|read| ((read.key.clone(), read.role.clone()), read)).collect();
    let database = session::database().to_u32();
    let mut entries = Vec::new();
    memory::each(|partition| {
        let asked = partition.entries(database).filter(|entry| {
            let subject = entry.subject();
            subject.org == org && is_asked(subject.key)
        });
        entries.extend(asked.copied());
    });
    for entry in entries {
        let (key, role) = (entry.subject().key.to_owned(), role_name(entry.subject().role));
        let missing = entry.missing(entry.writer().is_some_and(&is_shown));
        let at = Moment::from(entry.at);
        let read = reads.entry((key.clone(), role.clone()));
        let read = read.or_insert(Read { key, role, revision: entry.revision, at, reads: 0 });
        if at >= read.at {
            (read.revision, read.at) = (entry.revision, at);
        }
        read.reads += missing;
    }
    // An entry that is written, and whose row was deleted since, says nothing new.
    reads.retain(|_, read| read.reads > 0);
    reads.into_values().collect()
}

/// Whether a snapshot shows what a transaction wrote.
fn is_shown(writer: u64, snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: a valid snapshot, in a transaction.
    is_current(writer)
        || (!unsafe { pg_sys::XidInMVCCSnapshot(xid(writer), snapshot) } && fate(writer) == Fate::Committed)
}

/// The name of a role as of now; that of a dropped role as `pg_get_userbyid` shows it.
fn role_name(oid: u32) -> String {
    // SAFETY: in a transaction. NULL for a role that was dropped, and otherwise a C string, which is copied.
    unsafe {
        let name = pg_sys::GetUserNameFromId(pg_sys::Oid::from(oid), true);
        if name.is_null() {
            format!("unknown (OID={oid})")
        } else {
            CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }
}
