//! The calls of the extension's functions.
//!
//! | module | concept |
//! | --- | --- |
//! | `set` | setting: sealed or plain, with options, many at once |
//! | `rotation` | what follows a set: promote, discard, rollback, retire, and where a rotation stands |
//! | `find` | which credentials have a value, and which cannot be decrypted |
//! | `mcp` | what only the MCP server asks |

mod find;
#[cfg(feature = "mcp")]
mod mcp;
mod rotation;
mod set;

#[cfg(feature = "mcp")]
pub use mcp::{Identity, IntegrationPage, Rights};

use crate::{
    AuditEntry, CredentialRead, Description, Error, Integration, Receipt, Registration, Secret, Settings,
    session::{Session, column},
    transaction::{READ, WRITE},
};
use integration_credentials_core::{
    error::ErrorCode,
    limits,
    tool::{self, Tool},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::time::Instant;
use tokio_postgres::{
    AsyncMessage, Row,
    types::{ToSql, Type},
};

/// A connection for calls. Use a [`Watcher`](crate::Watcher) to follow changes.
pub struct Client(pub(crate) Session);

/// A notice or warning of the server. Without DETAIL and CONTEXT, which may quote a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The severity, such as `NOTICE` or `WARNING`.
    pub severity: String,
    /// The text.
    pub message: String,
}

impl Client {
    /// Connects. `on_notice` gets the server's notices; `|_| ()` ignores them.
    ///
    /// # Errors
    /// [`Error::Connect`], [`Error::NotAuthorised`], [`Error::ServerTooOld`] and, for a superuser,
    /// [`Error::ForeignSchema`].
    pub async fn connect(
        settings: &Settings,
        mut on_notice: impl FnMut(Notice) + Send + 'static,
    ) -> Result<Self, Error> {
        let on_message = move |message| {
            if let AsyncMessage::Notice(notice) = message {
                on_notice(Notice {
                    severity: notice.severity().to_owned(),
                    message: notice.message().to_owned(),
                });
            }
        };
        Session::open(settings, on_message).await.map(Self)
    }

    /// Closes the connection, and waits for at most a second. Dropping the client closes it without waiting.
    pub async fn close(self) {
        self.0.close().await;
    }

    /// The org of the session, whose credentials the calls reach.
    pub async fn current_org(&self) -> Result<String, Error> {
        column(&self.0.row(READ, "SELECT integration_credentials.current_org()", &[]).await?, 0)
    }

    /// Removes a credential. `actor` is for the audit log.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`ErrorCode::CredentialsNotSet`] if there is none, and otherwise as for
    /// [`Self::set`].
    pub async fn remove(&self, key: &str, actor: &str) -> Result<Receipt, Error> {
        let sql = "SELECT integration_credentials.admin_remove_integration_credentials($1, $2)";
        let arguments: [(&(dyn ToSql + Sync), Type); 2] = [(&key, Type::TEXT), (&actor, Type::TEXT)];
        self.metered(&tool::REMOVE, json!({"key": key, "actor": actor}), self.0.row(WRITE, sql, &arguments))
            .await
    }

    /// Reads a credential from the server. A service that reads often uses a
    /// [`CredentialCache`](crate::CredentialCache).
    ///
    /// # Errors
    /// [`Error::Refused`] if the key, the credential or the grant is missing, or the integration is disabled.
    pub async fn get(&self, key: &str) -> Result<Secret, Error> {
        let sql = "SELECT integration_credentials.get_integration_credentials($1)";
        column(&self.0.row(READ, sql, &[(&key, Type::TEXT)]).await?, 0)
    }

    /// [`Self::get`], with the revision.
    ///
    /// # Errors
    /// Those of [`Self::get`].
    pub async fn get_with_revision(&self, key: &str) -> Result<(Secret, i64), Error> {
        let sql = "SELECT g.value, g.revision \
                   FROM integration_credentials.get_integration_credentials_with_revision($1) AS g";
        let row = self.0.row(READ, sql, &[(&key, Type::TEXT)]).await?;
        Ok((column(&row, 0)?, column(&row, 1)?))
    }

