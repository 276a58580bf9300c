//! Setting a credential: sealed on this machine, or as a bound parameter.

use super::{Client, answer};
use crate::{
    Error, Receipt, SealingKey, Secret, SetOptions, WouldBe,
    session::{Argument, column},
    transaction::{READ, WRITE},
};
use integration_credentials_core::{redact::REDACTED, tool};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use std::time::Instant;
use tokio_postgres::types::{ToSql, Type};

const SET_SEALED_WITH: &str =
    "SELECT integration_credentials.admin_set_integration_credentials_sealed($1, $2, $3, $4)";

/// The answer of a set that was to change nothing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DryRunAnswer {
    would_be: WouldBe,
}

impl Client {
    /// Sets or rotates a credential. The value is sealed on this machine, so that no SQL statement holds the
    /// plaintext. `actor` is for the audit log.
    ///
    /// A receipt with an `error` means that the credential is saved, but its sync handler failed.
    ///
    /// # Errors
    /// [`Error::Refused`] if a rule, the catalog or a grant refuses the call, and any error of the
    /// connection.
    pub async fn set(&self, key: &str, value: &Secret, actor: &str) -> Result<Receipt, Error> {
        let sql = "SELECT integration_credentials.admin_set_integration_credentials_sealed($1, $2, $3)";
        let call = async {
            let sealed = self.sealing_key().await?.seal(key, value)?;
            self.0.row(WRITE, sql, &[(&key, Type::TEXT), (&sealed, Type::BYTEA), (&actor, Type::TEXT)]).await
        };
        self.metered(&tool::SET_SEALED, json!({"key": key, "sealed": REDACTED, "actor": actor}), call).await
    }

    /// Sets or rotates a credential, as [`Self::set`] does, with the value as a bound parameter instead of
    /// sealed. A server that logs parameters, and does not preload the extension, logs the value.
    ///
    /// # Errors
    /// Those of [`Self::set`].
    pub async fn set_plain(&self, key: &str, value: &Secret, actor: &str) -> Result<Receipt, Error> {
        let sql = "SELECT integration_credentials.admin_set_integration_credentials($1, $2, $3)";
        let arguments: [(&(dyn ToSql + Sync), Type); 3] =
            [(&key, Type::TEXT), (value, Type::TEXT), (&actor, Type::TEXT)];
        let parameters = json!({"key": key, "value": REDACTED, "actor": actor});
        self.metered(&tool::SET, parameters, self.0.row(WRITE, sql, &arguments)).await
    }

    /// Sets, rotates or stages a credential with options.
    ///
    /// # Errors
    /// [`Error::RevisionConflict`] if the revision is not the expected one, and those of [`Self::set`].
    pub async fn set_with(
        &self,
        key: &str,
        value: &Secret,
        actor: &str,
        options: &SetOptions,
    ) -> Result<Receipt, Error> {
        self.set_by(key, value, actor, options, false).await
    }

    /// Everything that [`Self::set_with`] does up to the encryption, and nothing after: the arguments, the
    /// catalog, the rules and the validator. Changes nothing.
    ///
    /// # Errors
    /// Those of [`Self::set_with`].
    pub async fn dry_run(
        &self,
        key: &str,
        value: &Secret,
        actor: &str,
        options: &SetOptions,
    ) -> Result<WouldBe, Error> {
        let answer: DryRunAnswer = self.set_by(key, value, actor, options, true).await?;
        Ok(answer.would_be)
    }

    async fn set_by<T: DeserializeOwned>(
        &self,
        key: &str,
        value: &Secret,
        actor: &str,
        options: &SetOptions,
        dry_run: bool,
    ) -> Result<T, Error> {
        let (key_argument, actor_argument) = ((&key as _, Type::TEXT), (&actor as _, Type::TEXT));
        let json = options.to_json(dry_run);
        let options_argument = (&json as _, Type::JSONB);
        if options.plain {
            let sql = "SELECT integration_credentials.admin_set_integration_credentials($1, $2, $3, $4)";
            let arguments = [key_argument, (value as _, Type::TEXT), actor_argument, options_argument];
            let parameters = json!({"key": key, "value": REDACTED, "actor": actor, "options": REDACTED});
            return self.metered(&tool::SET, parameters, self.0.row(WRITE, sql, &arguments)).await;
        }
        let call = async {
            let sealed = self.sealing_key().await?.seal(key, value)?;
            let arguments = [key_argument, (&sealed as _, Type::BYTEA), actor_argument, options_argument];
            self.0.row(WRITE, SET_SEALED_WITH, &arguments).await
        };
        let parameters = json!({"key": key, "sealed": REDACTED, "actor": actor, "options": REDACTED});
        self.metered(&tool::SET_SEALED, parameters, call).await
    }

