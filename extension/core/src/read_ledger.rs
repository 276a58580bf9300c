//! Who read what: the last read of each credential by each role, in memory of a fixed size.
//!
//! The memory is divided into partitions, each under a lock of its own. A partition is an open hash table. An entry
//! that is written to the table of the database may make room for another. So nothing is lost before the reads of
//! a few seconds fill a partition.
//!
//! Zeroed memory is an empty ledger.

use foldhash::quality::FixedState;
use std::hash::{BuildHasher, Hash};

/// How many partitions there are.
pub const PARTITIONS: usize = 64;
/// How many entries a partition has: 16,384 in all, in 4 MiB.
pub const ENTRIES: usize = 256;
/// The longest org and key together, in bytes.
pub const NAMES: usize = 200;

/// The digest of an entry that was never used. A search ends here.
const NEVER_USED: u64 = 0;

/// Who read what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject<'a> {
    /// The oid of the database.
    pub database: u32,
    /// The oid of the role.
    pub role: u32,
    /// The org.
    pub org: &'a str,
    /// The integration key.
    pub key: &'a str,
}

impl Subject<'_> {
    /// Equal in every process, because all run this library.
    #[must_use]
    pub fn digest(&self) -> u64 {
        FixedState::default().hash_one(self).max(NEVER_USED + 1)
    }
}

/// Whether the ledger has room for names of this length.
#[must_use]
pub const fn fits(org: &str, key: &str) -> bool {
    org.len() + key.len() <= NAMES
}

/// The number of the partition of a digest. The places in a partition use other bits.
#[must_use]
pub fn partition_of(digest: u64) -> usize {
    usize::try_from(digest >> 32).unwrap_or_default() % PARTITIONS
}

/// What became of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is the first one that is not yet written.
    First,
    /// An earlier one is not yet written either.
    Counted,
    /// There was no room.
    Lost,
}

/// How a transaction ended that wrote an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Written.
    Committed,
    /// Not written.
    Aborted,
    /// Not known yet.
    Open,
}

/// An entry.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Entry {
    database: u32,
    role: u32,
    /// The revision of the last read.
    pub revision: i64,
    /// Its time, as Postgres counts.
    pub at: i64,
    /// How many reads no transaction that has committed has written.
    unwritten: i64,
    /// How many of those `writer` has written.
    written: i64,
    /// The transaction that wrote the entry last; 0 once its fate is known.
    writer: u64,
    org_bytes: u16,
    key_bytes: u16,
    names: [u8; NAMES],
}

impl Entry {
    const EMPTY: Self = Self {
        database: 0,
        role: 0,
        revision: 0,
        at: 0,
        unwritten: 0,
        written: 0,
        writer: 0,
        org_bytes: 0,
        key_bytes: 0,
        names: [0; NAMES],
    };

    fn new(subject: &Subject) -> Option<Self> {
        let (org, key) = (subject.org.as_bytes(), subject.key.as_bytes());
        let mut names = [0; NAMES];
        names.get_mut(..org.len())?.copy_from_slice(org);
        names.get_mut(org.len()..org.len() + key.len())?.copy_from_slice(key);
        Some(Self {
            database: subject.database,
            role: subject.role,
            org_bytes: u16::try_from(org.len()).ok()?,
            key_bytes: u16::try_from(key.len()).ok()?,
            names,
            ..Self::EMPTY
        })
    }

