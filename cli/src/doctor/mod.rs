//! The examination of a database: what could let a secret out, and what to do about it.
//!
//! | module | concept |
//! | --- | --- |
//! | `finding` | what a check found: verdict, words, remedy |
//! | `checks` | the checks, each a query of `sql/` and why it matters |
//! | `cves` | the security fixes that the server should have |

mod checks;
mod cves;
mod finding;

pub use finding::{Finding, Fix, Verdict};

use crate::{
    Client, Error,
    session::column,
    transaction::{READ_PINNED, WRITE_PINNED},
};
use checks::{CHECKS, Check};
use integration_credentials_core::error::ErrorCode;

/// Examines a database over a connection that it takes for itself.
pub struct Doctor(Client);

impl Doctor {
    /// Takes the connection over. What anybody has put into its `search_path` plays no part in what it does there.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self(client)
    }

    /// Makes every check, in the order of the table. What the role may not see is [`Verdict::Unknown`].
    pub async fn examine(&self) -> Result<Vec<Finding>, Error> {
        let mut findings = Vec::new();
        for check in CHECKS {
            findings.extend(self.run(check).await?);
        }
        let version = self
            .0
            .0
            .row(READ_PINNED, "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4", &[])
            .await?;
        findings.extend(cves::examine(column(&version, 0)?));
        Ok(findings)
    }

    /// Runs statements, all of them or, when one fails, none.
    pub async fn apply<'a>(&self, statements: impl Iterator<Item = &'a str>) -> Result<(), Error> {
        self.0.0.batch(WRITE_PINNED, &statements.collect::<Vec<_>>().join("\n")).await
    }

    /// Takes leave of the server.
    pub async fn close(self) {
        self.0.close().await;
    }

    async fn run(&self, check: &Check) -> Result<Vec<Finding>, Error> {
        let finding = |verdict, found| check.finding(verdict, found);
        match self.0.0.rows(READ_PINNED, check.sql, &[]).await {
            Ok(rows) if rows.is_empty() => Ok(vec![finding(Verdict::Ok, check.good.to_owned())]),
            Ok(rows) => rows.iter().map(|row| check.read(row)).collect(),
            Err(Error::Refused { code: ErrorCode::ForbiddenAdminScope, message, .. }) => {
                Ok(vec![finding(Verdict::Unknown, format!("{message}; ask as a superuser"))])
            }
            Err(Error::ExtensionMissing { .. }) => {
                Ok(vec![finding(Verdict::Unknown, "this database does not have the extension".to_owned())])
            }
            // What the server says of its own keyring.
            Err(Error::Refused { code: ErrorCode::EncryptionUnavailable, message, hint }) => {
                Ok(vec![Finding { fix: hint.map(Fix::ByHand), ..finding(Verdict::Problem, message) }])
            }
            Err(error) => Err(error),
        }
    }
}
