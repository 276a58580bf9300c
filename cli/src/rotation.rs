//! A rotation: the options of a set, and the answers of the calls that follow it.

use crate::{Error, Secret, Timestamp, session::column};
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IntoDeserializer, value},
};
use serde_json::{Map, Value};
use std::time::Duration;
use tokio_postgres::Row;

/// The options of [`Client::set_with`](crate::Client::set_with). The default is a plain set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    /// The call is refused unless the credential has this revision; 0: unless none was ever set.
    pub expected_revision: Option<i64>,
    /// When the vendor lets the value expire. Informative: nothing stops at that moment.
    pub expires_at: Option<Timestamp>,
    /// For how long the value before this one is kept, instead of the catalog's time; zero keeps none. In
    /// whole seconds.
    pub keep_previous: Option<Duration>,
    /// Stores the value as pending, for [`Client::promote`](crate::Client::promote).
    pub stage: bool,
    /// Sends the value as a bound parameter instead of sealed, as
    /// [`Client::set_plain`](crate::Client::set_plain) does.
    pub plain: bool,
}

impl SetOptions {
    /// The `options` of the SQL function.
    pub(crate) fn to_json(&self, dry_run: bool) -> Value {
        let mut options = Map::new();
        let mut add = |name: &str, value: Option<Value>| {
            options.extend(value.map(|value| (name.to_owned(), value)));
        };
        add("expectedRevision", self.expected_revision.map(Value::from));
        add("expiresAt", self.expires_at.map(|moment| moment.to_string().into()));
        add("keepPrevious", self.keep_previous.map(|time| time.as_secs().into()));
        add("stage", self.stage.then_some(true.into()));
        add("dryRun", dry_run.then_some(true.into()));
        options.into()
    }
}

/// What a set would do, by [`Client::dry_run`](crate::Client::dry_run).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WouldBe {
    /// The org has no credential for the key.
    Insert,
    /// The value differs from the present one.
    Rotation,
    /// The value is the present one. A set would still raise the revision.
    Unchanged,
}

/// The values of one credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// The value that services use.
    Current,
    /// The value before, until its time is over.
    Previous,
    /// The value that is staged.
    Pending,
}

impl Which {
    /// The word in SQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Previous => "previous",
            Self::Pending => "pending",
        }
    }
}

/// A row of [`Client::get_valid`](crate::Client::get_valid).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidCredential {
    /// The value.
    pub value: Secret,
    /// Its revision.
    pub revision: i64,
    /// Until when the previous value counts; `None` for the current one.
    pub valid_until: Option<Timestamp>,
}

impl ValidCredential {
    pub(crate) fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self { value: column(row, 0)?, revision: column(row, 1)?, valid_until: column(row, 2)? })
    }
}

/// Where a rotation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RotationState {
    /// There is a current value at most.
    Steady,
    /// A value is staged.
    Staged,
    /// The value before the current one is still kept.
    Rotating,
    /// The credential was removed.
    Removed,
}

/// Whether every consumer uses the current revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Convergence {
    /// Every consumer does. The old value can be revoked at the vendor.
    Converged,
    /// Some do not yet.
    Waiting,
    /// The server does not know; [`RotationStatus::reason`] says why.
    Unknown,
}

/// A row of `rotation_status()`. As JSON, with the names of the SQL columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RotationStatus {
    /// The integration's key.
    pub key: String,
    /// The current revision; 0 if no value was ever current.
    pub revision: i64,
    /// Where the rotation stands.
    pub state: RotationState,
    /// The revision of the previous value, while that is kept.
    pub previous_revision: Option<i64>,
    /// Until when the previous value can be read.
    pub previous_until: Option<Timestamp>,
    /// When the pending value was staged.
    pub pending_at: Option<Timestamp>,
    /// Who staged it.
    pub pending_actor: Option<String>,
    /// Whether every consumer uses the current revision.
    pub verdict: Convergence,
    /// Why the verdict is what it is, for people.
    pub reason: Option<String>,
    /// The number of live consumers that hold the key; `None` from a standby, which has no leases.
    pub consumers: Option<i64>,
    /// Who may still use an older revision; at most 100.
    pub behind: Vec<Behind>,
}

impl RotationStatus {
    pub(crate) fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            key: column(row, 0)?,
            revision: column(row, 1)?,
            state: word(row, 2)?,
            previous_revision: column(row, 3)?,
            previous_until: column(row, 4)?,
            pending_at: column(row, 5)?,
            pending_actor: column(row, 6)?,
            verdict: word(row, 7)?,
            reason: column(row, 8)?,
            consumers: column(row, 9)?,
            behind: match column::<Option<Value>>(row, 10)? {
                None => Vec::new(),
                Some(behind) => serde_json::from_value(behind).map_err(|_| {
                    Error::Unexpected("rotation_status() returned JSON of an unknown form".to_owned())
                })?,
            },
        })
    }
}

/// Who may still use an older revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum Behind {
    /// A consumer with a lease.
    Consumer {
        /// The name that the consumer gave itself.
        name: String,
        /// The consumer's role.
        role: String,
        /// The oldest revision that the consumer may still use.
        oldest: i64,
        /// The newest revision that the consumer knows of.
        newest: i64,
        /// When the lease runs out, in ISO 8601.
        lease_until: String,
    },
    /// A role without a lease, which read an older revision after the change and not the current one since.
    Reader {
        /// The role.
        role: String,
        /// The revision that the role read last.
        read_revision: i64,
        /// When, in ISO 8601.
        read_at: String,
    },
}

impl Behind {
    /// The consumer's name, or the role.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Consumer { name, .. } => name,
            Self::Reader { role, .. } => role,
        }
    }
}

/// A row of `find_integration_credentials()`: a credential that has the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The org.
    pub org: String,
    /// The integration's key.
    pub key: String,
    /// Which of its values.
    pub which: Which,
    /// The revision of the value; a pending one has none yet.
    pub revision: Option<i64>,
}

impl Found {
    pub(crate) fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            org: column(row, 0)?,
            key: column(row, 1)?,
            which: word(row, 2)?,
            revision: column(row, 3)?,
        })
    }
}

/// A row of `check_credentials()`: a value that the server cannot decrypt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Undecryptable {
    /// The integration's key.
    pub key: String,
    /// Which of its values.
    pub which: Which,
    /// The key of the keyring that the ciphertext names; `None` if the ciphertext names none.
    pub key_id: Option<String>,
    /// Why it cannot be decrypted.
    pub error: String,
}

impl Undecryptable {
    pub(crate) fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            key: column(row, 0)?,
            which: word(row, 1)?,
            key_id: column(row, 2)?,
            error: column(row, 3)?,
        })
    }
}

/// A column with one of the words of an enum.
fn word<T: DeserializeOwned>(row: &Row, index: usize) -> Result<T, Error> {
    let text: &str = column(row, index)?;
    T::deserialize(text.into_deserializer()).map_err(|error: value::Error| {
        Error::Unexpected(format!("a word that this release does not know: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn options_that_are_not_given_are_not_sent() {
        assert_eq!(SetOptions::default().to_json(false), json!({}));
        let all = SetOptions {
            expected_revision: Some(0),
            expires_at: serde_json::from_value(json!("2027-01-31T00:00:00.000Z")).unwrap(),
            keep_previous: Some(Duration::ZERO),
            stage: true,
            plain: true,
        };
        let expected = json!({
            "expectedRevision": 0, "expiresAt": "2027-01-31T00:00:00.000Z", "keepPrevious": 0, "stage": true,
            "dryRun": true
        });
        assert_eq!(all.to_json(true), expected);
    }
}
