//! The proof of the audit log: heads, proofs of rows, and verifying the whole.
//!
//! `docs/audit.md` has the formats. All checks run here, with public keys alone: a server that was tampered
//! with is not asked for its opinion.

mod proof;
mod verify;

pub use proof::{Head, Proof, ProofError};
pub use verify::{Problem, Verification};

use crate::{
    AuditEntry, Client, Error,
    session::column,
    transaction::{READ, WRITE},
};
use serde_json::Value;
use std::time::SystemTime;
use tokio_postgres::types::Type;

impl Client {
    /// The newest block of the audit log, to be kept elsewhere; `None` before the first one.
    pub async fn audit_head(&self) -> Result<Option<Head>, Error> {
        let sql =
            "SELECT h.header, h.signature, h.endorsement FROM integration_credentials.audit_head() AS h";
        self.0.rows(READ, sql, &[]).await?.first().map(Head::from_row).transpose()
    }

    /// Asks the server to seal the rows that are in no block, which it does unasked after a change.
    pub async fn audit_seal(&self) -> Result<(), Error> {
        let sql = "SELECT integration_credentials.audit_seal()";
        self.0.rows(READ, sql, &[]).await.map(drop)
    }

    /// The proof of a row of the org; `None` if the org has no such row in a block.
    pub async fn audit_proof(&self, id: i64) -> Result<Option<Proof>, Error> {
        let sql = "SELECT p.* FROM integration_credentials.audit_proof($1) AS p";
        self.0.rows(READ, sql, &[(&id, Type::INT8)]).await?.first().map(Proof::from_row).transpose()
    }

    /// The rows of the org in the `blocks` blocks after block `after`, each with the number of its block.
    pub async fn audit_sealed(&self, after: i64, blocks: i32) -> Result<Vec<(i64, AuditEntry)>, Error> {
        let sql = "SELECT s.* FROM integration_credentials.audit_sealed($1, $2) AS s";
        let rows = self.0.rows(READ, sql, &[(&after, Type::INT8), (&blocks, Type::INT4)]).await?;
        rows.iter().map(|row| Ok((column(row, 0)?, AuditEntry::from_row(row, 1)?))).collect()
    }

    /// Deletes the rows of all blocks that were sealed before a moment; for superusers. Returns the server's
    /// answer.
    pub async fn audit_prune(&self, before: SystemTime) -> Result<Value, Error> {
        let sql = "SELECT integration_credentials.audit_prune($1)";
        column(&self.0.row(WRITE, sql, &[(&before, Type::TIMESTAMPTZ)]).await?, 0)
    }
}
