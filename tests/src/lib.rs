//! The harness of the end-to-end tests: throwaway Postgres clusters, and tools to inspect them. Everything in
//! here panics when something is wrong.
//!
//! | module | concept |
//! | --- | --- |
//! | [`installation`] | the Postgres installation under test, and the user its programs run as |
//! | [`backend`] | what the process of a session has used |
//! | [`builder`] | the options of a cluster |
//! | [`cluster`] | a cluster: started, stopped, killed, and removed with the test |
//! | `standby` | a hot standby: a copy of a running cluster that follows it |
//! | `janitor` | cleans up after a test process, however it ends |
//! | [`database`] | a fresh database with the extension, and its roles |
//! | [`document`] | the parts of the documents that tests write |
//! | [`session`] | a connection, with the notices and notifications it received |
//! | [`wire`] | a connection without a driver in between |
//! | [`process`] | running a program: arguments and standard input in, exit code and output back |
//! | [`canary`] | a random secret, and the search for it in any form |
//! | [`refusal`] | the form of each error of the extension |

pub mod backend;
pub mod builder;
pub mod canary;
pub mod cluster;
pub mod database;
pub mod document;
pub mod installation;
mod janitor;
pub mod process;
pub mod refusal;
pub mod session;
mod standby;
pub mod wire;

pub use builder::Builder;
pub use canary::Canary;
pub use cluster::{Cluster, Shutdown, free_port};
pub use database::{ADMIN, AUDITOR, Database, OUTSIDER, READER, SUPERUSER};
pub use process::{Output, intcred, run, write_executable};
pub use refusal::assert_error;
pub use session::Session;
pub use wire::Wire;