    /// Sets credentials, all in one transaction or none. Each is sealed. `on_set` gets the number of those
    /// that are set but not yet committed.
    ///
    /// # Errors
    /// Those of [`Self::set`], with the index of the value that the server refused; none for an error that
    /// concerns all of them.
    pub async fn set_all(
        &self,
        values: &[(&str, &Secret)],
        actor: &str,
        on_set: impl FnMut(usize),
    ) -> Result<Vec<Receipt>, (Option<usize>, Error)> {
        let started = Instant::now();
        let server = self.sealing_key().await.map_err(|error| (None, error))?;
        // In the order of the keys, so that two calls at once do not lock each other out.
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by_key(|&index| values[index].0);
        let sealed = order.iter().map(|&index| {
            let (key, value) = values[index];
            server.seal(key, value).map(|sealed| (key, sealed)).map_err(|error| (Some(index), error))
        });
        let sealed = sealed.collect::<Result<Vec<_>, _>>()?;
        let calls: Vec<[Argument<'_>; 3]> = sealed
            .iter()
            .map(|(key, sealed)| {
                [(key as _, Type::TEXT), (sealed as _, Type::BYTEA), (&actor as _, Type::TEXT)]
            })
            .collect();
        let sql = "SELECT integration_credentials.admin_set_integration_credentials_sealed($1, $2, $3)";
        match self.0.each_row(WRITE, sql, &calls, on_set).await {
            Ok(rows) => rows.iter().map(|row| answer(row, &tool::SET_SEALED)).collect::<Result<_, _>>(),
            Err((None, error)) => return Err((None, error)),
            Err((Some(failed), error)) => {
                let index = order[failed];
                let parameters = json!({"key": values[index].0, "sealed": REDACTED, "actor": actor});
                self.record_refusal(&tool::SET_SEALED, &error, parameters, started).await;
                return Err((Some(index), error));
            }
        }
        .map_err(|error| (None, error))
    }

    /// The server's key to seal to, for the org and the role of the session. Ask each time: a sealed value opens
    /// for ten minutes only, and SET SESSION AUTHORIZATION or a pooler may change the role.
    ///
    /// # Errors
    /// [`Error::Refused`] without the grant or a keyring, and any error of the connection.
    pub async fn sealing_key(&self) -> Result<SealingKey, Error> {
        let row = self.0.row(READ, "SELECT integration_credentials.sealing_key()", &[]).await?;
        serde_json::from_value(column(&row, 0)?)
            .map_err(|_| Error::Unexpected("sealing_key() returned JSON of an unknown form".to_owned()))
    }

    /// Sets, rotates or stages a credential that was sealed elsewhere, with a [`SealingKey`] of the same org and
    /// session role.
    ///
    /// # Errors
    /// [`Error::Refused`] if the value does not open, and otherwise as for [`Self::set_with`].
    pub async fn set_sealed(
        &self,
        key: &str,
        sealed: &[u8],
        actor: &str,
        options: &SetOptions,
    ) -> Result<Receipt, Error> {
        let options = options.to_json(false);
        let arguments: [Argument<'_>; 4] = [
            (&key as _, Type::TEXT),
            (&sealed as _, Type::BYTEA),
            (&actor as _, Type::TEXT),
            (&options as _, Type::JSONB),
        ];
        let parameters = json!({"key": key, "sealed": REDACTED, "actor": actor, "options": REDACTED});
        self.metered(&tool::SET_SEALED, parameters, self.0.row(WRITE, SET_SEALED_WITH, &arguments)).await
    }
}
