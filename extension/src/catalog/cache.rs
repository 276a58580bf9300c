//! The catalog entries that this session has cached.
//!
//! Any change of the catalog fires a trigger that sends Postgres' own invalidation message for the table. So
//! the cache is invalidated in every session at the commit. In the session that makes the change it is
//! invalidated at once, and again at a rollback.

use super::Entry;
use crate::pg::call::{Answer, Call, VOID};
use crate::pg::relation;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// More entries than catalogs have. A full cache is emptied.
const MOST: usize = 10_000;
/// Entries with longer rules, in bytes, are not cached.
const LONGEST_RULES: usize = 1024;

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

#[derive(Default)]
struct Cache {
    /// The number of invalidations when the entries were read.
    as_of: u64,
    entries: HashMap<Box<str>, Rc<Entry>>,
}

/// The cached entry of a key, if no committed change has invalidated it.
pub fn get(key: &str) -> Option<Rc<Entry>> {
    // SAFETY: within a transaction. The calls process pending invalidation messages, of this session and of
    // others.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::AcceptInvalidationMessages();
    }
    CACHE.with_borrow(|cache| cache.entries.get(key).filter(|_| cache.as_of == changes()).cloned())
}

/// Reads the entry of a key, and caches it.
pub fn fill(key: &str, read: impl FnOnce() -> Option<Entry>) -> Option<Rc<Entry>> {
    let as_of = changes();
    let entry = Rc::new(read()?);
    // A statement that fails rolls back its rows before its triggers have sent an invalidation, so
    // uncommitted entries are not cached. Nor is an entry that raced with an invalidation: it may be the old
    // one.
    if !entry.is_uncommitted && as_of == changes() && entry.rules.len() <= LONGEST_RULES {
        CACHE.with_borrow_mut(|cache| {
            if cache.as_of != as_of || cache.entries.len() >= MOST {
                cache.entries.clear();
            }
            cache.as_of = as_of;
            cache.entries.insert(key.into(), entry.clone());
        });
    }
    Some(entry)
}

fn changes() -> u64 {
    relation::changes(super::TABLE)
}

/// `catalog_changed()`, the trigger
#[expect(clippy::unnecessary_wraps, reason = "the form of every call")]
pub fn call_changed(_: &Call) -> Answer {
    // SAFETY: within a transaction, which sends the message at its commit.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation::oid(super::TABLE)) };
    Ok(VOID)
}
