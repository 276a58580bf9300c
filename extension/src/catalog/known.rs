//! The keys that this session knows to be enabled, for the reads: half of what they would look up is always the same.
//!
//! Whoever changes the catalog, in whatever way, fires a trigger that sends the message by which Postgres itself tells its
//! sessions of a changed table. So nothing is known any longer once the change has committed or, in the session that
//! makes it, as soon as it is made, and again if it is taken back.

use crate::boundary::{Answer, Call, VOID};
use crate::lookup;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;

/// More keys than catalogs have. Beyond that, it begins anew.
const MOST: usize = 10_000;

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
    /// The catalog's table, whose changes count.
    static TABLE: Cell<Option<pg_sys::Oid>> = const { Cell::new(None) };
    /// How many changes this session has been told of.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
}

#[derive(Default)]
struct Known {
    as_of: u64,
    keys: HashSet<Box<str>>,
}

/// Whether a key is known to be enabled, by all that has been committed so far.
pub fn is_enabled(key: &str) -> bool {
    // SAFETY: within a transaction. It takes up the messages that are there, as opening a table does.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    KNOWN.with_borrow(|known| known.as_of == CHANGES.get() && known.keys.contains(key))
}

/// Looks for the key, as of now, and remembers it if it is enabled.
pub fn learn<E>(key: &str, look: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    follow();
    let as_of = CHANGES.get();
    lookup::as_of_now(look)?;
    // If the catalog changed meanwhile, what was seen may be of before.
    if as_of == CHANGES.get() {
        KNOWN.with_borrow_mut(|known| {
            if known.as_of != as_of || known.keys.len() >= MOST {
                known.keys.clear();
            }
            known.as_of = as_of;
            known.keys.insert(key.into());
        });
    }
    Ok(())
}

/// Has Postgres tell this session of changes.
fn follow() {
    let table = lookup::oid(super::TABLE);
    if TABLE.replace(Some(table)).is_none() {
        // SAFETY: a function of this library, which stays loaded.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(changed), pg_sys::Datum::null()) };
    }
}

/// Postgres' message that a table has changed, or (with no table) that any may have.
unsafe extern "C-unwind" fn changed(_: pg_sys::Datum, table: pg_sys::Oid) {
    if table == pg_sys::InvalidOid || TABLE.get() == Some(table) {
        CHANGES.set(CHANGES.get() + 1);
    }
}

/// `catalog_changed()`, the trigger
#[expect(clippy::unnecessary_wraps, reason = "the form of every call")]
pub fn call_changed(_: &Call) -> Answer {
    // SAFETY: within a transaction, which sends it when it commits.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(lookup::oid(super::TABLE)) };
    Ok(VOID)
}