    /// For each key that a consumer holds, how many hold the current revision, and how many an older one.
    #[cfg(feature = "cli")]
    #[doc(hidden)]
    pub async fn consumers(&self) -> Result<Vec<(String, i64, i64)>, Error> {
        let sql = "SELECT s.key, s.consumers, t.behind \
                   FROM integration_credentials.rotation_status(NULL) AS s CROSS JOIN LATERAL (\
                       SELECT pg_catalog.count(*) FROM pg_catalog.jsonb_array_elements(s.behind) AS b (entry) \
                       WHERE b.entry OPERATOR(pg_catalog.?) 'leaseUntil') AS t (behind) \
                   WHERE s.consumers OPERATOR(pg_catalog.>) 0";
        let rows = self.0.rows(READ, sql, &[]).await?;
        rows.iter()
            .map(|row| {
                let (held, behind): (i64, i64) = (column(row, 1)?, column(row, 2)?);
                Ok((column(row, 0)?, held.saturating_sub(behind), behind))
            })
            .collect()
    }

    /// All integrations of the catalog, and whether the org has a credential for each.
    pub async fn list(&self) -> Result<Vec<Integration>, Error> {
        let sql = "SELECT l.* FROM integration_credentials.list_integrations() AS l";
        self.0.rows(READ, sql, &[]).await?.iter().map(|row| Integration::from_row(row, 0)).collect()
    }

    /// All integrations of the catalog, with rules, example and functions, for a form that sets a credential.
    pub async fn describe(&self) -> Result<Vec<Description>, Error> {
        let sql = "SELECT d.* FROM integration_credentials.describe_integrations() AS d";
        self.0.rows(READ, sql, &[]).await?.iter().map(Description::from_row).collect()
    }

    /// Adds an integration to the catalog, or replaces the integration with the same key. Returns the
    /// server's answer.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`ErrorCode::InvalidRequest`] if the rules are malformed.
    pub async fn register_integration(
        &self,
        registration: &Registration,
        actor: &str,
    ) -> Result<Value, Error> {
        let Registration { key, display_name, rules, docs_url, example } = registration;
        let sql = "SELECT integration_credentials.admin_register_integration($1, $2, $3, $4, $5, $6)";
        let arguments: [(&(dyn ToSql + Sync), Type); 6] = [
            (key, Type::TEXT),
            (display_name, Type::TEXT),
            (&actor, Type::TEXT),
            (rules, Type::JSONB),
            (docs_url, Type::TEXT),
            (example, Type::TEXT),
        ];
        self.metered(
            &tool::REGISTER,
            json!({"key": key, "display_name": display_name, "actor": actor}),
            self.0.row(WRITE, sql, &arguments),
        )
        .await
    }

    /// Removes an integration from the catalog. Returns the server's answer.
    ///
    /// # Errors
    /// [`Error::Refused`] while an org has a credential for the integration.
    pub async fn unregister_integration(&self, key: &str, actor: &str) -> Result<Value, Error> {
        let sql = "SELECT integration_credentials.admin_unregister_integration($1, $2)";
        let arguments: [(&(dyn ToSql + Sync), Type); 2] = [(&key, Type::TEXT), (&actor, Type::TEXT)];
        self.metered(
            &tool::UNREGISTER,
            json!({"key": key, "actor": actor}),
            self.0.row(WRITE, sql, &arguments),
        )
        .await
    }

    /// Enables or disables an integration, for all orgs. Returns the server's answer.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`ErrorCode::IntegrationNotFound`] if the catalog does not have the key.
    pub async fn set_enabled(&self, key: &str, enabled: bool, actor: &str) -> Result<Value, Error> {
        let sql = "SELECT integration_credentials.admin_set_integration_enabled($1, $2, $3)";
        let arguments: [(&(dyn ToSql + Sync), Type); 3] =
            [(&key, Type::TEXT), (&enabled, Type::BOOL), (&actor, Type::TEXT)];
        self.metered(
            &tool::SET_ENABLED,
            json!({"key": key, "enabled": enabled, "actor": actor}),
            self.0.row(WRITE, sql, &arguments),
        )
        .await
    }

