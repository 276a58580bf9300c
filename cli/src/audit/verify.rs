//! Verifying the whole audit log: the chain of blocks, each row of each block, and rows that are in no block.

use super::{Head, proof::Raw};
use crate::{Client, Error, session::column};
use integration_credentials_core::audit::{
    FIELDS, Hash,
    block::{Header, Signed, hex},
    digest, leaf,
    unsettled::Ids,
};
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use tokio::time::sleep;
use tokio_postgres::{Row, types::Type};

/// Blocks that are read at once.
const BATCH: i64 = 20;
/// The most problems of one kind that are named.
const MAX_NAMED: usize = 1000;
/// How many seconds a row may take to get into a block. Where many databases have rows, each waits for its turn.
const PATIENCE: u32 = 30;

/// Like every statement of this crate, these do not depend on the `search_path`.
const BLOCKS: &str = "\
    SELECT number, header, signature, endorsement, first_id, last_id, ids, leaves \
    FROM integration_credentials.audit_blocks WHERE number OPERATOR(pg_catalog.>) $1 ORDER BY number LIMIT $2";
const UNSETTLED: &str =
    "SELECT unsettled FROM integration_credentials.audit_blocks WHERE number OPERATOR(pg_catalog.=) $1";
const ROWS: &str = "\
    SELECT id, org_slug, actor, session_role, acting_role, action, target_type, target_id, metadata, created_at, mac \
    FROM integration_credentials.webapp_org_admin_audit_log WHERE id OPERATOR(pg_catalog.=) ANY ($1)";
/// The ranges are parsed once, in a query of their own.
const OTHERS: &str = "\
    SELECT id, mac IS NULL FROM integration_credentials.webapp_org_admin_audit_log \
    WHERE NOT id OPERATOR(pg_catalog.<@) (SELECT $1::pg_catalog.text::pg_catalog.int8multirange) ORDER BY id LIMIT $2";

/// What was found to be wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Problem {
    /// A row is not as it was sealed.
    RowAltered {
        /// Its id.
        id: i64,
        /// Its block.
        block: u64,
    },
    /// A row is gone.
    RowRemoved {
        /// Its id.
        id: i64,
        /// Its block.
        block: u64,
    },
    /// A row has another id.
    RowMoved {
        /// The id that it was sealed with.
        id: i64,
        /// The id that it has.
        to: i64,
        /// Its block.
        block: u64,
    },
    /// A row is in no block.
    RowInvented {
        /// Its id.
        id: i64,
        /// Whether it has a MAC.
        has_mac: bool,
    },
    /// A block is not as it was sealed.
    BlockAltered {
        /// Its number.
        block: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The blocks after the newest one are gone.
    EndRemoved {
        /// The number of the newest one.
        block: u64,
    },
    /// There are rows, and no block at all.
    NothingSealed,
    /// Blocks are gone.
    BlocksRemoved {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// The rows of a block are gone, and no row of the audit log says that they were pruned.
    NotPruned {
        /// The number of the block.
        block: u64,
    },
    /// The head that was kept is not in the chain.
    HeadNotFound {
        /// Its number.
        block: u64,
        /// Why.
        reason: String,
    },
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RowAltered { id, block } => write!(f, "row {id} of block {block} was altered"),
            Self::RowRemoved { id, block } => write!(f, "row {id} of block {block} was removed"),
            Self::RowMoved { id, to, block } => {
                write!(f, "row {id} of block {block} was moved: its id is now {to}")
            }
            Self::RowInvented { id, has_mac: true } => write!(
                f,
                "row {id} is in no block: it was invented or altered, or the server does not seal the log"
            ),
            Self::RowInvented { id, has_mac: false } => write!(
                f,
                "row {id} is in no block and has no MAC: it was invented, or written while the server had no keyring"
            ),
            Self::BlockAltered { block, reason } => write!(f, "block {block} was altered: {reason}"),
            Self::BlocksRemoved { from, to } if from == to => write!(f, "block {from} was removed"),
            Self::BlocksRemoved { from, to } => write!(f, "the blocks {from} to {to} were removed"),
            Self::EndRemoved { block } => write!(
                f,
                "the blocks after block {block} were removed, or a restore was not completed: nothing more is sealed"
            ),
            Self::NothingSealed => f.write_str(
                "there are rows and no block: the log is sealed from the next change on, if the server has a keyring",
            ),
            Self::NotPruned { block } => {
                write!(
                    f,
                    "the rows of block {block} were removed, and no audit row says that they were pruned"
                )
            }
            Self::HeadNotFound { block, reason } => {
                write!(f, "the head of block {block} is not in the chain: {reason}")
            }
        }
    }
}