    /// Who read what.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        let (org, key) = self.names();
        let text = |bytes| str::from_utf8(bytes).unwrap_or_default();
        Subject { database: self.database, role: self.role, org: text(org), key: text(key) }
    }

    fn names(&self) -> (&[u8], &[u8]) {
        let org = usize::from(self.org_bytes).min(NAMES);
        let (org, rest) = self.names.split_at(org);
        (org, &rest[..usize::from(self.key_bytes).min(rest.len())])
    }

    fn is_of(&self, subject: &Subject) -> bool {
        (self.database, self.role) == (subject.database, subject.role)
            && self.names() == (subject.org.as_bytes(), subject.key.as_bytes())
    }

    /// How many reads a table lacks that shows what `writer` wrote, or does not.
    #[must_use]
    pub const fn missing(&self, shows_writer: bool) -> i64 {
        if shows_writer { self.unwritten - self.written } else { self.unwritten }
    }

    /// The transaction that wrote the entry last, while its fate is not settled.
    #[must_use]
    pub const fn writer(&self) -> Option<u64> {
        if self.writer == 0 { None } else { Some(self.writer) }
    }

    /// Whether the table has all of it.
    const fn is_written(&self) -> bool {
        self.unwritten == 0
    }

    fn settle(&mut self, fate: Fate) {
        match fate {
            Fate::Committed => self.unwritten -= self.written,
            Fate::Aborted => {}
            Fate::Open => return,
        }
        self.written = 0;
        self.writer = 0;
    }

    fn count(&mut self, revision: i64, at: i64) -> Recorded {
        // The last read counts, whatever its revision. Two reads of one moment may come in either order.
        if at >= self.at {
            self.at = at;
            self.revision = revision;
        }
        self.unwritten += 1;
        if self.unwritten == 1 { Recorded::First } else { Recorded::Counted }
    }
}

/// A partition.
#[repr(C)]
pub struct Partition {
    digests: [u64; ENTRIES],
    entries: [Entry; ENTRIES],
    /// Where the search for an entry to replace begins.
    hand: u64,
}

impl Partition {
    /// Records a read.
    pub fn record(&mut self, subject: &Subject, digest: u64, revision: i64, at: i64) -> Recorded {
        let Some(place) = self.place(subject, digest) else { return Recorded::Lost };
        self.entries.get_mut(place).map_or(Recorded::Lost, |entry| entry.count(revision, at))
    }

    /// The place of an entry, which is made if there is none.
    fn place(&mut self, subject: &Subject, digest: u64) -> Option<usize> {
        let home = usize::try_from(digest % (ENTRIES as u64)).unwrap_or_default();
        let mut unused = None;
        for place in (home..ENTRIES).chain(0..home) {
            let found = self.digests[place];
            if found == digest && self.entries[place].is_of(subject) {
                return Some(place);
            }
            if found == NEVER_USED {
                unused = Some(place);
                break;
            }
        }
        // Only a full partition has entries replaced, so every place between an entry and its home stays used.
        let place = unused.or_else(|| self.replaceable())?;
        self.entries[place] = Entry::new(subject)?;
        self.digests[place] = digest;
        Some(place)
    }

    /// The next written entry after the one that was replaced last. A role that still reads gets a new one.
    fn replaceable(&mut self) -> Option<usize> {
        let hand = usize::try_from(self.hand).unwrap_or_default() % ENTRIES;
        let place = (hand..ENTRIES).chain(0..hand).find(|&place| self.entries[place].is_written())?;
        self.hand = place as u64 + 1;
        Some(place)
    }

    fn of(&mut self, database: u32) -> impl Iterator<Item = &mut Entry> {
        let used = self.digests.iter().take(ENTRIES).zip(&mut self.entries);
        used.filter(move |(digest, entry)| **digest != NEVER_USED && entry.database == database)
            .map(|(_, entry)| entry)
    }

    /// The transactions that wrote entries of a database, and whose fate is to be settled.
    pub fn writers(&mut self, database: u32) -> impl Iterator<Item = u64> {
        self.of(database).filter_map(|entry| entry.writer())
    }

    /// The entries of a database.
    pub fn entries(&mut self, database: u32) -> impl Iterator<Item = &Entry> {
        self.of(database).map(|entry| &*entry)
    }

