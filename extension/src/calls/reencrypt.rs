//! `reencrypt_batch(batch, is_first)`: one transaction of the procedure `reencrypt`, which brings every
//! ciphertext to the key that writes.
//!
//! A run goes over each table in passes, and over a pass in windows of pages. A transaction reads and
//! reencrypts some rows of a window while no row is locked, then locks those that no other session has locked,
//! and updates those that are still as they were read. So a run overwrites no other change, waits for nobody
//! in a pass, and needs no state to resume: what has another key is left to do. After a pass that left rows
//! behind, the run waits for one of them, holding no other lock, and begins the next pass.

use crate::audit;
use crate::keyring;
use crate::memory;
use crate::pg::call::{self, Answer, Call};
use crate::pg::error;
use crate::pg::latch;
use crate::pg::prepared::{Statement, argument, execute, run, statement};
use crate::pg::relation;
use crate::pg::text::{Raw, lossy};
use crate::pg::tid::Tid;
use crate::progress::{self, Progress};
use crate::settings;
use crate::user_functions::routine::require_superuser;
use integration_credentials_core::envelope::{self, EnvelopeError, Place, Purpose};
use integration_credentials_core::error::{ErrorCode, Refusal};
use integration_credentials_core::keyring::Keyring;
use pgrx::datum::DatumWithOid;
use pgrx::{check_for_interrupts, pg_sys};
use serde::Serialize;
use serde_json::json;
use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::CStr;
use std::mem::ManuallyDrop;
use std::thread::LocalKey;
use std::time::{Duration, Instant};

use super::caller::Role;

/// The most rows of a transaction.
const MAX_BATCH: i32 = 100_000;
/// The most bytes of ciphertext in a transaction, except for a single longer row.
const MAX_BYTES: i64 = 8 << 20;
/// In how many transactions a window is reencrypted. With a third of a page in each, and the room that
/// `fillfactor` leaves, the new row versions fit the page (HOT), and the next transaction prunes the old ones.
const VISITS: usize = 3;
/// While another session writes, a run pauses for so many times as long as its last transaction took, so that it
/// takes a small part of the machine. Alone, it does not pause.
const PAUSE: u32 = 8;
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How many ciphertexts that cannot be decrypted the result names. `check_all_credentials()` names all.
const MAX_NAMED: usize = 100;

struct Table {
    name: &'static CStr,
    purpose: Purpose,
    /// What each column of ciphertext holds.
    columns: &'static [&'static str],
    count: &'static LocalKey<Statement>,
    due: &'static LocalKey<Statement>,
    read: &'static LocalKey<Statement>,
    lock: &'static LocalKey<Statement>,
    wait: &'static LocalKey<Statement>,
    update: &'static LocalKey<Statement>,
}