/// What was verified.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// The number of blocks.
    pub blocks: u64,
    /// The number of rows in blocks.
    pub rows: u64,
    /// Those from before the extension wrote MACs: what they were before they were sealed is not proved.
    pub rows_from_before: u64,
    /// The number of rows that were pruned.
    pub rows_pruned: u64,
    /// The number of the newest block.
    pub newest: Option<u64>,
    /// The public key of the newest block.
    pub public_key: Option<String>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl Client {
    /// Verifies the audit log, for a role that may read its tables. With a head that was kept, also that the
    /// log goes on from there. Waits for 30 seconds at most for rows that may still get into a block.
    pub async fn verify_audit_log(&self, head: Option<&Head>) -> Result<Verification, Error> {
        let mut walk = Walk { head, last: Last::None, ..Walk::default() };
        self.0.begin_snapshot().await?;
        walk.blocks(self).await?;
        let mut others = walk.others(self).await?;
        let mut patience = PATIENCE;
        while (others.iter().any(|other| other.may_be_sealed) || walk.has_unexplained()) && patience > 0 {
            patience -= 1;
            self.0.end_snapshot().await?;
            self.audit_seal().await?;
            sleep(Duration::from_secs(1)).await;
            self.0.begin_snapshot().await?;
            walk.blocks(self).await?;
            others.retain(|other| !walk.covers(other.id));
            for other in &mut others {
                // The worker has looked at one that is settled now, and has not taken it.
                other.may_be_sealed &= walk.is_unsettled(other.id);
            }
        }
        let invented = walk.content(self, &others).await?;
        self.0.end_snapshot().await?;
        Ok(walk.finish(&others, invented))
    }
}

/// The block before the next one.
#[derive(Default)]
enum Last {
    /// The next one is the first.
    #[default]
    None,
    Known(Box<Header>, Hash),
    /// It has another form, so that its hash says nothing.
    Unreadable,
}

/// A row whose id is in no block.
struct Other {
    id: i64,
    has_mac: bool,
    may_be_sealed: bool,
}

/// A row that is not the one that a block has, with the fields of its digest.
struct Stray {
    id: i64,
    fields: [Vec<u8>; FIELDS],
    mac: Vec<u8>,
}

