//! Keeping a secret that came in the text of a statement, or beside it, out of what the server shows.
//!
//! | module | concept |
//! | --- | --- |
//! | `text` | which statements may hold a secret |
//! | `analysis` | whether a statement calls one of our functions, once Postgres has parsed it |
//! | `shown` | the text of a statement, overwritten where it stands |
//! | `activity` | what `pg_stat_activity` shows of this session |
//! | `log` | every message on its way into the log, and to the client |
//! | `live` | the values that this transaction has set |
//!
//! The text is overwritten in place rather than kept from each of its readers: Postgres has parsed it by then and needs it
//! for nothing but to show it, and its readers (views, statistics, cursors, contexts, other extensions) are many.
//!
//! All of this sees the statements of people who never heard of us. It works in linear time, on a constant stack, in
//! memory that it asks for and may be refused, and raises no error; on doubt a text is dropped.

mod activity;
mod analysis;
mod live;
mod log;
mod shown;
mod text;

pub use activity::watch_errors;
pub use live::{forget, remember, remember_if_secret};
pub use log::{distrust, install};
pub use shown::{analyzed, masked_copy};
pub use text::{Came, begin_to_run, go_on_with, how_the_value_came};
