//! The read ledger: which role has read which credential last, at which revision, and how often.
//!
//! A read is recorded in shared memory. The maintenance worker writes the memory to the table `credential_reads`, a
//! second or two later. A crash loses what is not written yet.
//!
//! | module | concept |
//! | --- | --- |
//! | `memory` | the ledger in shared memory |
//! | `table` | writing the ledger to its table, and reading both |

use crate::maintenance;
use crate::pg::call::Call;
use crate::pg::{error, session};
use crate::settings::{self, LogReads};
use integration_credentials_core::read_ledger::{self, Loss, Recorded, Subject};
use pgrx::pg_sys;

pub mod memory;
mod table;

pub use table::{Read, flush, job, of_org};

/// Records that the caller has read a credential.
pub fn record(call: &Call, org: &str, key: &str, revision: i64) {
    let role = call.caller.role;
    if settings::log_reads() == LogReads::log {
        error::log(format!(
            "read of credential {key:?} of org {org:?}, revision {revision}, by role {:?}",
            role.name()
        ));
    }
    if !settings::track_reads() {
        return;
    }
    let subject = Subject { database: session::database().to_u32(), role: role.oid().to_u32(), org, key };
    // SAFETY: reads the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() };
    if memory::record(&subject, revision, now) == Some(Recorded::First) {
        maintenance::request();
    }
}

/// The reads of this database that the ledger had no room for since the server started: the ledger was full of reads
/// that are not written yet, or the names were too long. `last` is the time of the last of them. What is known of
/// earlier reads is complete; whether a role has read since, the ledger does not tell.
pub fn lost() -> Option<Loss> {
    memory::lost(session::database().to_u32())
}

/// Whether the ledger has room for these names.
pub fn can_track(org: &str, key: &str) -> bool {
    read_ledger::fits(org, key)
}
