//! The job that signs blocks of rows whose transactions are over.
//!
//! No caller waits for it, and no row is missed or sealed twice. The newest block has the ids that are unsettled: a
//! row may still come for them. Ids are handed out in the order of a sequence, but transactions end in any order
//! and may roll back. A round visits the rows that exist for unsettled ids, uncommitted ones included:
//!
//! - A row of a transaction that has committed is sealed, and its id is settled.
//! - A row of a transaction that is running or prepared waits, and its id stays unsettled.
//! - An id that was drawn before the round, and has no row, is settled: the row was rolled back, or was never
//!   written. A writer holds a lock from before it draws an id until its row exists, and the round has seen that
//!   lock free since.
//!
//! So unsettled are only the ids of rows that exist and of rows to come. They do not pile up behind a long
//! transaction, and nothing has to be known of the time before a crash.
//!
//! Two workers cannot fork the chain: they take a lock, and the number of a block is a primary key. On a
//! subscriber of the log the publisher's blocks arrive with the rows, so nothing is sealed there.
//!
//! A restore brings rows and blocks in any order, and in several transactions. So a chain begins, and ids without
//! rows are settled, only in a database that has drawn an id itself: `audit_sessions`, which no dump has, says so.
//! And a chain is continued only from the block that has the unsettled ids, which is the last one of its dump.

use crate::keyring;
use crate::memory;
use crate::pg::error::Raised;
use crate::pg::index_scan::{self, Row};
use crate::pg::jsonb::Document;
use crate::pg::lock::{Lock, Mode};
use crate::pg::owner::as_table_owner;
use crate::pg::prepared::{argument, execute, first, statement};
use crate::pg::relation;
use crate::pg::text::{Raw, Text};
use crate::pg::timestamp::Moment;
use integration_credentials_core::audit::block::{CHAIN_BYTES, Header, MAX_ROWS, Signed};
use integration_credentials_core::audit::unsettled::{Fate, Ids, Remains};
use integration_credentials_core::audit::{self, Authenticity, Hash, leaf};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use std::ffi::CStr;
use std::ops::ControlFlow;
use std::time::Duration;

/// The table of blocks.
pub const BLOCKS: &CStr = c"audit_blocks";
/// The index by which rows are found, whatever their orgs.
const BY_ID: &CStr = c"webapp_org_admin_audit_log_id";
const TEXTS: [&CStr; audit::FIELDS - 3] =
    [c"org_slug", c"actor", c"session_role", c"acting_role", c"action", c"target_type", c"target_id"];
/// The most blocks of a pass. A round has two passes at most, in one transaction.
const MAX_BLOCKS: usize = 50;
/// The most ranges of unsettled ids. Rows behind them wait until some of the transactions end.
const MAX_RANGES: usize = 4096;
/// The longest row. One of the extension's has some kilobytes.
const MAX_ROW_BYTES: usize = 1 << 20;
/// The most bytes of the orgs of the rows of a pass: an owner of the table may write longer ones than the extension.
const MAX_ORG_BYTES: usize = 16 << 20;
/// The most that a round allocates, in bytes, with a margin: the rows of two passes, their orgs, a row, and the blocks.
const ROUND_BYTES: usize = 48 << 20;
/// How often a round looks whether no row is on its way, and the pause before it looks again.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_micros(200);

