//! Keeping a secret that came in the text of a statement, or beside it, out of what the server shows.
//!
//! | module | concept |
//! | --- | --- |
//! | `statement` | the text of a statement in this server: found, overwritten where it stands, reported anew |
//! | `hooks` | where Postgres hands a text on: after parsing, before executing, and when a transaction fails |
//! | `log` | every message on its way into the log, and to the client |
//! | `live` | the values that this transaction has set |
//!
//! The text is overwritten in place rather than kept from each of its readers: Postgres has parsed it by then and needs it
//! for nothing but to show it, and its readers (views, statistics, cursors, contexts, other extensions) are many.

mod hooks;
pub mod live;
mod log;
mod statement;

pub use statement::{Came, how_the_value_came};

/// Takes hold of the hooks. For the postmaster, so that every process has them.
pub fn install() {
    hooks::install();
    log::install();
}
