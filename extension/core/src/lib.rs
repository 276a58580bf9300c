//! The code that the extension and its client share, without Postgres, network and clock.
//!
//! | module | concept |
//! | --- | --- |
//! | [`error`] | the error codes, their status and SQLSTATE, and a refusal that carries one |
//! | [`limits`] | how long a key, a value and an actor may be |
//! | [`options`] | the options of a set call |
//! | `rules` | the catalog's rules for a value (with the feature of that name) |
//! | [`keyring`], [`archive`] | the keys, and their document; the retired keys, and theirs |
//! | [`buffer`] | fallible memory for code in hooks |
//! | [`envelope`] | a stored credential: encrypted, bound to its place |
//! | [`audit`] | the proof of the audit log: MACs of rows, and signed blocks |
//! | [`seal`] | a value that a client encrypted to a public key of the server |
//! | [`redact`] | removing a known secret from a text |
//! | [`sql_text`] | redacting statements and messages that may hold a secret |
//! | [`tool`] | the metered functions, and their sensitive parameters |
//! | [`event`] | the payload of a notification |
//! | [`jsonb`] | a JSON document in Postgres' own form |
//! | [`ring_buffer`] | the queue of payloads between committing transactions and the worker |
//! | [`read_ledger`] | who read what, in memory of a fixed size |
//! | [`board`] | the databases with maintenance to do, and their workers |

pub mod archive;
pub mod audit;
pub mod board;
pub mod buffer;
pub mod envelope;
pub mod error;
pub mod event;
mod frame;
pub mod jsonb;
pub mod keyring;
pub mod limits;
mod locked_page;
pub mod options;
pub mod read_ledger;
pub mod redact;
pub mod ring_buffer;
#[cfg(feature = "rules")]
pub mod rules;
pub mod seal;
pub mod sql_text;
pub mod tool;
