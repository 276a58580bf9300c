//! Client of the Postgres extension `integration_credentials`.
//!
//! | module or type | concept |
//! | --- | --- |
//! | [`Settings`] | where and how to connect, from the same sources as psql |
//! | [`Client`] | the calls: set, get, list, remove, the catalog, the audit log |
//! | [`Watcher`] | a stream of [`Event`]s: what changed, however often the connection broke |
//! | [`Doctor`] | what in the server's settings and grants could let a secret out |
//! | [`Secret`] | a text that is neither shown nor left in memory |
//! | [`make_undumpable`] | for a process that holds secrets and nothing else |
//! | [`Error`] | what can go wrong, typed, in words that are fit to be shown |
//!
//! ```no_run
//! # async fn quick_start() -> Result<(), intcred::Error> {
//! use intcred::{Client, EventKind, Settings, WatchOptions, Watcher};
//!
//! let settings = Settings::resolve(None)?; // PGHOST, PGSERVICE, ~/.pgpass ...
//! let client = Client::connect(&settings, |notice| eprintln!("{}", notice.message)).await?;
//! let mut token = client.get("salesforce").await?;
//!
//! let mut watcher = Watcher::start(&settings, WatchOptions::default()).await?;
//! while let Some(event) = watcher.recv().await {
//!     if matches!(event.kind, EventKind::Changed { key, .. } if key == "salesforce") {
//!         token = client.get("salesforce").await?;
//!     }
//! }
//! # drop(token);
//! # Ok(())
//! # }
//! ```

mod catalog;
mod client;
mod connect;
mod doctor;
mod error;
mod grants;
mod process;
mod secret;
mod session;
mod settings;
mod timestamp;
mod tls;
mod watcher;

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
pub use watcher::{Event, EventKind, WatchOptions, Watcher};
