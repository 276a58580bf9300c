//! Checks of a server and a database for problems that could expose a secret.
//!
//! | module | concept |
//! | --- | --- |
//! | `finding` | the result of a check: verdict, text, fix |
//! | `checks` | the checks, each a query in `sql/` with the reason |
//! | `cves` | the security fixes of PostgreSQL that the server should have |

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

/// Checks a server and a database, over a connection of its own.
pub struct Doctor(Client);

impl Doctor {
    /// Takes over a connection. The checks do not depend on its `search_path`.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self(client)
    }

    /// Runs all checks, in the order of the table. A check that the role may not run is [`Verdict::Unknown`].
    ///
    /// # Errors
    /// Any error of the connection, or of a query other than a missing privilege.
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

    /// Runs statements in one transaction.
    ///
    /// # Errors
    /// The error of the first statement that fails. Then no statement has an effect.
    pub async fn apply<'a>(&self, statements: impl Iterator<Item = &'a str>) -> Result<(), Error> {
        self.0.0.batch(WRITE_PINNED, &statements.collect::<Vec<_>>().join("\n")).await
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.0.close().await;
    }

    async fn run(&self, check: &Check) -> Result<Vec<Finding>, Error> {
        let finding = |verdict, found| check.finding(verdict, found);
        match self.0.0.rows(READ_PINNED, check.sql, &[]).await {
            Ok(rows) if rows.is_empty() => Ok(vec![finding(Verdict::Ok, check.good.to_owned())]),
            Ok(rows) => rows.iter().map(|row| check.read(row)).collect(),
            Err(Error::Refused { code: ErrorCode::ForbiddenAdminScope, message, .. }) => {
                Ok(vec![finding(Verdict::Unknown, format!("{message}; run the check as a superuser"))])
            }
            Err(Error::ExtensionMissing { .. }) => {
                Ok(vec![finding(Verdict::Unknown, "this database does not have the extension".to_owned())])
            }
            // The check of the keyring, which the server makes itself. Other checks need the keyring, too.
            Err(Error::Refused { code: ErrorCode::EncryptionUnavailable, .. }) if check.name != "keyring" => {
                Ok(Vec::new())
            }
            Err(Error::Refused { code: ErrorCode::EncryptionUnavailable, message, hint }) => {
                Ok(vec![Finding { fix: hint.map(Fix::ByHand), ..finding(Verdict::Problem, message) }])
            }
            Err(error) => Err(error),
        }
    }
}
