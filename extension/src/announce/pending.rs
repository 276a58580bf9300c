//! The events of this transaction, and what happens to them at its end.

use super::queue::{self, HandedOver};
use super::{send, two_phase};
use crate::pg::lock::{Lock, Mode};
use crate::pg::session;
use pgrx::{pg_guard, pg_sys};
use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_int, c_void};
use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

/// From so many sessions in a database on, the worker sends: some sessions may be listeners, and waking them
/// takes time.
const MANY_SESSIONS: c_int = 16;
/// How long the number of sessions is cached.
const COUNTED: Duration = Duration::from_secs(1);

struct Event {
    nest_level: c_int,
    payload: CString,
}

thread_local! {
    // Never dropped: Postgres ends a transaction after the destructors of an exit() have run.
    static EVENTS: RefCell<ManuallyDrop<Vec<Event>>> = const { RefCell::new(ManuallyDrop::new(Vec::new())) };
    static HANDED_OVER: Cell<Option<HandedOver>> = const { Cell::new(None) };
    static SESSIONS: Cell<Option<(Instant, c_int)>> = const { Cell::new(None) };
}

pub fn install() {
    // SAFETY: in the postmaster; its processes inherit the callbacks.
    unsafe {
        pg_sys::RegisterXactCallback(Some(transaction), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(subtransaction), std::ptr::null_mut());
        pg_sys::RegisterResourceReleaseCallback(Some(released), std::ptr::null_mut());
    }
}

/// Keeps a payload for the end of the transaction. A repeated payload is kept once, as NOTIFY does.
pub fn add(payload: CString) {
    // SAFETY: within a transaction.
    let nest_level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    EVENTS.with_borrow_mut(|events| {
        if events.last().is_none_or(|last| last.payload != payload) {
            events.push(Event { nest_level, payload });
        }
    });
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    if event == pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT && two_phase::may_have_committed_one() {
        super::announce_resync();
    }
    if EVENTS.with_borrow(|events| events.is_empty()) {
        return;
    }
    match event {
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT => before_commit(),
        pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE => two_phase::mark(),
        pg_sys::XactEvent::XACT_EVENT_COMMIT
        | pg_sys::XactEvent::XACT_EVENT_ABORT
        | pg_sys::XactEvent::XACT_EVENT_PREPARE => EVENTS.with_borrow_mut(|events| events.clear()),
        _ => {}
    }
}

fn before_commit() {
    EVENTS.with_borrow(|events| {
        // No event overtakes a queued one: the events of a key are sent in the order of their revisions.
        if sessions() < MANY_SESSIONS
            && queue::is_empty()
            && Lock::notify().try_acquire(Mode::AccessExclusive)
        {
            return send_all(events);
        }
        match HandedOver::new(payloads(events)) {
            Some(handed_over) => HANDED_OVER.set(Some(handed_over)),
            // Slow, but always right: NOTIFY waits for the lock.
            None => send_all(events),
        }
    });
}

/// Called when a transaction has released its locks. By then its commit is visible and its invalidation
/// messages are sent, as before Postgres sends a NOTIFY.
#[pg_guard]
unsafe extern "C-unwind" fn released(
    phase: pg_sys::ResourceReleasePhase::Type,
    is_committed: bool,
    is_top_level: bool,
    _argument: *mut c_void,
) {
    if is_top_level
        && phase == pg_sys::ResourceReleasePhase::RESOURCE_RELEASE_AFTER_LOCKS
        && let Some(handed_over) = HANDED_OVER.take()
    {
        handed_over.settle(is_committed);
    }
}

fn send_all(events: &[Event]) {
    for payload in payloads(events) {
        send::send(payload);
    }
}

fn payloads(events: &[Event]) -> impl Iterator<Item = &CString> + Clone {
    events.iter().map(|event| &event.payload)
}

/// How many sessions the database has, from a cache of a second.
fn sessions() -> c_int {
    if let Some((counted, sessions)) = SESSIONS.get()
        && counted.elapsed() < COUNTED
    {
        return sessions;
    }
    let sessions = count_sessions(session::database());
    SESSIONS.set(Some((Instant::now(), sessions)));
    sessions
}

/// How many sessions a database has now.
pub fn count_sessions(database: pg_sys::Oid) -> c_int {
    // SAFETY: counts entries of shared memory, under a lock that Postgres takes for it.
    unsafe { pg_sys::CountDBBackends(database) }
}

/// The events of a subtransaction are dropped when it aborts, and go to its parent when it commits.
#[pg_guard]
unsafe extern "C-unwind" fn subtransaction(
    event: pg_sys::SubXactEvent::Type,
    _this: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    // SAFETY: within a transaction.
    let nest_level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    EVENTS.with_borrow_mut(|events| match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => events.retain(|event| event.nest_level < nest_level),
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => {
            for event in events.iter_mut().filter(|event| event.nest_level == nest_level) {
                event.nest_level -= 1;
            }
        }
        _ => {}
    });
}