/// The statements for a table: how many rows it has, and how many are due; the due rows of a window; rows with
/// their ciphertexts; locking rows; waiting for a row; the update, by `ctid`, of rows that are as they were
/// read. $1 is the head of every envelope of the key that writes, and $2 its length.
macro_rules! table {
    ($table:ident: $name:literal, $c_name:literal, $purpose:expr, {$($column:literal: $which:literal),+}, $update:ident) => {
        static $table: Table = {
            statement!(stable COUNT(BYTEAOID, INT4OID) "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE false",
                $(" OR pg_catalog.substr(t.", $column, ", 1, $2) <> $1"),+, ") FROM integration_credentials.", $name, " AS t");
            statement!(stable DUE(BYTEAOID, INT4OID, TIDOID, TIDOID) "SELECT t.ctid, (0",
                $(" + coalesce(pg_catalog.octet_length(t.", $column, "), 0)"),+, ")::pg_catalog.int8
                FROM integration_credentials.", $name, " AS t WHERE t.ctid >= $3 AND t.ctid < $4 AND (false",
                $(" OR pg_catalog.substr(t.", $column, ", 1, $2) <> $1"),+, ")");
            statement!(stable READ(TIDARRAYOID) "SELECT t.ctid, t.org_slug, t.integration_key",
                $(", t.", $column),+, " FROM integration_credentials.", $name, " AS t WHERE t.ctid = ANY ($1)");
            statement!(volatile LOCK(TIDARRAYOID) "SELECT t.ctid FROM integration_credentials.", $name,
                " AS t WHERE t.ctid = ANY ($1) FOR NO KEY UPDATE SKIP LOCKED");
            statement!(volatile WAIT(TIDOID) "SELECT t.ctid FROM integration_credentials.", $name,
                " AS t WHERE t.ctid = $1 FOR NO KEY UPDATE");
            Table {
                name: $c_name, purpose: $purpose, columns: &[$($which),+],
                count: &COUNT, due: &DUE, read: &READ, lock: &LOCK, wait: &WAIT, update: &$update,
            }
        };
    };
}

statement!(volatile UPDATE_CREDENTIALS(TIDARRAYOID, BYTEAARRAYOID, BYTEAARRAYOID, BYTEAARRAYOID, BYTEAARRAYOID,
        BYTEAARRAYOID, BYTEAARRAYOID) "
    UPDATE integration_credentials.configured_integrations AS t
    SET ciphertext = u.new_current, previous_ciphertext = u.new_previous, pending_ciphertext = u.new_pending
    FROM ROWS FROM (unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6), unnest($7))
        AS u (tid, old_current, old_previous, old_pending, new_current, new_previous, new_pending)
    WHERE t.ctid = u.tid
        AND t.ciphertext IS NOT DISTINCT FROM u.old_current
        AND t.previous_ciphertext IS NOT DISTINCT FROM u.old_previous
        AND t.pending_ciphertext IS NOT DISTINCT FROM u.old_pending
    RETURNING u.tid");
table!(CREDENTIALS: "configured_integrations", c"configured_integrations", Purpose::Credential,
    {"ciphertext": "current", "previous_ciphertext": "previous", "pending_ciphertext": "pending"}, UPDATE_CREDENTIALS);

statement!(volatile UPDATE_AGGREGATOR(TIDARRAYOID, BYTEAARRAYOID, BYTEAARRAYOID) "
    UPDATE integration_credentials.aggregator_credentials AS t SET ciphertext = u.new
    FROM ROWS FROM (unnest($1), unnest($2), unnest($3)) AS u (tid, old, new)
    WHERE t.ctid = u.tid AND t.ciphertext = u.old
    RETURNING u.tid");
table!(AGGREGATOR: "aggregator_credentials", c"aggregator_credentials", Purpose::Aggregator,
    {"ciphertext": "aggregator"}, UPDATE_AGGREGATOR);

static TABLES: [&Table; 2] = [&CREDENTIALS, &AGGREGATOR];

/// A ciphertext that cannot be decrypted.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Unreadable {
    org: String,
    key: String,
    which: &'static str,
    key_id: Option<String>,
}

/// The ciphertexts that a pass, or a run, cannot decrypt.
#[derive(Default)]
struct Findings {
    unreadable: i64,
    named: Vec<Unreadable>,
}

impl Findings {
    fn add(&mut self, unreadable: i64, found: Vec<Unreadable>) {
        self.unreadable += unreadable;
        let room = MAX_NAMED.saturating_sub(self.named.len());
        self.named.extend(found.into_iter().take(room));
    }
}

/// Some pages of a table.
struct Window {
    pages: std::ops::Range<u32>,
    visits: usize,
    /// Rows that were looked at and stay as they are in this pass.
    passed_over: HashSet<Tid>,
}

/// A run, from its first transaction to its last.
struct Run {
    org: String,
    key_id: String,
    /// The bytes that every envelope of the key begins with.
    head: Vec<u8>,
    batch: usize,
    progress: Progress,
    /// How long the last transaction took.
    took: Duration,
    /// For each table, how many pages have as many rows as the visits of a window reencrypt.
    window_pages: [u32; TABLES.len()],
    table: usize,
    next_page: u32,
    window: Option<Window>,
    /// A row that this pass has left behind.
    left_behind: Option<Tid>,
    pass_findings: Findings,
    findings: Findings,
}

thread_local! {
    // Never dropped: Postgres ends a transaction after the destructors of an exit() have run.
    static RUN: RefCell<ManuallyDrop<Option<Run>>> = const { RefCell::new(ManuallyDrop::new(None)) };
}

/// `reencrypt_batch(batch, is_first)`: NULL while there is more to do, then the result of the run.
pub fn call(call: &Call) -> Answer {
    require_superuser("reencrypt the credentials of all orgs")?;
    let batch = call.integer(0).filter(|batch| (1..=MAX_BATCH).contains(batch)).ok_or_else(|| {
        Refusal::new(
            ErrorCode::InvalidRequest,
            format!("batch is not 1 to {MAX_BATCH}"),
            "Give the number of rows of a transaction, or leave it out: CALL integration_credentials.reencrypt().",
        )
    })?;
    let begun = RUN.with_borrow_mut(|run| run.take());
    let mut run = match (begun, call.boolean(1)) {
        (_, Some(true)) => Run::begin(settings::current_org(call)?, usize::try_from(batch).unwrap_or(1))?,
        (Some(run), _) => run,
        (None, _) => {
            return Err(Refusal::new(
                ErrorCode::InvalidRequest,
                "no run has begun in this session",
                "CALL integration_credentials.reencrypt() begins and ends a run.",
            ));
        }
    };
    run.let_others_go_first();
    let started = Instant::now();
    let keyring = keyring::keyring()?;
    if keyring.primary_id() != run.key_id {
        return Err(Refusal::new(
            ErrorCode::EncryptionUnavailable,
            format!("the keyring writes with another key than {} since the run began", run.key_id),
            "What was committed stays. Call reencrypt() again, for the new key.",
        ));
    }
    if run.go_on(&keyring)? {
        return Ok(run.end(call));
    }
    run.took = started.elapsed();
    run.progress.report();
    RUN.with_borrow_mut(|kept| **kept = Some(run));
    Ok(None)
}

/// Ends the run of a transaction that failed. What the run has committed stays.
pub fn abandon() {
    RUN.with_borrow_mut(|run| drop(run.take()));
    progress::end();
}

impl Run {
    fn begin(org: String, batch: usize) -> Result<Self, Refusal> {
        let keyring = keyring::read_anew()?;
        let head = envelope::head(&keyring).map_err(|error| keyring::refusal(&error))?;
        let mut progress = Progress::begin(keyring.primary_id());
        let window_pages = TABLES.map(|table| {
            let (rows, due) = run(table.count, &head_arguments(&head), |rows| {
                let row = rows.first();
                Ok((row.get::<i64>(1)?.unwrap_or_default(), row.get::<i64>(2)?.unwrap_or_default()))
            });
            progress.total += due;
            let wanted = u64::try_from(batch * VISITS).unwrap_or(u64::MAX);
            let pages = u64::from(relation::pages(table.name));
            let pages = wanted * pages / u64::try_from(rows).unwrap_or(1).max(1);
            u32::try_from(pages).unwrap_or(u32::MAX).max(1)
        });
        Ok(Self {
            org,
            key_id: keyring.primary_id().to_owned(),
            head,
            batch,
            progress,
            took: Duration::ZERO,
            window_pages,
            table: 0,
            next_page: 0,
            window: None,
            left_behind: None,
            pass_findings: Findings::default(),
            findings: Findings::default(),
        })
    }

    /// Pauses while other sessions write. No row is locked here.
    fn let_others_go_first(&self) {
        let pause = (self.took * PAUSE).min(LONGEST_PAUSE);
        // SAFETY: counts the other sessions whose transactions have written, and wait for no lock.
        if pause.is_zero() || !unsafe { pg_sys::MinimumActiveBackends(1) } {
            return;
        }
        let end = Instant::now() + pause;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            latch::wait(pg_sys::WL_LATCH_SET, Some(left));
            check_for_interrupts!();
        }
    }

    /// Reencrypts the next rows; `true` if there are none.
    fn go_on(&mut self, keyring: &Keyring) -> Result<bool, Refusal> {
        while let Some(&table) = TABLES.get(self.table) {
            // Before any row is locked, so that no lock of the table is upgraded.
            relation::lock(table.name, pg_sys::RowExclusiveLock);
            let Some(mut window) = self.window.take().or_else(|| self.next_window(table)) else {
                let found = std::mem::take(&mut self.pass_findings);
                self.next_page = 0;
                if let Some(tid) = self.left_behind.take() {
                    execute(table.wait, &[argument(tid)]);
                    return Ok(false);
                }
                self.findings.add(found.unreadable, found.named);
                self.table += 1;
                continue;
            };
            let chosen = window.choose(table, &self.head, self.batch);
            if chosen.is_empty() {
                continue;
            }
            let Read { changes, unreadable } = read(table, keyring, &chosen)?;
            let changed = change(table, &changes);
            let left = changes.iter().map(|change| change.tid).find(|tid| !changed.contains(tid));
            self.left_behind = self.left_behind.or(left);
            window.passed_over.extend(chosen.into_iter().filter(|tid| !changed.contains(tid)));
            self.window = Some(window);
            self.progress.done += i64::try_from(changed.len()).unwrap_or(i64::MAX);
            self.pass_findings.add(i64::try_from(unreadable.len()).unwrap_or(i64::MAX), unreadable);
            self.progress.unreadable = self.findings.unreadable + self.pass_findings.unreadable;
            if !changes.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The next window of this pass; `None` at the end of the table.
    fn next_window(&mut self, table: &Table) -> Option<Window> {
        let start = self.next_page;
        let is_within = start < relation::pages(table.name);
        self.next_page = start.saturating_add(self.window_pages[self.table]);
        is_within.then(|| Window {
            pages: start..self.next_page,
            visits: VISITS,
            passed_over: HashSet::new(),
        })
    }

    /// Writes the audit row, and returns the result.
    fn end(self, call: &Call) -> Option<pg_sys::Datum> {
        progress::end();
        let Self {
            org,
            key_id,
            progress: Progress { done, .. },
            findings: Findings { unreadable, named },
            ..
        } = self;
        let metadata = json!({"rows": done, "unreadable": unreadable});
        let actor = Role::session().name();
        audit::write_about(call, &org, &actor, "reencrypt_credentials", ("keyring", &key_id), &metadata);
        if unreadable > 0 {
            error::notice(
                &format!("{unreadable} ciphertext(s) cannot be decrypted, and stay as they are"),
                "SELECT * FROM integration_credentials.check_all_credentials() names them, and why.",
            );
        }
        call::json(&json!({"keyId": key_id, "rows": done, "unreadable": unreadable, "named": named}))
    }
}

impl Window {
    /// Rows for one transaction. Those of the first visits lie spread over the pages.
    fn choose(&mut self, table: &Table, head: &[u8], batch: usize) -> Vec<Tid> {
        let [start, end] = [self.pages.start, self.pages.end].map(Tid::start_of);
        let [head, length] = head_arguments(head);
        let mut due = run(table.due, &[head, length, argument(start), argument(end)], |rows| {
            let mut due = Vec::with_capacity(rows.len());
            for row in rows {
                due.extend(row.get::<Tid>(1)?.zip(row.get::<i64>(2)?));
            }
            Ok(due)
        });
        due.retain(|(tid, _)| !self.passed_over.contains(tid));
        let step = self.visits.max(1);
        self.visits = self.visits.saturating_sub(1);
        let mut room = MAX_BYTES;
        let spread = due.into_iter().step_by(step).take(batch).enumerate();
        let fitting = spread.take_while(|&(index, (_, bytes))| {
            let is_fitting = index == 0 || bytes <= room;
            room -= bytes;
            is_fitting
        });
        let (chosen, bytes): (Vec<_>, Vec<_>) = fitting.map(|(_, row)| row).unzip();
        if !chosen.is_empty() {
            // As read, as plaintext, as encrypted, and each of them once more as an argument.
            memory::require(6 * usize::try_from(bytes.iter().sum::<i64>()).unwrap_or(usize::MAX / 6));
        }
        chosen
    }
}

fn head_arguments(head: &[u8]) -> [DatumWithOid<'_>; 2] {
    [argument(head), argument(i32::try_from(head.len()).unwrap_or(i32::MAX))]
}

/// A row to update, with the ciphertexts of its columns.
struct Change {
    tid: Tid,
    old: Vec<Option<Vec<u8>>>,
    new: Vec<Option<Vec<u8>>>,
}

struct Read {
    changes: Vec<Change>,
    unreadable: Vec<Unreadable>,
}

/// Reads rows and reencrypts their ciphertexts. No row is locked yet.
fn read(table: &Table, keyring: &Keyring, rows: &[Tid]) -> Result<Read, Refusal> {
    run(table.read, &[argument(rows)], |rows| {
        let mut found = Read { changes: Vec::with_capacity(rows.len()), unreadable: Vec::new() };
        for row in rows {
            let text =
                |column| row.get(column).map(|text| text.map(|Raw(bytes)| lossy(&bytes)).unwrap_or_default());
            let (org, key): (String, String) = (text(2)?, text(3)?);
            let place = Place { purpose: table.purpose, org: &org, key: &key };
            let Some(tid) = row.get(1)? else { continue };
            let mut change = Change { tid, old: Vec::new(), new: Vec::new() };
            let mut is_changed = false;
            for (index, &which) in table.columns.iter().enumerate() {
                let old = row.get::<&[u8]>(4 + index)?;
                let new = match old.map(|old| envelope::reencrypt(keyring, place, old)) {
                    Some(Ok(Some(new))) => {
                        is_changed = true;
                        Some(new)
                    }
                    Some(Err(EnvelopeError::Encrypt)) => {
                        return Ok(Err(keyring::refusal(&EnvelopeError::Encrypt)));
                    }
                    Some(Err(_)) => {
                        let key_id = old.and_then(envelope::key_id).map(str::to_owned);
                        let (org, key) = (org.clone(), key.clone());
                        found.unreadable.push(Unreadable { org, key, which, key_id });
                        old.map(<[u8]>::to_vec)
                    }
                    Some(Ok(None)) | None => old.map(<[u8]>::to_vec),
                };
                change.old.push(old.map(<[u8]>::to_vec));
                change.new.push(new);
            }
            if is_changed {
                found.changes.push(change);
            }
        }
        Ok(Ok(found))
    })
}

/// Updates the rows that no other session has locked or changed. Returns them by their old places.
fn change(table: &Table, changes: &[Change]) -> HashSet<Tid> {
    let places = |statement, arguments: &[DatumWithOid<'_>]| {
        run(statement, arguments, |rows| {
            let mut places = HashSet::with_capacity(rows.len());
            for row in rows {
                places.extend(row.get::<Tid>(1)?);
            }
            Ok(places)
        })
    };
    if changes.is_empty() {
        return HashSet::new();
    }
    let tids: Vec<_> = changes.iter().map(|change| change.tid).collect();
    let locked: HashSet<Tid> = places(table.lock, &[argument(tids)]);
    let changes: Vec<_> = changes.iter().filter(|change| locked.contains(&change.tid)).collect();
    let tids: Vec<_> = changes.iter().map(|change| change.tid).collect();
    let mut arguments = vec![argument(tids)];
    for ciphertexts in [(|change| &change.old) as fn(&Change) -> &Vec<Option<Vec<u8>>>, |change| &change.new]
    {
        for column in 0..table.columns.len() {
            let values = changes.iter().map(|change| ciphertexts(change)[column].as_deref());
            arguments.push(argument(values.collect::<Vec<_>>()));
        }
    }
    places(table.update, &arguments)
}
