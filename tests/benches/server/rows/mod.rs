//! The table: what is compared with what, and the target of each.

mod audit;
mod client;
mod consumers;
mod first;
mod logging;
mod read;
mod write;

pub use audit::proof;
pub use client::client;
pub use consumers::{CONSUMERS, held, renewal, renewals};
pub use first::first;
pub use logging::logging;
pub use read::{GET, ledger, list, read, reads};
pub use write::{SET, calls, crowd, delivery, grown, keeping, listeners, single, write_cpu};

/// The baselines, by the letters of `baselines.sql`.
pub const SELECT_1: &str = "(a) SELECT 1";
pub const UPDATE: &str = "(b) UPDATE of a row";
pub const PLPGSQL: &str = "(c) PL/pgSQL, plaintext";
pub const PGCRYPTO: &str = "(d) PL/pgSQL, pgcrypto";
pub const PGCRYPTO_TUNED: &str = "(d) without key stretching";
pub const STATEMENTS: &str = "(e) statements of a client";
pub const SELECT: &str = "(f) SELECT of a row";
