//! What the extension and its client share: no Postgres, no network, no clock.
//!
//! | module | concept |
//! | --- | --- |
//! | [`error`] | the error codes, their status and SQLSTATE, and a failure that carries one |
//! | [`limits`] | how long a key, a value and an actor may be |
//! | `rules` | what the catalog demands of a value (with the feature of that name) |
//! | [`keyring`] | the keys, and the document they are kept in |
//! | [`buffer`] | memory for what runs in hooks |
//! | [`envelope`] | a credential as it is stored: encrypted, bound to its place |
//! | [`seal`] | a value that its owner encrypted, to a public key of the server |
//! | [`redact`] | a text without the secret |
//! | [`sql_text`] | the text of statements and messages, without what may be a secret |
//! | [`tool`] | which parameters of which tool are sensitive |
//! | [`event`] | the payload of a notification |
//! | [`jsonb`] | a JSON document in Postgres' own form |
//! | [`ring_buffer`] | payloads on their way from the transactions that committed to the process that sends them |

pub mod buffer;
pub mod envelope;
pub mod error;
pub mod event;
mod frame;
pub mod jsonb;
pub mod keyring;
pub mod limits;
mod locked_page;
pub mod redact;
pub mod ring_buffer;
#[cfg(feature = "rules")]
pub mod rules;
pub mod seal;
pub mod sql_text;
pub mod tool;