impl Stray {
    fn of(row: &Row) -> Result<Self, Error> {
        let mut fields: [Vec<u8>; FIELDS] = Default::default();
        for (index, field) in fields.iter_mut().enumerate() {
            *field = column::<Raw<'_>>(row, index)?.0.to_vec();
        }
        Ok(Self { id: column(row, 0)?, fields, mac: column::<Raw<'_>>(row, FIELDS)?.0.to_vec() })
    }

    /// The leaf that it would have with another id.
    fn leaf_at(&self, id: i64) -> Hash {
        let mut fields = self.fields.each_ref().map(Vec::as_slice);
        let id = id.to_be_bytes();
        fields[0] = &id;
        leaf(&digest(fields), &self.mac)
    }
}

/// A leaf that a block has, and no row.
struct Expected {
    id: i64,
    leaf: Hash,
    block: u64,
}

#[derive(Default)]
struct Walk<'a> {
    head: Option<&'a Head>,
    last: Last,
    after: Option<i64>,
    /// The hash of the block that has the number of the head.
    at_head: Option<Hash>,
    /// The ids of all blocks, as ranges.
    covered: Vec<(i64, i64)>,
    /// Blocks without rows.
    pruned: Vec<u64>,
    /// The last block that a row of the log says was pruned.
    pruned_through: Option<u64>,
    expected: Vec<Expected>,
    /// The ids of rows that are not as their blocks have them.
    altered: HashSet<i64>,
    /// Rows with the id of another row, which is as its block has it.
    doubles: Vec<Other>,
    /// The first of the rows of both kinds, which may be those of other ids.
    strays: Vec<Stray>,
    /// The ids for which a row may still come, if the newest block says so.
    unsettled: Option<Ids>,
    found: Verification,
}

impl Walk<'_> {
    /// Verifies the blocks after those that were verified.
    async fn blocks(&mut self, client: &Client) -> Result<(), Error> {
        loop {
            let after = self.after.unwrap_or(i64::MIN);
            let blocks = client.0.rows_within(BLOCKS, &[(&after, Type::INT8), (&BATCH, Type::INT8)]).await?;
            let (mut ids, mut expected) = (Vec::new(), HashMap::new());
            for block in &blocks {
                self.block(block, &mut ids, &mut expected)?;
            }
            self.rows(client, &ids, expected).await?;
            if i64::try_from(blocks.len()).unwrap_or(i64::MAX) < BATCH {
                break;
            }
        }
        self.covered.sort_unstable();
        self.covered.dedup_by(|next, range| {
            let touches = next.0 <= range.1.saturating_add(1);
            if touches {
                range.1 = range.1.max(next.1);
            }
            touches
        });
        self.read_unsettled(client).await
    }

    /// Verifies a header and its lists, and notes the rows to expect.
    fn block(
        &mut self,
        row: &Row,
        all_ids: &mut Vec<i64>,
        expected: &mut HashMap<i64, Vec<(Hash, u64)>>,
    ) -> Result<(), Error> {
        let number: i64 = column(row, 0)?;
        self.after = Some(number);
        let signed =
            Signed { text: column(row, 1)?, signature: column(row, 2)?, endorsement: column(row, 3)? };
        let place = u64::try_from(number).unwrap_or_default();
        let Some(header) = self.header(&signed, place) else { return Ok(()) };
        self.found.blocks += 1;
        self.found.newest = Some(header.number);
        self.found.public_key = Some(hex(&header.public_key));
        if self.head.is_some_and(|head| head.number() == header.number) {
            self.at_head = Some(signed.hash());
        }
        if header.number != place || header.range != (column(row, 4)?, column(row, 5)?) {
            self.altered(header.number, "its number or its range is not that of its header");
        }
        let ids: Option<Vec<i64>> = column(row, 6)?;
        let leaves: Option<&[u8]> = column(row, 7)?;
        let (Some(ids), Some(leaves)) = (ids, leaves) else {
            self.found.rows_pruned += header.rows;
            self.pruned.push(header.number);
            return Ok(());
        };
        self.cover(&ids);
        let leaves = leaves.as_chunks::<32>().0;
        if !header.has(&ids, leaves) {
            self.altered(header.number, "its list of rows is not that of its header");
            return Ok(());
        }
        self.found.rows += header.rows;
        if header.is_before {
            self.found.rows_from_before += header.rows;
        }
        for (&id, &leaf) in ids.iter().zip(leaves) {
            expected.entry(id).or_default().push((leaf, header.number));
        }
        all_ids.extend(ids);
        Ok(())
    }