    /// At most `limit` rows of the org's audit log, newest first.
    pub async fn audit(&self, limit: u32) -> Result<Vec<AuditEntry>, Error> {
        let sql = "SELECT id, org_slug, actor, session_role, acting_role, action, target_type, target_id, metadata, \
                   created_at FROM integration_credentials.audit_log ORDER BY id DESC LIMIT $1";
        let rows = self.0.rows(READ, sql, &[(&i64::from(limit), Type::INT8)]).await?;
        rows.iter().map(|row| AuditEntry::from_row(row, 0)).collect()
    }

    /// The last read of each credential of the org, or of that of one key, by each role. Without a row, no role has read
    /// the credential since the server began to record reads. A standby knows its own reads and those that the
    /// primary has written.
    ///
    /// # Errors
    /// [`Error::ExtensionMissing`] in a database with the SQL of an earlier release.
    pub async fn reads(&self, key: Option<&str>) -> Result<Vec<CredentialRead>, Error> {
        let sql = "SELECT r.* FROM integration_credentials.credential_reads($1) AS r";
        self.0.rows(READ, sql, &[(&key, Type::TEXT)]).await?.iter().map(CredentialRead::from_row).collect()
    }

    /// Makes a call that returns JSON. A refused call rolls back its metering row, so the client records the
    /// failure afterwards. `parameters` are those of the call, with sensitive ones already redacted.
    async fn metered<T: DeserializeOwned>(
        &self,
        tool: &'static Tool,
        parameters: Value,
        call: impl Future<Output = Result<Row, Error>>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        match call.await {
            Ok(row) => answer(&row, tool),
            Err(error) => {
                self.record_refusal(tool, &error, parameters, started).await;
                Err(error)
            }
        }
    }

    /// Records a call that the server refused, and no other.
    async fn record_refusal(&self, tool: &Tool, error: &Error, parameters: Value, started: Instant) {
        match error.code() {
            // A role that may not call the function may not record its failure.
            None | Some(ErrorCode::ForbiddenAdminScope) => {}
            Some(code) => self.record_failure(tool, code, parameters, started).await,
        }
    }

    /// Records a failed call. An error here is dropped, so that it does not hide the error of the call.
    async fn record_failure(&self, tool: &Tool, code: ErrorCode, parameters: Value, started: Instant) {
        let mut parameters =
            if let Value::Object(given) = parameters { tool.redact(given) } else { Map::new() };
        // The call may have been refused for the length of a parameter.
        for parameter in parameters.values_mut() {
            if let Value::String(text) = parameter
                && let Some((cut, _)) = text.char_indices().nth(limits::MAX_ACTOR_CHARS)
            {
                text.truncate(cut);
            }
        }
        let parameters = Value::Object(parameters).to_string();
        let milliseconds = started.elapsed().as_secs_f64() * 1000.0;
        let sql = "SELECT integration_credentials.record_tool_failure($1, $2, $3, $4)";
        let arguments: [(&(dyn ToSql + Sync), Type); 4] = [
            (&tool.key, Type::TEXT),
            (&code.as_str(), Type::TEXT),
            (&parameters, Type::TEXT),
            (&milliseconds, Type::FLOAT8),
        ];
        let _ = self.0.rows(WRITE, sql, &arguments).await;
    }
}

/// The answer of a call that returns JSON.
fn answer<T: DeserializeOwned>(row: &Row, tool: &Tool) -> Result<T, Error> {
    serde_json::from_value(column(row, 0)?)
        .map_err(|_| Error::Unexpected(format!("{} returned JSON of an unknown form", tool.key)))
}
