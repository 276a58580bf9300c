//! Validators and sync handlers: functions of other owners, which run in a sandbox because they see
//! plaintext.
//!
//! | module | concept |
//! | --- | --- |
//! | `routine` | finding the function that the catalog names, and calling it |
//! | `sandbox` | running the function with its owner's rights, in a subtransaction, with pinned settings |
//! | `cursors` | hiding the caller's cursors from the function |
//! | `silence` | keeping what the function prints from the log and the client |
//! | `cancel` | whether the statement was cancelled while the function ran |
//! | `validator`, `sync_handler` | the calls before and after a credential is saved |

mod cancel;
mod cursors;
pub mod routine;
pub mod sandbox;
pub mod silence;
pub mod sync_handler;
pub mod validator;