statement!(volatile IS_SUBSCRIBED(OIDOID) "
    SELECT FROM pg_catalog.pg_subscription_rel WHERE srrelid = $1 LIMIT 1");
statement!(volatile NEWEST() "
    SELECT header, signature, unsettled FROM integration_credentials.audit_blocks ORDER BY number DESC LIMIT 1");
statement!(volatile LAST_ID() "
    SELECT CASE WHEN s.is_called THEN i.last_value - (NOT i.is_called)::pg_catalog.int4 END
    FROM integration_credentials.audit_sessions AS s
    CROSS JOIN integration_credentials.webapp_org_admin_audit_log_id_seq AS i");
statement!(volatile APPEND(INT8OID, TEXTOID, BYTEAOID, BYTEAOID, INT8OID, INT8OID, INT8ARRAYOID, BYTEAOID, INT8ARRAYOID) "
    INSERT INTO integration_credentials.audit_blocks
        (number, header, signature, endorsement, first_id, last_id, ids, leaves, unsettled)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)");
statement!(volatile SET_UNSETTLED(INT8OID, INT8ARRAYOID) "
    UPDATE integration_credentials.audit_blocks SET unsettled = $2 WHERE number = $1");

/// The job. An older version of the extension has no blocks.
pub fn run_job() -> bool {
    if relation::oid(BLOCKS) == pg_sys::InvalidOid {
        return false;
    }
    // SAFETY: in a transaction. Postgres closes the table after an error.
    unsafe {
        let table = relation::open(BLOCKS, pg_sys::RowExclusiveLock);
        let has_more = as_table_owner(table, round);
        relation::close(table);
        has_more
    }
}

/// Seals what can be sealed. Returns whether there may be more soon. The commit of a transaction that is running
/// asks for a worker again.
fn round() -> bool {
    memory::require(ROUND_BYTES);
    let log = relation::oid(super::AUDIT_LOG.table);
    if first(&IS_SUBSCRIBED, &[argument(log)], |_| Ok(())).is_some() {
        return false;
    }
    if !Lock::audit_chain().try_acquire(Mode::Exclusive) {
        return true;
    }
    // The chain is not complete: a restore is going on, or its last blocks were removed.
    let Some(mut chain) = Chain::newest() else { return false };
    // Before the lock of the writers is looked at, and before any row is.
    let last_id = first(&LAST_ID, &[], |row| row.get::<i64>(1)).flatten();
    let horizon = last_id.filter(|_| is_no_row_on_its_way());
    let is_own = last_id.is_some();
    let is_complete = match chain.last {
        None if !is_own => true,
        Some(Header { is_before: false, .. }) => chain.seal(false, horizon),
        // Rows without a MAC are from before, and come before all others.
        _ => chain.seal(true, horizon) && (!is_own || chain.seal(false, horizon)),
    };
    let has_appended = !chain.blocks.is_empty();
    chain.save();
    has_appended || !is_complete
}

/// Whether every id that was drawn has its row, or will have none.
fn is_no_row_on_its_way() -> bool {
    let append = Lock::audit_append(relation::oid(BLOCKS));
    (0..LOOKS).any(|look| {
        if look > 0 {
            std::thread::sleep(PAUSE);
        }
        !append.is_held(Mode::Exclusive)
    })
}

/// The newest block, and those that follow it.
struct Chain {
    /// The block that the table has.
    stored: Option<i64>,
    stored_unsettled: Ids,
    last: Option<Header>,
    last_hash: Hash,
    unsettled: Ids,
    blocks: Vec<Block>,
}

struct Block {
    header: Header,
    signed: Signed,
    ids: Vec<i64>,
    leaves: Vec<Hash>,
}

impl Chain {
    /// `None` if the newest block is not the one that was appended last.
    fn newest() -> Option<Self> {
        let found = first(&NEWEST, &[], |row| {
            let (text, signature) = (row.get(1)?, row.get::<Vec<u8>>(2)?);
            Ok((text.zip(signature), row.get::<Vec<i64>>(3)?))
        });
        let new = Self {
            stored: None,
            stored_unsettled: Ids::default(),
            last: None,
            last_hash: Hash::default(),
            unsettled: Ids::default(),
            blocks: Vec::new(),
        };
        let Some((block, unsettled)) = found else { return Some(new) };
        let unsettled = unsettled?;
        let (Text(text), signature) = block?;
        let signed = Signed { text, signature, endorsement: None };
        // A block after an altered one would vouch for it.
        let altered = |problem: &str| -> ! {
            Raised::internal(format!("the newest block of the audit log was altered: {problem}")).throw()
        };
        let header = signed.open().unwrap_or_else(|problem| altered(&problem.to_string()));
        let Some(unsettled) = Ids::parse(&unsettled) else { altered("its unsettled ids are no ranges") };
        Some(Self {
            stored: Some(number(&header)),
            stored_unsettled: unsettled.clone(),
            last: Some(header),
            last_hash: signed.hash(),
            unsettled,
            ..new
        })
    }

    /// Seals the rows that exist: those without a MAC, or those with one. Returns whether none is left that could be
    /// sealed.
    fn seal(&mut self, is_before: bool, horizon: Option<i64>) -> bool {
        let (mut rows, mut org_bytes, mut stopped) = (Vec::new(), 0, None);
        let mut remains = Remains::new(horizon);
        let ranges = self.unsettled.ranges();
        for (index, &(lowest, highest)) in ranges.iter().enumerate() {
            remains.begin(lowest);
            index_scan::visit_existing(super::AUDIT_LOG.table, BY_ID, (c"id", lowest), |row, is_over| {
                let id = row.get::<i64>(c"id").unwrap_or_default();
                if id > highest {
                    return ControlFlow::Break(());
                }
                let is_full = rows.len() == MAX_BLOCKS * MAX_ROWS || org_bytes > MAX_ORG_BYTES;
                if is_full || remains.len() >= MAX_RANGES {
                    stopped = Some(id);
                    return ControlFlow::Break(());
                }
                let (fate, leaf) = if is_over { judge(row, id, is_before) } else { (Fate::Waits, None) };
                remains.take(id, fate);
                org_bytes += leaf.as_ref().map_or(0, |leaf: &Leaf| leaf.org.len());
                rows.extend(leaf);
                ControlFlow::Continue(())
            });
            if let Some(id) = stopped {
                remains.stop(id, highest, &ranges[index + 1..]);
                break;
            }
            remains.end(highest);
        }
        self.unsettled = remains.ids();
        for rows in rows.chunks_mut(MAX_ROWS) {
            self.append(is_before, rows);
        }
        stopped.is_none()
    }

    fn append(&mut self, is_before: bool, rows: &mut [Leaf]) {
        rows.sort_unstable_by(|a, b| (&a.org, a.id).cmp(&(&b.org, b.id)));
        let (ids, leaves): (Vec<_>, Vec<_>) = rows.iter().map(|row| (row.id, row.hash)).unzip();
        let keyring = keyring::keyring().unwrap_or_else(|refusal| Raised::from(refusal).throw());
        let last = self.last.as_ref().map(|header| (header, self.last_hash));
        let times = (is_before, Moment::now().to_string());
        let header = Header::next(last, new_chain(), (&ids, &leaves), times, &keyring);
        let signed = header.sign(&keyring, self.last.as_ref());
        self.last_hash = signed.hash();
        self.last = Some(header.clone());
        self.blocks.push(Block { header, signed, ids, leaves });
    }

    /// Writes the new blocks. The last block alone has the unsettled ids.
    fn save(self) {
        if self.blocks.is_empty() && self.unsettled == self.stored_unsettled {
            return;
        }
        let (mut unsettled, mut blocks) = (Some(self.unsettled.ends()), self.blocks);
        let newest = blocks.pop();
        if let Some(stored) = self.stored {
            let remaining = if newest.is_some() { None } else { unsettled.take() };
            execute(&SET_UNSETTLED, &[argument(stored), argument(remaining)]);
        }
        for block in blocks {
            block.insert(None);
        }
        if let Some(block) = newest {
            block.insert(unsettled);
        }
    }
}

impl Block {
    fn insert(self, unsettled: Option<Vec<i64>>) {
        let Self { header, signed, ids, leaves } = self;
        let arguments = [
            argument(number(&header)),
            argument(signed.text),
            argument(signed.signature),
            argument(signed.endorsement),
            argument(header.range.0),
            argument(header.range.1),
            argument(ids),
            argument(leaves.concat()),
            argument(unsettled),
        ];
        execute(&APPEND, &arguments);
    }
}

struct Leaf {
    org: Vec<u8>,
    id: i64,
    hash: Hash,
}

/// What becomes of a row whose transaction is over, in the pass over the rows without a MAC or with one.
fn judge(row: &Row, id: i64, is_before: bool) -> (Fate, Option<Leaf>) {
    let texts = TEXTS.map(|column| row.size(column, pg_sys::TEXTOID)).iter().sum::<usize>();
    let others = row.size(c"metadata", pg_sys::JSONBOID) + row.size(c"mac", pg_sys::BYTEAOID);
    if texts + others > MAX_ROW_BYTES {
        return (Fate::Ignored, None);
    }
    let mac = row.get::<Vec<u8>>(c"mac");
    if is_before == mac.is_some() {
        return (if is_before { Fate::Waits } else { Fate::Ignored }, None);
    }
    let Some((org, digest)) = digest(row, id) else { return (Fate::Ignored, None) };
    let verdict = match &mac {
        None => Authenticity::Authentic,
        Some(mac) => keyring::judge(&digest, mac).unwrap_or_else(|refusal| Raised::from(refusal).throw()),
    };
    match verdict {
        Authenticity::Authentic => {
            let hash = leaf(&digest, mac.as_deref().unwrap_or_default());
            (Fate::Sealed, Some(Leaf { org, id, hash }))
        }
        // Not the extension's. `intcred audit verify` names it.
        Authenticity::Forged => (Fate::Ignored, None),
        Authenticity::UnknownKey => (Fate::Waits, None),
    }
}

/// The org of a row, and its digest; `None` if its metadata is longer than any that the extension writes.
fn digest(row: &Row, id: i64) -> Option<(Vec<u8>, Hash)> {
    let texts = TEXTS.map(|column| row.get(column).map_or_else(Vec::new, |Raw(bytes)| bytes));
    let metadata = row.get::<Document>(c"metadata")?.text().ok()?;
    let created_at =
        row.get::<TimestampWithTimeZone>(c"created_at").map_or(0, TimestampWithTimeZone::into_inner);
    let fields = texts.each_ref().map(Vec::as_slice);
    let digest = audit::Row { id, texts: fields, metadata: metadata.as_bytes(), created_at }.digest();
    let [org, ..] = texts;
    Some((org, digest))
}

/// A name for a chain.
fn new_chain() -> [u8; CHAIN_BYTES] {
    let mut chain = [0; CHAIN_BYTES];
    // SAFETY: fills the bytes.
    if !unsafe { pg_sys::pg_strong_random(chain.as_mut_ptr().cast(), chain.len()) } {
        Raised::internal("the operating system gave no random bytes").throw()
    }
    chain
}

fn number(header: &Header) -> i64 {
    i64::try_from(header.number).unwrap_or(i64::MAX)
}
