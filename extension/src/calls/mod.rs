//! The calls of the SQL surface, in the order in which `sql/functions.sql` declares them.
//!
//! | module | concept |
//! | --- | --- |
//! | `set`, `remove`, `read` | the calls about one credential, sealed or not |
//! | `reads` | who has read which credential |
//! | `catalog` | the calls about the catalog |
//! | `functions` | registering the validator and the sync handler of an entry |
//! | `caller` | the role that called, and running as the owner |
//! | `key_lock` | one transaction at a time changes a credential |

pub mod caller;
pub mod catalog;
pub mod functions;
mod key_lock;
pub mod read;
pub mod reads;
pub mod remove;
pub mod set;