    /// The header of a block, of which all problems are noted.
    fn header(&mut self, signed: &Signed, place: u64) -> Option<Header> {
        let last = std::mem::take(&mut self.last);
        let checked = match &last {
            Last::None => signed.follow(None),
            Last::Known(header, hash) => signed.follow(Some((header.as_ref(), hash))),
            Last::Unreadable => signed.open(),
        };
        let parsed = signed.text.parse::<Header>();
        let next = match &last {
            Last::Known(header, _) => header.number + 1,
            Last::None => 0,
            Last::Unreadable => place,
        };
        match (&checked, &parsed) {
            (Ok(_), _) => {}
            (Err(_), Ok(header)) if header.number > next => {
                let (from, to) = (next, header.number - 1);
                self.found.problems.push(Problem::BlocksRemoved { from, to });
                if let Err(problem) = signed.open() {
                    self.altered(place, &problem.to_string());
                }
            }
            (Err(problem), _) => self.altered(place, &problem.to_string()),
        }
        self.last = match &parsed {
            Ok(header) => Last::Known(Box::new(header.clone()), signed.hash()),
            Err(_) => Last::Unreadable,
        };
        parsed.ok()
    }

    fn altered(&mut self, block: u64, reason: &str) {
        self.found.problems.push(Problem::BlockAltered { block, reason: reason.to_owned() });
    }

