//! What Postgres offers, in Rust: nothing here knows of credentials.
//!
//! | module | concept |
//! | --- | --- |
//! | `call` | how a call comes in, and how its result goes out |
//! | `error` | how an error, a notice or a line of the log goes out |
//! | `session` | what the server knows of this process |
//! | `ffi` | what pgrx's bindings lack |
//! | `prepared` | SQL that is planned once a session |
//! | `relation` | a table of the extension by its name |
//! | `index_scan`, `heap_insert` | reading one row by its key; adding one to a log |
//! | `tuplestore` | a result of many rows, which stays in memory |
//! | `lock` | the locks that the extension takes beside those of tables |
//! | `jsonb`, `text`, `timestamp` | values of these types |
//! | `version` | what differs between the majors of Postgres |

pub mod call;
pub mod error;
pub mod ffi;
pub mod heap_insert;
pub mod index_scan;
pub mod jsonb;
pub mod lock;
pub mod prepared;
pub mod relation;
pub mod session;
pub mod text;
pub mod timestamp;
pub mod tuplestore;
pub mod version;
