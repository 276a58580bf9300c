//! Telling every listener, once the transaction has committed.
//!
//! `NOTIFY` makes commits wait for each other: from there to the end of its fsync, a transaction that notifies holds a lock
//! of the whole cluster, and then it wakes every listener of the database. So a transaction sends its events itself only
//! where it waits for nobody, and else hands them over to one background worker. Either way they are sent once the commit
//! is visible, or never.
//!
//! | module | concept |
//! | --- | --- |
//! | `pending` | the events of this transaction, and what its end does with them |
//! | `send` | NOTIFY, and the lock that it takes |
//! | `queue` | the queue in shared memory |
//! | `worker` | the process that empties it |
//! | `two_phase` | a prepared transaction, which may commit in another session, after a restart |

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

/// For the postmaster: the worker, and the end of every transaction. `hooks` asks for the shared memory.
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

/// Announces that everybody should look again, as after a prepared transaction that had events.
pub fn announce_resync() {
    add(RESYNC.to_owned());
}

/// `announce_replicated()`, the trigger. It fires for a worker of logical replication, who knows nothing of orgs and keys, and
/// once for each row.
#[expect(clippy::unnecessary_wraps, reason = "the form of every call")]
pub fn call_announce_replicated(_: &Call) -> Answer {
    // Not preloaded, the library is told of no commit.
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
