//! Postgres' own functions, in Rust. Nothing here knows of credentials.
//!
//! | module | concept |
//! | --- | --- |
//! | `call` | the boundary: arguments, results, errors and panics |
//! | `error` | raising errors, sending notices, writing log lines |
//! | `session` | the server's variables of this process |
//! | `ffi` | symbols that pgrx's bindings lack |
//! | `owner` | writing to a table as its owner |
//! | `prepared` | SQL that is planned once a session |
//! | `relation` | tables of the extension by name, and their invalidations |
//! | `index_scan`, `heap_insert` | finding a row by its key; appending a row to a log |
//! | `row` | a row that was found, and its columns |
//! | `tuplestore` | a result of many rows |
//! | `latch` | waiting, in a background worker |
//! | `lock` | advisory locks of the extension, and the lock of NOTIFY |
//! | `jsonb`, `text`, `tid`, `timestamp` | values of these types |
//! | `version` | what differs between the majors of Postgres |

pub mod call;
pub mod error;
pub mod ffi;
pub mod heap_insert;
pub mod index_scan;
pub mod jsonb;
pub mod latch;
pub mod lock;
pub mod owner;
pub mod prepared;
pub mod relation;
pub mod row;
pub mod session;
pub mod text;
pub mod tid;
pub mod timestamp;
pub mod tuplestore;
pub mod version;
