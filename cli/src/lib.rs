//! Client of the Postgres extension `integration_credentials`.
//!
//! | type | concept |
//! | --- | --- |
//! | [`CredentialCache`] | for services: credentials in memory, as current as the database |
//! | [`Watcher`] | a stream of [`Event`]s: what changed, however often the connection broke |
//! | [`Client`] | the calls: set, get, list, remove, the catalog, the audit log |
//! | [`Doctor`] | what in the server's settings and grants could let a secret out |
//! | [`Settings`] | where and how to connect, from the same sources as psql |
//! | [`Secret`], [`Credential`] | a text that is neither shown nor left in memory |
//! | [`make_undumpable`] | for a process that holds secrets and nothing else |
//! | [`Error`] | what can go wrong, typed, in words that are fit to be shown |
//!
//! # Quick start
//!
//! In a tokio runtime, as a role that is in the group `integration_credentials_reader`:
//!
//! ```no_run
//! # async fn quick_start() -> Result<(), intcred::Error> {
//! use intcred::{CacheOptions, CredentialCache, Settings};
//!
//! let settings = Settings::resolve(None)?; // PGHOST, PGSERVICE, ~/.pgpass ...
//! let credentials = CredentialCache::start(&settings, CacheOptions::default()).await?;
//! credentials.warm().await?; // all in one round trip; or leave it, and each is read when it is first needed
//!
//! // In each request. Nanoseconds, and the current one. Don't keep it: get it again.
//! let token = credentials.get("slack").await?;
//! call_slack(token.expose());
//!
//! // When Slack refuses it: is there another one by now?
//! let newer = credentials.reread("slack", token.revision()).await?;
//! if newer.revision() != token.revision() {
//!     call_slack(newer.expose());
//! }
//!
//! // For what must be built anew with a new credential, such as a connection.
//! let mut changes = credentials.changes();
//! loop {
//!     let change = changes.recv().await;
//!     if change.key == "salesforce" && change.is_available {
//!         connect_to_salesforce(credentials.get("salesforce").await?.expose());
//!     }
//! }
//! # }
//! # fn call_slack(_: &str) {}
//! # fn connect_to_salesforce(_: &str) {}
//! ```
//!
//! `examples/service.rs` is a whole service. With the feature `pool`, the cache fetches over a pool of deadpool-postgres.
//! Who caches by other means follows the changes with a [`Watcher`]:
//!
//! ```no_run
//! # async fn watch() -> Result<(), intcred::Error> {
//! use intcred::{EventKind, Settings, WatchOptions, Watcher};
//!
//! let mut watcher = Watcher::start(&Settings::resolve(None)?, WatchOptions::default()).await?;
//! while let Some(event) = watcher.recv().await {
//!     match event.kind {
//!         EventKind::Changed { key, revision, .. } => println!("{key} is at revision {revision}"),
//!         EventKind::Disconnected { since, reason } => println!("no news since {since}: {reason}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! **What is delivered.** Every change that is committed is reported, through restarts, failovers and lost connections,
//! or a later change of the same key is reported in its place. Nothing is reported that is not in the database: a
//! notification is only a hint to look there, so that a forged one reports nothing.
//!
//! **In what order.** For one key, revisions are reported in the order of their commits. Between keys there is no order,
//! as there is none between transactions that commit at the same time. After [`EventKind::Reconnected`] comes what
//! changed in between.
//!
//! **How stale a read can be.** [`CredentialCache::get`] returns what was current at some moment:
//!
//! - while the watcher listens: a moment no further back than a notification and two round trips take, milliseconds as a
//!   rule. Hints that follow one another within 10 ms are answered together;
//! - while it polls a standby ([`Mode::Polling`]): than [`WatchOptions::poll`], and the lag of the standby;
//! - when the connection has died without a word: than [`WatchOptions::heartbeat`] and [`WatchOptions::timeout`] together,
//!   for that is how long it takes to find out;
//! - while there is no connection: than [`CacheOptions::grace`], counted from the server's last answer. Then reads go to
//!   the server, and are as current as that is.
//!
//! **Never backwards.** For one key, a cache never returns a lower revision than it returned before, even if it fetches
//! from a server that is behind: it asks again, and after [`CacheOptions::timeout`] gives [`Error::Behind`]. The exception
//! is a database that went back itself: one restored from a backup, or a failover that lost what was committed.
//!
//! **Transactions.** Each call is a transaction of its own, READ COMMITTED, whatever `default_transaction_*` say. It is made
//! again, three times at most, where Postgres rolled it back for the sake of another (SQLSTATE 40001, 40P01). The settings
//! of a session of yours, such as a pool's, stay as they are.
//!
//! **Removed and disabled** credentials are errors as soon as the watcher sees it, not the last known value.
//!
//! **One fetch.** However many ask for a key that is not in memory, it is fetched once at a time; a fetch during which the
//! key changes is not kept but made again.
//!
//! **In memory.** A value is wiped when the cache has another one and the last handle on it is dropped. What the TLS and
//! protocol libraries hold of it on its way is theirs.

mod backoff;
mod bounded_read;
mod cache;
mod catalog;
mod client;
mod connect;
mod deadline;
mod doctor;
mod error;
mod grants;
mod process;
mod secret;
mod session;
mod settings;
mod timestamp;
mod tls;
mod transaction;
mod watcher;

pub use cache::{CacheOptions, Change, Changes, Credential, CredentialCache};
pub use catalog::{AuditEntry, Description, Integration, Receipt, Registration, SyncFailure};
pub use client::{Client, Notice};
pub use doctor::{Doctor, Finding, Fix, Verdict};
pub use error::Error;
pub use grants::Group;
pub use integration_credentials_core::error::ErrorCode;
pub use process::make_undumpable;
pub use secret::Secret;
pub use settings::{Settings, SettingsError, os_user};
pub use timestamp::Timestamp;
pub use watcher::{Event, EventKind, KeyState, Mode, Snapshot, WatchOptions, Watcher};

/// For the binary of this package alone, and no part of the library's interface.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod internal {
    pub use crate::{backoff::Backoff, bounded_read::read_bounded, deadline::within};
}