    /// Settles the entries of a database, and gives those to `write` that `writer` is to write, with the number of
    /// reads to add to the table. `write` returns whether it has taken the entry.
    pub fn take(
        &mut self,
        database: u32,
        writer: u64,
        fate: impl Fn(u64) -> Fate,
        mut write: impl FnMut(&Entry, i64) -> bool,
    ) {
        for entry in self.of(database) {
            if let Some(before) = entry.writer() {
                entry.settle(fate(before));
            }
            // What another subtransaction wrote may be rolled back without this one, so the entry waits.
            let is_free = entry.writer().is_none_or(|before| before == writer);
            let reads = entry.missing(true);
            if is_free && reads > 0 && write(entry, reads) {
                entry.writer = writer;
                entry.written = entry.unwritten;
            }
        }
    }

    /// Drops the reads of a database, which has no table for them.
    pub fn forget(&mut self, database: u32) {
        // The places stay used, for the entries that lie behind them.
        self.of(database).for_each(|entry| *entry = Entry::EMPTY);
    }
}

/// How many databases have their losses counted apart.
const DATABASES: usize = 64;

/// Reads that the ledger had no room for.
#[repr(C)]
pub struct Losses {
    databases: [Loss; DATABASES],
    /// Of all databases beyond these.
    others: Loss,
}

/// The losses of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Loss {
    database: u32,
    /// How many reads.
    pub reads: u64,
    /// When the last one was, as Postgres counts.
    pub last: i64,
    told: u64,
}

impl Losses {
    /// Counts a loss.
    pub fn count(&mut self, database: u32, at: i64) {
        let its = |loss: &&mut Loss| loss.database == database || loss.database == 0;
        let loss = self.databases.iter_mut().find(its).unwrap_or(&mut self.others);
        loss.database = database;
        loss.reads += 1;
        loss.last = loss.last.max(at);
    }

    /// How many losses of a database were counted since the last call; `None` if there is none.
    pub fn tell(&mut self, database: u32) -> Option<u64> {
        let loss =
            self.databases.iter_mut().find(|loss| loss.database == database).unwrap_or(&mut self.others);
        let untold = loss.reads - loss.told;
        loss.told = loss.reads;
        (untold > 0 && loss.database == database).then_some(untold)
    }

    /// The losses of a database; `None` if there is none.
    #[must_use]
    pub fn of(&self, database: u32) -> Option<Loss> {
        let its = self.databases.iter().find(|loss| loss.database == database);
        // Without a place of its own, a database has those of all others.
        let is_full = self.databases.iter().all(|loss| loss.database != 0);
        its.or_else(|| is_full.then_some(&self.others)).filter(|loss| loss.reads > 0).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const SUBJECT: Subject = Subject { database: 5, role: 10, org: "acme", key: "slack" };

    /// Zeroed memory, as the server has it.
    #[expect(clippy::large_stack_arrays, reason = "as in the server")]
    fn partition() -> Box<Partition> {
        Box::new(Partition { digests: [0; ENTRIES], entries: [Entry::EMPTY; ENTRIES], hand: 0 })
    }

    fn record(partition: &mut Partition, subject: Subject, revision: i64, at: i64) -> Recorded {
        partition.record(&subject, subject.digest(), revision, at)
    }

    fn numbered(keys: &[String]) -> impl Iterator<Item = Subject<'_>> {
        keys.iter().map(|key| Subject { key, ..SUBJECT })
    }

