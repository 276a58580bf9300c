//! Notifications, sent once the transaction has committed.
//!
//! `NOTIFY` serializes commits: a transaction that notifies holds a lock of the whole cluster from before its
//! commit until after its fsync, and then wakes every listener of the database. So a transaction sends its
//! events itself only where the lock is free, and otherwise queues them for one background worker. Either way
//! the events are sent once the commit is visible, or never.
//!
//! | module | concept |
//! | --- | --- |
//! | `pending` | the events of this transaction, and what its end does with them |
//! | `send` | NOTIFY |
//! | `queue` | the queue in shared memory |
//! | `worker` | the background worker that sends the queue |
//! | `two_phase` | prepared transactions, which may commit in another session, after a restart |

use crate::pg::call::{Answer, Call, VOID};
use crate::pg::error::Raised;
use crate::settings::{self, Notify};
use integration_credentials_core::event::{Event, RESYNC};
use std::ffi::CString;

mod pending;
pub mod queue;
mod send;
pub mod two_phase;
mod worker;

/// Registers the worker and the transaction callbacks, in the postmaster. `hooks` requests the shared memory.
pub fn install() {
    worker::register();
    pending::install();
}

/// Announces an event when this transaction commits.
pub fn announce(event: &Event) {
    let Some(payload) = event.to_payload().ok().and_then(|payload| CString::new(payload).ok()) else {
        Raised::internal("internal error in integration_credentials: cannot encode an event").throw()
    };
    add(payload);
}

/// Announces a resync, as after a prepared transaction that had events: each listener reads the list again.
pub fn announce_resync() {
    add(RESYNC.to_owned());
}

/// `announce_replicated()`, the trigger. It fires in an apply worker of logical replication, once for each
/// row.
#[expect(clippy::unnecessary_wraps, reason = "the form of every call")]
pub fn call_announce_replicated(_: &Call) -> Answer {
    // Without preload there are no transaction callbacks.
    if settings::require_preload().is_ok() {
        announce_resync();
    }
    Ok(VOID)
}

fn add(payload: CString) {
    match settings::notify() {
        Notify::transaction => send::send(&payload),
        Notify::adaptive => pending::add(payload),
    }
}
