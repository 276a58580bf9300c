//! Keeping a secret that came in the text of a statement, or beside it, out of what the server shows.
//!
//! | module | concept |
//! | --- | --- |
//! | `statement` | the text of a statement in this server: found, overwritten where it stands, reported anew |
//! | `memo` | what was found in the text of last time |
//! | `log` | every message on its way into the log, and to the client |
//! | `live` | the values that this transaction has set |
//!
//! The text is overwritten in place rather than kept from each of its readers: Postgres has parsed it by then and needs it
//! for nothing but to show it, and its readers (views, statistics, cursors, contexts, other extensions) are many.

mod live;
mod log;
mod memo;
mod statement;

pub use live::{remember, remember_if_secret};
pub use log::{distrust, install};
pub use statement::{Came, analyzed, how_the_value_came, masked_copy};

/// A transaction has failed, and its error is written.
pub fn transaction_failed() {
    statement::report_activity_again();
    live::forget();
}

/// A transaction has ended well.
pub fn transaction_done() {
    live::forget();
}
