//! The calls about keys of encryption, for operators: which keys a server has, which keys its ciphertexts need,
//! and bringing all ciphertexts to one key.

use crate::{
    Client, Error, Settings, Timestamp,
    session::column,
    settings::{SessionAttrs, Target},
    transaction::{READ, READ_PINNED, WRITE_SETTLED},
};
use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;

/// A key of a server's keyring, without the key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerKey {
    /// The id.
    pub key_id: String,
    /// Differs between two keys of one id.
    pub fingerprint: String,
    /// Whether the server encrypts with it.
    pub writes: bool,
}

/// How many ciphertexts of a database need a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyUsage {
    /// The id; `None` for ciphertexts of an unknown form.
    pub key_id: Option<String>,
    /// Current credentials.
    pub current: i64,
    /// Previous credentials.
    pub previous: i64,
    /// Staged credentials.
    pub pending: i64,
    /// Credentials of the review aggregator.
    pub aggregator: i64,
}

impl KeyUsage {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> i64 {
        self.current + self.previous + self.pending + self.aggregator
    }
}

/// A ciphertext that a server cannot decrypt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unreadable {
    /// The org.
    pub org: String,
    /// The integration's key.
    pub key: String,
    /// `current`, `previous`, `pending` or `aggregator`.
    pub which: String,
    /// The key that it needs; `None` if its form is unknown.
    pub key_id: Option<String>,
    /// Why it cannot be decrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The result of a run of [`Client::reencrypt`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reencrypted {
    /// The key that encrypts.
    pub key_id: String,
    /// The rows that were reencrypted.
    pub rows: i64,
    /// The ciphertexts that cannot be decrypted, and stay as they are.
    pub unreadable: i64,
    /// The first hundred of them.
    pub named: Vec<Unreadable>,
}

/// How far a run of [`Client::reencrypt`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReencryptProgress {
    /// The process of the session.
    pub pid: i32,
    /// The rows that had another key when the run began.
    pub total: i64,
    /// The rows that the run has reencrypted.
    pub done: i64,
    /// When the run began, by the clock of the server.
    pub started_at: Timestamp,
}

impl Client {
    /// The keys that the server's keyring has now. Needs a superuser; works on a standby.
    pub async fn keyring_status(&self) -> Result<Vec<ServerKey>, Error> {
        let sql =
            "SELECT k.\"keyId\", k.fingerprint, k.writes FROM integration_credentials.keyring_status() AS k";
        let rows = self.0.rows(READ, sql, &[]).await?;
        let read = |row| {
            Ok(ServerKey { key_id: column(row, 0)?, fingerprint: column(row, 1)?, writes: column(row, 2)? })
        };
        rows.iter().map(read).collect()
    }

    /// Has the server reload its configuration: each session reads the keyring again before its next statement.
    /// Needs a superuser.
    pub async fn reload_configuration(&self) -> Result<(), Error> {
        self.0.row(READ_PINNED, "SELECT pg_reload_conf()", &[]).await.map(drop)
    }

    /// Whether the server is a standby.
    pub async fn is_standby(&self) -> Result<bool, Error> {
        column(&self.0.row(READ_PINNED, "SELECT pg_catalog.pg_is_in_recovery()", &[]).await?, 0)
    }

    /// How many standbys receive WAL directly from the server.
    pub async fn standbys(&self) -> Result<i64, Error> {
        let sql = "SELECT count(*) FROM pg_stat_replication r WHERE r.state IN ('streaming', 'catchup') \
                   AND r.pid NOT IN (SELECT s.active_pid FROM pg_replication_slots s \
                                     WHERE s.active_pid IS NOT NULL AND s.slot_type = 'logical')";
        column(&self.0.row(READ_PINNED, sql, &[]).await?, 0)
    }

