//! What Postgres offers, in Rust: nothing here knows of credentials.
//!
//! | module | concept |
//! | --- | --- |
//! | `call` | how a call comes in, and how a result or an error goes out |
//! | `prepared` | SQL that is planned once a session |
//! | `relation` | a table of the extension by its name |
//! | `index_scan`, `heap_insert` | reading one row by its key; adding one to a log |
//! | `tuplestore` | a result of many rows, which stays in memory |
//! | `advisory_lock` | locks of the extension's own |
//! | `jsonb`, `text`, `timestamp` | values of these types |

pub mod advisory_lock;
pub mod call;
pub mod heap_insert;
pub mod index_scan;
pub mod jsonb;
pub mod prepared;
pub mod relation;
pub mod text;
pub mod timestamp;
pub mod tuplestore;
