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
use crate::pg::ffi::GetCurrentTimestamp;
use crate::pg::timestamp::Moment;
use crate::pg::{error, session};
use crate::settings::{self, LogReads};
use integration_credentials_core::read_ledger::{self, Recorded, Subject};

pub mod memory;
mod table;

pub use table::{Read, job, of_org};

/// Records that the caller has read a revision of a credential. A pending value, `None`, has no revision yet: the read
/// is logged, where reads are, but tells nothing of who uses what.
pub fn record(call: &Call, org: &str, key: &str, revision: Option<i64>) {
    let role = call.caller.role;
    if settings::log_reads() == LogReads::log {
        let what = revision.map_or("the pending value".to_owned(), |revision| format!("revision {revision}"));
        error::log(format!("read of credential {key:?} of org {org:?}, {what}, by role {:?}", role.name()));
    }
    let Some(revision) = revision.filter(|_| settings::track_reads()) else { return };
    let subject = Subject { database: session::database().to_u32(), role: role.oid().to_u32(), org, key };
    // SAFETY: reads the clock.
    let now = unsafe { GetCurrentTimestamp() };
    if memory::record(&subject, revision, now) == Some(Recorded::First) {
        maintenance::request();
    }
}

/// Why the ledger may lack a read of this key since then; `None` if it has all that were recorded on this server. What a
/// server recorded in the second or two before it stopped is lost.
pub fn doubt(org: &str, key: &str, since: Moment) -> Option<&'static str> {
    if !read_ledger::fits(org, key) {
        return Some("the names of org and key are too long for the read ledger");
    }
    if !settings::track_reads() {
        return Some("reads are not tracked");
    }
    let lost = memory::lost(session::database().to_u32());
    lost.filter(|loss| Moment::from(loss.last) >= since).map(|_| "the read ledger had no room for some reads")
}
