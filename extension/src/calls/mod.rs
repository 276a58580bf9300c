//! The calls of the SQL surface, in the order in which `sql/functions.sql` declares them.
//!
//! | module | concept |
//! | --- | --- |
//! | `set`, `remove`, `read` | the calls about one credential, sealed or not |
//! | `list` | the entries of some keys, with the state of each credential |
//! | `reads` | who has read which credential |
//! | `pending` | promoting and discarding a pending value |
//! | `previous` | rolling back to a previous value, and retiring it |
//! | `consumers` | the leases of processes that hold credentials |
//! | `rotation_status` | whether a process may still use an older value |
//! | `find` | the calls that look at every stored value |
//! | `catalog` | the calls about the catalog |
//! | `functions` | registering the validator and the sync handler of an entry |
//! | `keys`, `reencrypt` | the calls about keys of encryption, and bringing all ciphertexts to one key |
//! | `caller` | the role that called, and running as the owner |
//! | `stored`, `receipt` | the row of a credential before a change, and what the change answers |
//! | `key_lock` | one transaction at a time changes a credential |

pub mod caller;
pub mod catalog;
pub mod consumers;
pub mod find;
pub mod functions;
mod key_lock;
pub mod keys;
pub mod list;
pub mod pending;
pub mod previous;
pub mod read;
pub mod reads;
mod receipt;
pub mod reencrypt;
pub mod remove;
pub mod rotation_status;
pub mod set;
mod stored;
