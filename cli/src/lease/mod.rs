//! Leases: a consumer of credentials tells the server which revisions it holds, so that the server can say
//! when a rotation is over.
//!
//! With a report, a consumer promises for the length of its lease: it uses no value that is not covered by
//! the report. So the server knows of a consumer that is cut off that it has stopped by the time that its
//! lease is over. The rules, and why each is needed:
//!
//! 1. The lease counts from before the report was sent, by a clock that no setting of the time moves
//!    (`clock`, `term`).
//! 2. The first value of a key is used once a report of the key is committed, and is no older than the
//!    revision that was read after the commit (`promises`, `exchange`). The report's own transaction would
//!    read too early.
//! 3. From the sending of a report on, no older value is accepted than the newest that it names (`promises`).
//! 4. A lease that has run out is resumed like a first use. A value that is older by then is never used
//!    again, even by a handle (`reporter`, `permit`).
//! 5. Two reports of one id are never under way together: the older could arrive last (`reporter`).
//!
//! | module | concept |
//! | --- | --- |
//! | `clock` | the clock of a lease |
//! | `term` | from when to when a lease is used |
//! | `permit` | the deadline, as each use of a value reads it |
//! | `promises` | what was promised for each key |
//! | `consumer` | who a consumer is |
//! | `primary` | the connection that reports go over |
//! | `exchange` | the statements of a report |
//! | `reporter` | the task that reports |
//! | `handovers` | a consumer that hands values to others |

mod clock;
mod consumer;
mod exchange;
#[cfg(feature = "cli")]
mod handovers;
mod permit;
mod primary;
mod promises;
mod reporter;
mod term;

pub use clock::Clock;
pub(crate) use consumer::name;
#[cfg(feature = "cli")]
pub use handovers::Handovers;
pub(crate) use permit::Permit;
pub(crate) use primary::{Access, Primary};
pub(crate) use promises::{Promises, Report};
pub(crate) use reporter::{Holder, Reporter, Terms};

/// Whether a consumer holds a lease, so that `rotation_status` knows what it uses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lease {
    /// The lease runs, even if the server does not answer just now.
    Running,
    /// The lease has run out, or there is none yet: values cannot be used until the server answers again.
    Lapsed {
        /// Why the server has granted none.
        reason: String,
    },
    /// The server grants none: the database has the SQL of an earlier version, the role may not execute
    /// `report_held_revisions`, or the settings lead to a standby alone. Values are used without a lease. A
    /// consumer that had a lease does not go on without one.
    Unsupported {
        /// The server's answer.
        reason: String,
    },
    /// None is asked for: [`CacheOptions::grace`](crate::CacheOptions::grace) is zero.
    Off,
}
