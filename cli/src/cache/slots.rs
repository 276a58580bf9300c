//! The slots by key: a map that only grows, read without a lock and without a write to memory that threads
//! share.

use super::key_state::Slot;
use std::{
    hash::BuildHasher,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Cells of the first table; each next one has twice as many.
const FIRST: usize = 64;
/// More than can be filled.
const TABLES: usize = 40;

pub(super) struct Slots {
    /// A fast hasher, because hashing is a good part of a read. Only admins choose keys, so an attacker
    /// cannot choose colliding ones.
    hasher: foldhash::fast::RandomState,
    /// A table that is full is copied to the next, and kept for those who are reading it.
    tables: [OnceLock<Table>; TABLES],
    current: AtomicUsize,
}

/// At most half of the cells are set, and a cell is set once.
type Table = Box<[OnceLock<(Arc<str>, Arc<Slot>)>]>;

impl Slots {
    pub fn new() -> Self {
        Self {
            hasher: foldhash::fast::RandomState::default(),
            tables: [const { OnceLock::new() }; TABLES],
            current: AtomicUsize::new(0),
        }
    }

    #[inline]
    pub fn get(&self, key: &str) -> Option<&Slot> {
        let table = self.tables.get(self.current.load(Ordering::Acquire))?.get()?;
        self.probe(table, key).find_map(|cell| match cell.get() {
            None => Some(None),
            Some((found, slot)) => (**found == *key).then_some(Some(&**slot)),
        })?
    }

    /// Adds slots. By one thread at a time: the caller holds a lock, and knows how many slots `there are`
    /// already.
    pub fn add(&self, there_are: usize, new: &[(Arc<str>, Arc<Slot>)]) {
        let before = self.current.load(Ordering::Acquire);
        let needed = (there_are + new.len()) * 2;
        let mut number = before;
        while FIRST << number < needed {
            number += 1;
        }
        let Some(place) = self.tables.get(number) else { return };
        let table = place.get_or_init(|| (0..FIRST << number).map(|_| OnceLock::new()).collect());
        if number != before
            && let Some(old) = self.tables.get(before).and_then(OnceLock::get)
        {
            old.iter().filter_map(OnceLock::get).for_each(|slot| self.put(table, slot));
        }
        for slot in new {
            self.put(table, slot);
        }
        self.current.store(number, Ordering::Release);
    }

    fn put(&self, table: &Table, slot: &(Arc<str>, Arc<Slot>)) {
        // One is free, because half of them are.
        let _ = self.probe(table, &slot.0).find(|cell| cell.set(slot.clone()).is_ok());
    }

    /// The cells where the key may be, up to the first that is not set.
    #[inline]
    fn probe<'a>(
        &self,
        table: &'a Table,
        key: &str,
    ) -> impl Iterator<Item = &'a OnceLock<(Arc<str>, Arc<Slot>)>> + use<'a> {
        let mask = table.len() - 1;
        #[allow(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let start = self.hasher.hash_one(key) as usize;
        (0..table.len()).map(move |step| &table[start.wrapping_add(step) & mask])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::credential::EMPTY;

    #[test]
    fn slots_stay_where_they_are_while_the_map_grows() {
        let slots = Slots::new();
        assert!(slots.get("0").is_none());
        let all: Vec<_> = (0..5000)
            .map(|number| (Arc::<str>::from(number.to_string()), Arc::new(Slot::new(EMPTY.clone()))))
            .collect();
        for (there_are, slot) in all.iter().enumerate().take(300) {
            slots.add(there_are, std::slice::from_ref(slot));
        }
        slots.add(300, &all[300..]);
        for (key, slot) in &all {
            assert!(std::ptr::eq(slots.get(key).unwrap(), &raw const **slot), "{key}");
        }
        assert!(slots.get("5000").is_none() && slots.get("").is_none());
    }
}