    /// The databases of the cluster that accept connections.
    pub async fn databases(&self) -> Result<Vec<String>, Error> {
        let sql = "SELECT datname::text FROM pg_database WHERE datallowconn ORDER BY datname";
        let rows = self.0.rows(READ_PINNED, sql, &[]).await?;
        rows.iter().map(|row| column(row, 0)).collect()
    }

    /// Whether the database has the extension.
    pub async fn has_extension(&self) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'integration_credentials')";
        column(&self.0.row(READ_PINNED, sql, &[]).await?, 0)
    }

    /// How many ciphertexts of the database need each key, over all orgs. `is_settled` first waits, for ten
    /// seconds at most, for the transactions that have written a credential: what they commit counts. Needs a
    /// superuser. A standby can count only what it has, not settled.
    pub async fn key_usage(&self, is_settled: bool) -> Result<Vec<KeyUsage>, Error> {
        let sql = "SELECT u.\"keyId\", u.current, u.previous, u.pending, u.aggregator \
                   FROM integration_credentials.key_usage() AS u";
        let rows = self.0.rows(if is_settled { WRITE_SETTLED } else { READ }, sql, &[]).await?;
        let read = |row| {
            Ok(KeyUsage {
                key_id: column(row, 0)?,
                current: column(row, 1)?,
                previous: column(row, 2)?,
                pending: column(row, 3)?,
                aggregator: column(row, 4)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// The ciphertexts of all orgs that the server cannot decrypt. Needs a superuser; works on a standby.
    pub async fn check_all_credentials(&self) -> Result<Vec<Unreadable>, Error> {
        let sql = "SELECT c.org, c.key, c.which, c.\"keyId\", c.error \
                   FROM integration_credentials.check_all_credentials() AS c";
        let rows = self.0.rows(READ, sql, &[]).await?;
        let read = |row| {
            Ok(Unreadable {
                org: column(row, 0)?,
                key: column(row, 1)?,
                which: column(row, 2)?,
                key_id: column(row, 3)?,
                error: column(row, 4)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Reencrypts every ciphertext of another key with the key that encrypts, `batch` rows in a transaction. A
    /// run that was interrupted is resumed by another one. Needs a superuser.
    pub async fn reencrypt(&self, batch: i32) -> Result<Reencrypted, Error> {
        let row =
            self.0.procedure("CALL integration_credentials.reencrypt($1)", &[(&batch, Type::INT4)]).await?;
        serde_json::from_value(column(&row, 0)?)
            .map_err(|_| Error::Unexpected("reencrypt returned JSON of an unknown form".to_owned()))
    }

    /// The runs of [`Self::reencrypt`] in the cluster. For members of `pg_monitor`.
    pub async fn reencrypt_progress(&self) -> Result<Vec<ReencryptProgress>, Error> {
        let sql = "SELECT p.pid, p.total, p.done, p.started_at FROM integration_credentials.reencrypt_progress AS p";
        let rows = self.0.rows(READ, sql, &[]).await?;
        let read = |row| {
            Ok(ReencryptProgress {
                pid: column(row, 0)?,
                total: column(row, 1)?,
                done: column(row, 2)?,
                started_at: column(row, 3)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// The process of the session in the server.
    pub async fn backend_pid(&self) -> Result<i32, Error> {
        column(&self.0.row(READ_PINNED, "SELECT pg_backend_pid()", &[]).await?, 0)
    }
}

impl Settings {
    /// The settings of each server that these settings name, whatever role it has, with its name.
    #[must_use]
    pub fn servers(&self) -> Vec<(String, Self)> {
        let of_target = |target: &Target| {
            let mut settings = self.clone();
            settings.targets = vec![target.clone()];
            settings.session_attrs = SessionAttrs::Any;
            (target.to_string(), settings)
        };
        self.targets.iter().map(of_target).collect()
    }

    /// These settings for another database.
    #[must_use]
    pub fn with_dbname(&self, dbname: &str) -> Self {
        let mut settings = self.clone();
        settings.config.dbname(dbname);
        settings
    }
}
