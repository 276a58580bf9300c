//! Keeping a secret that came in the text of a statement, or beside it, out of what the server shows.
//!
//! | module | concept |
//! | --- | --- |
//! | `text` | which statements may hold a secret |
//! | `shown` | the text of a statement, overwritten where it stands |
//! | `activity` | what `pg_stat_activity` shows of this session |
//! | `log` | every message on its way into the log, and to the client |
//! | `transaction_values` | the values that this transaction has set |
//!
//! The text is overwritten in place rather than kept from each of its readers: Postgres has parsed it by then and needs it
//! for nothing but to show it, and its readers (views, statistics, cursors, contexts, other extensions) are many.
//!
//! All of this sees the statements of people who never heard of us. It works in linear time, on a constant stack, in
//! memory that it asks for and may be refused, and raises no error; on doubt a text is dropped. So it calls nothing of
//! Postgres that may raise an error, not even to look a function up: pgrx's guard copies an error before it goes on, and
//! without memory for the copy the server panics.

mod activity;
mod log;
mod shown;
mod text;
mod transaction_values;

pub use activity::watch_errors;
pub use log::{distrust, install};
pub use shown::{analyzed, free_copy, masked_copy};
pub use text::{Came, begin_to_run, go_on_with, how_the_value_came};
pub use transaction_values::{remember, remember_if_secret};

/// A transaction has failed, and its error is written.
pub fn transaction_failed() {
    transaction_values::forget();
}

/// A transaction has ended well.
pub fn transaction_done() {
    activity::hide_what_was_not_analyzed();
    transaction_values::forget();
}