    fn keys(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("key-{number}")).collect()
    }

    /// What a transaction takes: key, revision and reads.
    fn take(partition: &mut Partition, writer: u64, fate: Fate) -> Vec<(String, i64, i64)> {
        let mut taken = Vec::new();
        partition.take(
            5,
            writer,
            |_| fate,
            |entry, reads| {
                taken.push((entry.subject().key.to_owned(), entry.revision, reads));
                true
            },
        );
        taken.sort();
        taken
    }

    #[test]
    fn the_last_read_counts_whatever_its_revision() {
        let mut partition = partition();
        assert_eq!(record(&mut partition, SUBJECT, 3, 100), Recorded::First);
        assert_eq!(record(&mut partition, SUBJECT, 2, 200), Recorded::Counted);
        assert_eq!(record(&mut partition, SUBJECT, 1, 150), Recorded::Counted);
        let entry = *partition.entries(5).next().unwrap();
        assert_eq!((entry.subject(), entry.revision, entry.at, entry.missing(true)), (SUBJECT, 2, 200, 3));
        assert_eq!(partition.entries(6).count(), 0);
    }

    #[test]
    fn each_part_of_the_subject_tells_entries_apart() {
        let mut partition = partition();
        let subjects = [
            SUBJECT,
            Subject { database: 6, ..SUBJECT },
            Subject { role: 11, ..SUBJECT },
            Subject { org: "acmes", key: "lack", ..SUBJECT },
            Subject { org: "", key: "acmeslack", ..SUBJECT },
        ];
        // Even where the digests are the same.
        for subject in subjects {
            assert_eq!(partition.record(&subject, 1, 1, 1), Recorded::First);
        }
        assert!(subjects.iter().all(|subject| partition.record(subject, 1, 1, 1) == Recorded::Counted));
        assert_eq!(partition.entries(5).count(), 4);
    }

    #[test]
    fn what_is_rolled_back_is_taken_again_and_what_is_committed_is_not() {
        let mut partition = partition();
        record(&mut partition, SUBJECT, 1, 1);
        record(&mut partition, SUBJECT, 2, 2);
        assert_eq!(take(&mut partition, 70, Fate::Open), [("slack".into(), 2, 2)]);
        assert_eq!(partition.writers(5).collect::<Vec<_>>(), [70]);
        // Reads of the meantime come with the next transaction.
        record(&mut partition, SUBJECT, 3, 3);
        let entry = partition.entries(5).next().unwrap();
        assert_eq!((entry.missing(true), entry.missing(false)), (1, 3));
        assert_eq!(take(&mut partition, 71, Fate::Aborted), [("slack".into(), 3, 3)]);
        assert_eq!(take(&mut partition, 72, Fate::Committed), []);
        assert_eq!(partition.writers(5).count(), 0);
        assert_eq!(record(&mut partition, SUBJECT, 4, 4), Recorded::First);
        assert_eq!(take(&mut partition, 73, Fate::Open), [("slack".into(), 4, 1)]);
    }

    #[test]
    fn a_transaction_takes_twice_and_another_subtransaction_waits() {
        let mut partition = partition();
        record(&mut partition, SUBJECT, 1, 1);
        assert_eq!(take(&mut partition, 70, Fate::Open).len(), 1);
        assert_eq!(take(&mut partition, 70, Fate::Open), []);
        record(&mut partition, SUBJECT, 2, 2);
        assert_eq!(take(&mut partition, 71, Fate::Open), []);
        assert_eq!(take(&mut partition, 70, Fate::Open), [("slack".into(), 2, 1)]);
        // Both are rolled back together.
        assert_eq!(take(&mut partition, 80, Fate::Aborted), [("slack".into(), 2, 2)]);
        // What is not written stays.
        record(&mut partition, SUBJECT, 3, 3);
        partition.take(5, 81, |_| Fate::Committed, |_, _| false);
        assert_eq!(take(&mut partition, 82, Fate::Open), [("slack".into(), 3, 1)]);
    }

    #[test]
    fn a_full_partition_replaces_what_is_written_and_nothing_else() {
        let mut partition = partition();
        let keys = keys(ENTRIES + 2);
        let subjects: Vec<_> = numbered(&keys).collect();
        for subject in &subjects[..ENTRIES] {
            assert_eq!(record(&mut partition, *subject, 1, 1), Recorded::First);
        }
        assert_eq!(record(&mut partition, subjects[ENTRIES], 1, 1), Recorded::Lost);
        assert_eq!(take(&mut partition, 70, Fate::Open).len(), ENTRIES);
        assert_eq!(record(&mut partition, subjects[ENTRIES], 1, 1), Recorded::Lost);
        partition.take(5, 71, |_| Fate::Committed, |_, _| true);
        assert_eq!(record(&mut partition, subjects[ENTRIES], 2, 2), Recorded::First);
        assert_eq!(record(&mut partition, subjects[ENTRIES + 1], 2, 2), Recorded::First);
        assert_eq!(take(&mut partition, 72, Fate::Open).len(), 2);
        // All others are found where they were.
        let known = subjects.iter().filter(|subject| partition.entries(5).any(|entry| entry.is_of(subject)));
        assert_eq!(known.count(), ENTRIES);
        partition.forget(5);
        assert_eq!(partition.entries(5).count(), 0);
        assert!(
            subjects
                .iter()
                .take(ENTRIES)
                .all(|subject| record(&mut partition, *subject, 1, 1) == Recorded::First)
        );
    }

    #[test]
    fn names_have_a_longest_length() {
        let (org, key) = ("o".repeat(NAMES / 2), "k".repeat(NAMES / 2));
        assert!(fits(&org, &key) && !fits(&org, &format!("{key}k")));
        let mut partition = partition();
        let longest = Subject { org: &org, key: &key, ..SUBJECT };
        assert_eq!(record(&mut partition, longest, 1, 1), Recorded::First);
        assert_eq!(partition.entries(5).next().unwrap().subject(), longest);
        let longer = format!("{key}k");
        assert_eq!(record(&mut partition, Subject { key: &longer, ..longest }, 1, 1), Recorded::Lost);
    }

    #[test]
    fn losses_are_told_by_database_as_far_as_there_is_room() {
        let mut losses = Losses { databases: [Loss::default(); DATABASES], others: Loss::default() };
        assert_eq!(losses.of(5), None);
        losses.count(5, 100);
        losses.count(5, 50);
        assert_eq!(losses.of(5).map(|loss| (loss.reads, loss.last)), Some((2, 100)));
        assert_eq!((losses.tell(5), losses.tell(5), losses.tell(6)), (Some(2), None, None));
        assert_eq!(losses.of(6), None);
        for database in 6..100 {
            losses.count(database, 200);
        }
        assert_eq!(losses.of(5).map(|loss| loss.reads), Some(2));
        assert_eq!(losses.of(99).map(|loss| loss.reads), Some(5 + 94 - 68));
    }

    proptest! {
        /// Whatever is read, written and rolled back in whatever order, every read is in the table once at the end.
        #[test]
        fn every_read_is_written_once(steps in prop::collection::vec((0..300_usize, 0..4_u8), 1..2000)) {
            let mut partition = partition();
            let keys = keys(300);
            let subjects: Vec<_> = numbered(&keys).collect();
            let (mut read, mut table) = (HashMap::<&str, i64>::new(), HashMap::<String, i64>::new());
            let mut pending: Vec<(String, i64)> = Vec::new();
            let mut fate = Fate::Aborted;
            for (writer, (number, step)) in (1..).zip(steps) {
                if step > 0 {
                    let subject = subjects[number];
                    if record(&mut partition, subject, 1, 1) != Recorded::Lost {
                        *read.entry(subject.key).or_default() += 1;
                    }
                    continue;
                }
                // The transaction before ends now.
                fate = if number % 3 == 0 { Fate::Aborted } else { Fate::Committed };
                let before = std::mem::take(&mut pending);
                if fate == Fate::Committed {
                    for (key, reads) in before {
                        *table.entry(key).or_default() += reads;
                    }
                }
                let taken = take(&mut partition, writer, fate);
                pending = taken.into_iter().map(|(key, _, reads)| (key, reads)).collect();
            }
            if fate == Fate::Committed {
                for (key, reads) in pending {
                    *table.entry(key).or_default() += reads;
                }
            }
            for (key, _, reads) in take(&mut partition, u64::MAX, fate) {
                *table.entry(key).or_default() += reads;
            }
            for (key, reads) in read {
                prop_assert_eq!(table.get(key).copied().unwrap_or_default(), reads, "{}", key);
            }
        }
    }
}
