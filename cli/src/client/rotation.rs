//! What follows a set: promote, discard, rollback, retire, and where a rotation stands.

use super::Client;
use crate::{
    Error, Receipt, RotationStatus, Secret, ValidCredential, Which,
    session::{Argument, column},
    transaction::{READ, WRITE},
};
use integration_credentials_core::tool::{self, Tool};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_postgres::types::Type;

impl Client {
    /// Makes the pending value the current one, and the current one the previous one. The rules and the
    /// validator check the value again.
    ///
    /// # Errors
    /// [`Error::RevisionConflict`] if `expected` is not the revision, and otherwise as for [`Self::set`].
    pub async fn promote(&self, key: &str, actor: &str, expected: Option<i64>) -> Result<Receipt, Error> {
        let sql = "SELECT integration_credentials.admin_promote_integration_credentials($1, $2, $3)";
        let arguments = [(&key as _, Type::TEXT), (&actor as _, Type::TEXT), (&expected as _, Type::INT8)];
        let parameters = json!({"key": key, "actor": actor, "expected_revision": expected});
        self.transition(&tool::PROMOTE, sql, &arguments, parameters).await
    }

    /// Drops the pending value.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is none, and otherwise as for [`Self::set`].
    pub async fn discard(&self, key: &str, actor: &str) -> Result<Receipt, Error> {
        let sql = "SELECT integration_credentials.admin_discard_integration_credentials($1, $2)";
        let arguments = [(&key as _, Type::TEXT), (&actor as _, Type::TEXT)];
        self.transition(&tool::DISCARD, sql, &arguments, json!({"key": key, "actor": actor})).await
    }

    /// Makes the previous value the current one, under a new revision. The current value becomes the previous
    /// one. Also brings back a credential that was removed.
    ///
    /// # Errors
    /// [`Error::RevisionConflict`] if `expected` is not the revision, [`Error::Refused`] if no previous value
    /// is kept, and otherwise as for [`Self::set`].
    pub async fn rollback(&self, key: &str, actor: &str, expected: Option<i64>) -> Result<Receipt, Error> {
        let sql = "SELECT integration_credentials.admin_rollback_integration_credentials($1, $2, $3)";
        let arguments = [(&key as _, Type::TEXT), (&actor as _, Type::TEXT), (&expected as _, Type::INT8)];
        let parameters = json!({"key": key, "actor": actor, "expected_revision": expected});
        self.transition(&tool::ROLLBACK, sql, &arguments, parameters).await
    }

    /// Drops the previous value, if every consumer uses the current one; with `force`, in any case.
    ///
    /// # Errors
    /// [`Error::NotConverged`] with those who are behind, [`Error::Refused`] if no previous value is kept,
    /// and otherwise as for [`Self::set`].
    pub async fn retire(&self, key: &str, actor: &str, force: bool) -> Result<Receipt, Error> {
        let sql = "SELECT integration_credentials.admin_retire_integration_credentials($1, $2, $3)";
        let arguments = [(&key as _, Type::TEXT), (&actor as _, Type::TEXT), (&force as _, Type::BOOL)];
        let parameters = json!({"key": key, "actor": actor, "force": force});
        self.transition(&tool::RETIRE, sql, &arguments, parameters).await
    }

    /// Removes a credential as [`Self::remove`] does, and keeps no value that a rollback could bring back.
    ///
    /// # Errors
    /// Those of [`Self::remove`].
    pub async fn purge(&self, key: &str, actor: &str) -> Result<Receipt, Error> {
        let sql = "SELECT integration_credentials.admin_remove_integration_credentials($1, $2, true)";
        let arguments = [(&key as _, Type::TEXT), (&actor as _, Type::TEXT)];
        let parameters = json!({"key": key, "actor": actor, "purge": true});
        self.transition(&tool::REMOVE, sql, &arguments, parameters).await
    }

    /// Sets for how long the previous values of an integration are kept, for all orgs; zero keeps none. In
    /// whole seconds. Returns the server's answer.
    ///
    /// # Errors
    /// [`Error::Refused`] if the catalog does not have the key.
    pub async fn set_keep_previous(&self, key: &str, time: Duration, actor: &str) -> Result<Value, Error> {
        let sql = "SELECT integration_credentials.admin_set_integration_keep_previous(\
                   $1, pg_catalog.make_interval(secs => $2), $3)";
        let seconds = Duration::from_secs(time.as_secs()).as_secs_f64();
        let arguments: [Argument<'_>; 3] =
            [(&key as _, Type::TEXT), (&seconds as _, Type::FLOAT8), (&actor as _, Type::TEXT)];
        let parameters = json!({"key": key, "keep_previous": time.as_secs(), "actor": actor});
        self.metered(&tool::SET_KEEP_PREVIOUS, parameters, self.0.row(WRITE, sql, &arguments)).await
    }

    /// Reads one of a credential's values.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such value, and otherwise as for [`Self::get`].
    pub async fn get_which(&self, key: &str, which: Which) -> Result<Secret, Error> {
        let sql = "SELECT integration_credentials.get_integration_credentials($1, $2)";
        let arguments = [(&key as _, Type::TEXT), (&which.as_str() as _, Type::TEXT)];
        column(&self.0.row(READ, sql, &arguments).await?, 0)
    }

    /// Reads the current value, and the previous one while that is kept: for a service that verifies
    /// signatures by either.
    ///
    /// # Errors
    /// Those of [`Self::get`].
    pub async fn get_valid(&self, key: &str) -> Result<Vec<ValidCredential>, Error> {
        let sql = "SELECT v.* FROM integration_credentials.get_valid_integration_credentials($1) AS v";
        let rows = self.0.rows(READ, sql, &[(&key, Type::TEXT)]).await?;
        rows.iter().map(ValidCredential::from_row).collect()
    }

    /// Where the rotation of a key stands, or of all keys: the state of the row, and whether every consumer
    /// uses the current revision.
    ///
    /// # Errors
    /// [`Error::Refused`] if the catalog does not have the key, or the grant is missing.
    pub async fn rotation_status(&self, key: Option<&str>) -> Result<Vec<RotationStatus>, Error> {
        let sql = "SELECT s.* FROM integration_credentials.rotation_status($1) AS s";
        // A change, because the server first writes down who read what.
        let rows = self.0.rows(WRITE, sql, &[(&key, Type::TEXT)]).await?;
        rows.iter().map(RotationStatus::from_row).collect()
    }

    /// Whether the role may read credentials. Reads none.
    pub async fn may_read(&self) -> Result<bool, Error> {
        let sql = "SELECT pg_catalog.has_function_privilege(\
                   'integration_credentials.get_integration_credentials(text, text)', 'EXECUTE')";
        column(&self.0.row(READ, sql, &[]).await?, 0)
    }

    async fn transition(
        &self,
        tool: &'static Tool,
        sql: &'static str,
        arguments: &[Argument<'_>],
        parameters: Value,
    ) -> Result<Receipt, Error> {
        self.metered(tool, parameters, self.0.row(WRITE, sql, arguments)).await
    }
}
