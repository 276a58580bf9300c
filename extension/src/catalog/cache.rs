//! The entries that this session has seen, so that it does not look for them at every call.
//!
//! Whoever changes the catalog, in whatever way, fires a trigger that sends the message by which Postgres itself tells its
//! sessions of a changed table. So nothing is known any longer once the change has committed or, in the session that
//! makes it, as soon as it is made, and again if it is taken back.

use super::Entry;
use crate::pg::call::{Answer, Call, VOID};
use crate::pg::relation;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// More entries than catalogs have. Beyond that, it begins anew.
const MOST: usize = 10_000;
/// Rules that are longer, in bytes, are looked for each time.
const LONGEST_RULES: usize = 1024;

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
}

#[derive(Default)]
struct Known {
    as_of: u64,
    entries: HashMap<Box<str>, Rc<Entry>>,
}

/// The entry of a key by all that has been committed so far, if it is known.
pub fn get(key: &str) -> Option<Rc<Entry>> {
    // SAFETY: within a transaction. They take up the messages that are there: our own, and those of others.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::AcceptInvalidationMessages();
    }
    KNOWN.with_borrow(|known| known.entries.get(key).filter(|_| known.as_of == changes()).cloned())
}

/// Looks for the entry of a key, and remembers it.
pub fn learn(key: &str, look: impl FnOnce() -> Option<Entry>) -> Option<Rc<Entry>> {
    let as_of = changes();
    let entry = Rc::new(look()?);
    // A statement that fails takes back what it has written before its triggers have told anybody. And if the catalog
    // changed meanwhile, what was seen may be of before.
    if !entry.is_uncommitted && as_of == changes() && entry.rules.len() <= LONGEST_RULES {
        KNOWN.with_borrow_mut(|known| {
            if known.as_of != as_of || known.entries.len() >= MOST {
                known.entries.clear();
            }
            known.as_of = as_of;
            known.entries.insert(key.into(), entry.clone());
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
    // SAFETY: within a transaction, which sends it when it commits.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation::oid(super::TABLE)) };
    Ok(VOID)
}