    fn cover(&mut self, ids: &[i64]) {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        for id in ids {
            match self.covered.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(id) => *last = id,
                _ => self.covered.push((id, id)),
            }
        }
    }

    fn covers(&self, id: i64) -> bool {
        let after = self.covered.partition_point(|&(first, _)| first <= id);
        after.checked_sub(1).is_some_and(|index| self.covered[index].1 >= id)
    }

    /// Compares rows with what their blocks have.
    async fn rows(
        &mut self,
        client: &Client,
        ids: &Vec<i64>,
        mut expected: HashMap<i64, Vec<(Hash, u64)>>,
    ) -> Result<(), Error> {
        let rows = client.0.rows_within(ROWS, &[(ids, Type::INT8_ARRAY)]).await?;
        let mut strays = Vec::new();
        for row in &rows {
            let mut fields: [&[u8]; FIELDS] = [&[]; FIELDS];
            for (index, field) in fields.iter_mut().enumerate() {
                *field = column::<Raw<'_>>(row, index)?.0;
            }
            let leaf = leaf(&digest(fields), column::<Raw<'_>>(row, FIELDS)?.0);
            let leaves = expected.entry(column(row, 0)?).or_default();
            let Some(index) = leaves.iter().position(|(expected, _)| *expected == leaf) else {
                strays.push(row);
                continue;
            };
            leaves.swap_remove(index);
            let [.., action, target_type, _, metadata, _] = fields;
            if (action, target_type) == (b"prune_audit_log", b"audit_log") {
                let metadata: Value =
                    serde_json::from_slice(metadata.get(1..).unwrap_or_default()).unwrap_or_default();
                self.pruned_through = self.pruned_through.max(metadata["throughBlock"].as_u64());
            }
        }
        for row in strays {
            let stray = Stray::of(row)?;
            if expected.get(&stray.id).is_some_and(|leaves| !leaves.is_empty()) {
                self.altered.insert(stray.id);
            } else if self.doubles.len() < MAX_NAMED {
                self.doubles.push(Other {
                    id: stray.id,
                    has_mac: !stray.mac.is_empty(),
                    may_be_sealed: false,
                });
            }
            if self.strays.len() < MAX_NAMED {
                self.strays.push(stray);
            }
        }
        for (id, leaves) in expected {
            self.expected.extend(leaves.into_iter().map(|(leaf, block)| Expected { id, leaf, block }));
        }
        Ok(())
    }

    /// Reads for which ids a row may still come. The newest block has them, and the worker updates that block in place.
    async fn read_unsettled(&mut self, client: &Client) -> Result<(), Error> {
        let Some(newest) = self.after else { return Ok(()) };
        let rows = client.0.rows_within(UNSETTLED, &[(&newest, Type::INT8)]).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        self.unsettled = column::<Option<Vec<i64>>>(row, 0)?.and_then(|ends| Ids::parse(&ends));
        Ok(())
    }

    fn is_unsettled(&self, id: i64) -> bool {
        self.after.is_none() || self.unsettled.as_ref().is_some_and(|ids| ids.contain(id))
    }

    /// Whether rows are gone, and the row that says so may not be in a block yet.
    fn has_unexplained(&self) -> bool {
        self.pruned.last() > self.pruned_through.as_ref()
    }

    /// The rows that are in no block.
    async fn others(&self, client: &Client) -> Result<Vec<Other>, Error> {
        let ranges: Vec<_> = self.covered.iter().map(|(first, last)| format!("[{first},{last}]")).collect();
        let ranges = format!("{{{}}}", ranges.join(","));
        let limit = i64::try_from(MAX_NAMED).unwrap_or(i64::MAX);
        let rows = client.0.rows_within(OTHERS, &[(&ranges, Type::TEXT), (&limit, Type::INT8)]).await?;
        let other = |row: &Row| {
            let (id, has_mac) = (column(row, 0)?, !column::<bool>(row, 1)?);
            let is_before = !matches!(&self.last, Last::Known(last, _) if !last.is_before);
            Ok(Other { id, has_mac, may_be_sealed: self.is_unsettled(id) && (has_mac || is_before) })
        };
        rows.iter().map(other).collect()
    }

    async fn content(&self, client: &Client, others: &[Other]) -> Result<Vec<Stray>, Error> {
        let ids: Vec<_> = others.iter().map(|other| other.id).collect();
        let rows = client.0.rows_within(ROWS, &[(&ids, Type::INT8_ARRAY)]).await?;
        rows.iter().map(Stray::of).collect()
    }

    /// Names what happened to the rows that do not match. `invented` has the content of `others`.
    fn finish(mut self, others: &[Other], invented: Vec<Stray>) -> Verification {
        let (mut problems, mut moved_here) = (std::mem::take(&mut self.found.problems), HashSet::new());
        let mut strays = self.strays;
        strays.extend(invented);
        self.expected.sort_unstable_by_key(|expected| expected.id);
        for Expected { id, leaf, block } in self.expected.into_iter().take(MAX_NAMED) {
            let moved = strays.iter().find(|stray| stray.id != id && stray.leaf_at(id) == leaf);
            problems.push(match moved {
                Some(&Stray { id: to, .. }) => {
                    moved_here.insert(to);
                    Problem::RowMoved { id, to, block }
                }
                None if self.altered.contains(&id) => Problem::RowAltered { id, block },
                None => Problem::RowRemoved { id, block },
            });
        }
        let invented = others.iter().chain(&self.doubles).filter(|other| !moved_here.contains(&other.id));
        let mut invented =
            invented.map(|&Other { id, has_mac, .. }| Problem::RowInvented { id, has_mac }).peekable();
        if self.after.is_some() {
            problems.extend(invented);
        } else if invented.peek().is_some() {
            problems.push(Problem::NothingSealed);
        }
        if let (Some(block), None) = (self.found.newest, &self.unsettled) {
            problems.push(Problem::EndRemoved { block });
        }
        let not_pruned = self.pruned.iter().filter(|&&block| Some(block) > self.pruned_through);
        problems.extend(not_pruned.map(|&block| Problem::NotPruned { block }));
        if let Some(head) = self.head
            && self.at_head != Some(head.signed.hash())
        {
            let reason = match &self.last {
                Last::Known(last, _) if last.chain != head.header.chain => {
                    "the head is of another database, or the log was begun anew".to_owned()
                }
                Last::Known(last, _) if last.number < head.number() => format!(
                    "the chain ends with block {}; later blocks were removed, or an older dump was restored",
                    last.number
                ),
                Last::None => "there is no block; all were removed, or the server does not seal the log".to_owned(),
                _ => "there is another block of that number; the log was rewritten, or an older dump was restored"
                    .to_owned(),
            };
            problems.push(Problem::HeadNotFound { block: head.number(), reason });
        }
        self.found.problems = problems;
        self.found
    }
}
