//! Keeps a secret that came in the text of a statement, or as its parameter, out of everything that the
//! server shows.
//!
//! | module | concept |
//! | --- | --- |
//! | `text` | which statements may hold a secret |
//! | `shown` | masking the text of a statement in place |
//! | `activity` | masking the text in `pg_stat_activity` |
//! | `log` | redacting each message to the log and the client |
//! | `transaction_values` | the values that this transaction has set |
//!
//! The text is overwritten in place, because it has many readers: views, statistics, cursors, error contexts
//! and other extensions. By then Postgres has parsed the text, and only shows it.
//!
//! This code runs for every statement of the server. It takes linear time, a constant stack and memory that
//! may be refused, and raises no error; on doubt it drops a text. So it calls nothing of Postgres that may
//! raise an error, not even to look a function up: pgrx's guard copies an error, and without memory for the
//! copy the server panics.

mod activity;
mod log;
mod shown;
mod text;
mod transaction_values;

pub use activity::watch_errors;
pub use log::{distrust, redact};
pub use shown::{analyzed, free_copy, masked_copy};
pub use text::{Came, begin_to_run, go_on_with, how_the_value_came};
pub use transaction_values::{remember, remember_if_secret};

/// Runs after a transaction has failed and its error is written.
pub fn transaction_failed() {
    transaction_values::forget();
}

/// Runs after a commit.
pub fn transaction_done() {
    activity::hide_what_was_not_analyzed();
    transaction_values::forget();
}
