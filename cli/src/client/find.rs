//! Which credentials have a value, and which cannot be decrypted.

use super::Client;
use crate::{
    Error, Found, Secret, Undecryptable,
    transaction::{READ, WRITE},
};
use integration_credentials_core::{redact::REDACTED, tool};
use serde_json::json;
use std::time::Instant;
use tokio_postgres::types::Type;

impl Client {
    /// The credentials of the session's org that have a value, as current, previous or pending; for a
    /// superuser, those of all orgs. The value is sealed, and the audit log has a row of the search.
    ///
    /// # Errors
    /// Those of [`Self::set`].
    pub async fn find(&self, value: &Secret, actor: &str) -> Result<Vec<Found>, Error> {
        let sql = "SELECT f.* FROM integration_credentials.find_integration_credentials($1, $2) AS f";
        let started = Instant::now();
        let call = async {
            // For no key, so that the value opens for no set call.
            let sealed = self.sealing_key().await?.seal("", value)?;
            self.0.rows(WRITE, sql, &[(&sealed, Type::BYTEA), (&actor, Type::TEXT)]).await
        };
        match call.await {
            Ok(rows) => rows.iter().map(Found::from_row).collect(),
            Err(error) => {
                let parameters = json!({"sealed": REDACTED, "actor": actor});
                self.record_refusal(&tool::FIND, &error, parameters, started).await;
                Err(error)
            }
        }
    }

    /// The values of the org that the server cannot decrypt. Returns no value.
    ///
    /// # Errors
    /// [`Error::Refused`] if the grant is missing.
    pub async fn check_credentials(&self) -> Result<Vec<Undecryptable>, Error> {
        let sql = "SELECT c.* FROM integration_credentials.check_credentials() AS c";
        self.0.rows(READ, sql, &[]).await?.iter().map(Undecryptable::from_row).collect()
    }
}
