//! Client of the Postgres extension `integration_credentials`.
//!
//! | type | concept |
//! | --- | --- |
//! | [`CredentialCache`] | for services: credentials in memory, as current as the database |
//! | [`Watcher`] | a stream of [`Event`]s: every change, also those during an outage |
//! | [`Client`] | the calls: set, get, list, remove, rotate, find, the catalog, the audit log |
//! | [`Doctor`] | finds settings and grants of the server that could expose a secret |
//! | [`Settings`] | the connection settings, from the same sources as psql |
//! | [`SealingKey`] | seals a value for another process to set |
//! | [`Secret`], [`Credential`] | a text that is neither shown nor left in memory |
//! | [`make_undumpable`] | no core dumps and no debugger, for a process that holds secrets |
//! | [`Error`] | typed errors, whose messages contain no secret |
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
//! credentials.warm().await?; // optional: fetches all in one round trip
//!
//! // In each request: the current credential, in nanoseconds. Get it again rather than keep it.
//! let token = credentials.get("slack").await?;
//! call_slack(token.expose()?);
//!
//! // After Slack has refused the token: has it been rotated?
//! let newer = credentials.reread("slack", token.revision()).await?;
//! if newer.revision() != token.revision() {
//!     call_slack(newer.expose()?);
//! }
//!
//! // For objects that must be replaced after a rotation, such as a connection.
//! let mut changes = credentials.changes();
//! loop {
//!     let change = changes.recv().await;
//!     if change.key == "salesforce" && change.is_available {
//!         connect_to_salesforce(credentials.get("salesforce").await?.expose()?);
//!     }
//! }
//! # }
//! # fn call_slack(_: &str) {}
//! # fn connect_to_salesforce(_: &str) {}
//! ```
//!
//! `examples/service.rs` is a whole service. With the feature `pool`, the cache fetches over a pool of
//! deadpool-postgres. A service with a cache of its own follows the changes with a [`Watcher`]:
//!
//! ```no_run
//! # async fn watch() -> Result<(), intcred::Error> {
//! use intcred::{EventKind, Settings, WatchOptions, Watcher};
//!
//! let mut watcher = Watcher::start(&Settings::resolve(None)?, WatchOptions::default()).await?;
//! while let Some(event) = watcher.recv().await {
//!     match event.kind {
//!         EventKind::Changed { key, revision, .. } => println!("{key} is at revision {revision}"),
//!         EventKind::Disconnected { since, reason } => println!("disconnected since {since}: {reason}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! **Delivery.** A watcher reports every committed change, or a later change of the same key in its place,
//! through restarts, failovers and lost connections. A notification only causes a query, so a forged
//! notification reports nothing.
//!
//! **Order.** For one key, a watcher reports revisions in the order of their commits. Between keys there is
//! no order. The changes of an outage follow [`EventKind::Reconnected`].
//!
//! **Staleness.** The value that [`CredentialCache::get`] returns may be out of date by at most:
//!
//! - while the watcher listens: the time of a notification and two round trips, usually milliseconds.
//!   Notifications within 10 ms share one query;
//! - while the watcher polls a standby ([`Mode::Polling`]): [`WatchOptions::poll`] and the lag of the
//!   standby;
//! - after the connection died silently: [`WatchOptions::heartbeat`] and [`WatchOptions::timeout`] together,
//!   which is the time to detect that;
//! - while disconnected: [`CacheOptions::grace`], counted from before the last report that the server
//!   answered. After that, nothing is returned until the server answers.
//!
//! **Convergence.** A cache holds a lease ([`CredentialCache::lease`]), and reports which revisions it and
//! its handles hold. While `rotation_status` calls a rotation converged, no cache and no [`Credential`] gives
//! an older value: a cache that is cut off stops before the server forgets it. Once the lease is over,
//! [`Credential::expose`] is [`Error::LeaseOver`]. A value in use when the lease ran out is usable again if
//! it is still current. A cache without a lease ([`Lease::Unsupported`], [`Lease::Off`]) is not waited for.
//!
//! **Never backwards.** For one key, a cache never returns a lower revision than before. If the server that
//! answers is behind, the cache fetches again, and after [`CacheOptions::timeout`] returns [`Error::Behind`].
//! The exception is a database that went back: restored from a backup, or after a failover that lost commits.
//!
//! **Transactions.** Each call is a READ COMMITTED transaction of its own, whatever `default_transaction_*`
//! say. A call that Postgres rolled back in favour of another (SQLSTATE 40001, 40P01) is retried up to three
//! times. The settings of a pool's sessions are not changed.
//!
//! **Removed and disabled** credentials are errors as soon as the watcher sees the change.
//!
//! **Single flight.** Concurrent callers of a key that is not cached share one fetch. If the key changes
//! during the fetch, the cache does not keep the value, and fetches again.
//!
//! **Memory.** A value is wiped once the cache has dropped the value and the last handle is gone. The buffers
//! of the TLS and protocol libraries are not wiped.

mod audit;
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
mod keys;
mod lease;
#[cfg(feature = "mcp")]
mod login_keys;
mod process;
mod rotation;
mod sealing_key;
mod secret;
mod session;
mod settings;
mod timestamp;
mod tls;
mod transaction;
mod watcher;

pub use audit::{Head, Problem, Proof, ProofError, Verification};
pub use cache::{CacheOptions, Change, Changes, Credential, CredentialCache};
pub use catalog::{AuditEntry, CredentialRead, Description, Integration, Receipt, Registration, SyncFailure};
pub use client::{Client, Notice};
pub use doctor::{Doctor, Finding, Fix, Verdict};
pub use error::Error;
pub use grants::Group;
pub use integration_credentials_core::error::ErrorCode;
pub use keys::{KeyUsage, ReencryptProgress, Reencrypted, ServerKey, Unreadable};
pub use lease::Lease;
pub use process::make_undumpable;
pub use rotation::{
    Behind, Convergence, Found, RotationState, RotationStatus, SetOptions, Undecryptable, ValidCredential,
    Which, WouldBe,
};
pub use sealing_key::SealingKey;
pub use secret::Secret;
pub use settings::{Settings, SettingsError, os_user};
pub use timestamp::Timestamp;
pub use watcher::{Event, EventKind, KeyState, Mode, Snapshot, WatchOptions, Watcher};

/// Only for the binary of this package; not part of the library's interface.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod internal {
    pub use crate::{backoff::Backoff, bounded_read::read_bounded, deadline::within, lease::Handovers};
    #[cfg(feature = "mcp")]
    pub use crate::{
        client::{Identity, IntegrationPage, Rights},
        login_keys::{LoginKey, NewLoginKey, Scope},
    };
}

/// Only for the tests of this repository.
#[doc(hidden)]
pub mod testing {
    pub use crate::lease::Clock;
}
