//! What is kept outside of the database: heads, and proofs of rows. Both verify offline.

use crate::{Error, session::column};
use integration_credentials_core::audit::{
    Hash, Row,
    block::{Break, Header, Signed, from_hex, hex},
    leaf, merkle,
};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A block: header and signature. As JSON, with the names in camel case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "HeadJson", into = "HeadJson")]
pub struct Head {
    pub(super) header: Header,
    pub(super) signed: Signed,
}

#[derive(Serialize, Deserialize)]
struct HeadJson {
    /// For people: the header has it too.
    #[serde(default)]
    number: u64,
    /// For people: SHA-256 over the header.
    #[serde(default)]
    hash: String,
    header: String,
    signature: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endorsement: Option<String>,
}

impl From<Head> for HeadJson {
    fn from(Head { header, signed }: Head) -> Self {
        Self {
            number: header.number,
            hash: hex(&signed.hash()),
            signature: hex(&signed.signature),
            endorsement: signed.endorsement.as_deref().map(hex),
            header: signed.text,
        }
    }
}

impl TryFrom<HeadJson> for Head {
    type Error = ProofError;

    fn try_from(json: HeadJson) -> Result<Self, ProofError> {
        let signature = |text: &str| from_hex::<64>(text).map(Vec::from).ok_or(ProofError::Hex);
        let endorsement = json.endorsement.as_deref().map(signature).transpose()?;
        let signed = Signed { signature: signature(&json.signature)?, endorsement, text: json.header };
        Ok(Self { header: signed.open()?, signed })
    }
}

/// Why a head or a proof proves nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The block of the head or proof is not as it was signed.
    #[error("the block is not as it was signed: {0}")]
    Block(#[from] Break),
    /// A hash, key or signature has another form.
    #[error("a hash, key or signature is not hex of its length")]
    Hex,
    /// The time has another form.
    #[error("createdAt is not a time")]
    Time,
    /// The row is not in the block.
    #[error("the row is not in the block: the row or the proof was altered, or the proof is another row's")]
    NotInBlock,
    /// Another key has signed the block.
    #[error("the block is signed by another key than the one to trust")]
    Key,
}

impl Head {
    pub(super) fn from_row(row: &tokio_postgres::Row) -> Result<Self, Error> {
        let signed =
            Signed { text: column(row, 0)?, signature: column(row, 1)?, endorsement: column(row, 2)? };
        Self::of(signed)
    }

    fn of(signed: Signed) -> Result<Self, Error> {
        let header = signed.open().map_err(|problem| Error::Unexpected(format!("a block: {problem}")))?;
        Ok(Self { header, signed })
    }

    /// The number of the block.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.header.number
    }

    /// The public key that has signed it.
    #[must_use]
    pub fn public_key(&self) -> Hash {
        self.header.public_key
    }
}

/// A row with the proof that its block has it. As JSON, with the names in camel case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    row: ProvedRow,
    /// The place of the row among the leaves.
    index: u64,
    /// The hashes beside its way to the root.
    path: Vec<String>,
    header: String,
    signature: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProvedRow {
    id: i64,
    org_slug: String,
    actor: String,
    session_role: String,
    acting_role: String,
    action: String,
    target_type: String,
    target_id: String,
    /// The text that Postgres prints, because the digest is over its bytes.
    metadata: String,
    created_at: String,
    /// Empty for a row from before the MACs.
    mac: String,
}

impl Proof {
    pub(super) fn from_row(found: &tokio_postgres::Row) -> Result<Self, Error> {
        let mac: Option<&[u8]> = column(found, 10)?;
        let created_at: SystemTime = column(found, 9)?;
        // In the binary format, a byte for the version precedes the text of a jsonb.
        let metadata: Raw<'_> = column(found, 8)?;
        let metadata = metadata.0.get(1..).and_then(|text| str::from_utf8(text).ok());
        let row = ProvedRow {
            id: column(found, 0)?,
            org_slug: column(found, 1)?,
            actor: column(found, 2)?,
            session_role: column(found, 3)?,
            acting_role: column(found, 4)?,
            action: column(found, 5)?,
            target_type: column(found, 6)?,
            target_id: column(found, 7)?,
            metadata: metadata.unwrap_or_default().to_owned(),
            created_at: humantime::format_rfc3339_micros(created_at).to_string(),
            mac: mac.map(hex).unwrap_or_default(),
        };
        let head =
            Head::of(Signed { text: column(found, 11)?, signature: column(found, 12)?, endorsement: None })?;
        let leaves: &[u8] = column(found, 13)?;
        let leaves = leaves.as_chunks::<32>().0;
        let own = row.leaf().ok();
        let index = leaves.iter().position(|leaf| own == Some(*leaf)).ok_or_else(|| {
            Error::Unexpected(format!("row {} is not the one that block {} has", row.id, head.number()))
        })?;
        Ok(Self {
            index: index as u64,
            path: merkle::prove(leaves, index).iter().map(|hash| hex(hash)).collect(),
            header: head.signed.text,
            signature: hex(&head.signed.signature),
            row,
        })
    }

    /// Checks that the block has the row, and that `key` has signed the block. Returns the block.
    pub fn verify(&self, key: Option<Hash>) -> Result<Head, ProofError> {
        let signature = from_hex::<64>(&self.signature).ok_or(ProofError::Hex)?.to_vec();
        let signed = Signed { text: self.header.clone(), signature, endorsement: None };
        let header = signed.open()?;
        let path = self.path.iter().map(|hash| from_hex(hash)).collect::<Option<Vec<_>>>();
        let path = path.ok_or(ProofError::Hex)?;
        if merkle::follow(self.row.leaf()?, self.index, header.rows, &path) != Some(header.root) {
            return Err(ProofError::NotInBlock);
        }
        if key.is_some_and(|key| key != header.public_key) {
            return Err(ProofError::Key);
        }
        Ok(Head { header, signed })
    }

    /// The id of the row.
    #[must_use]
    pub fn id(&self) -> i64 {
        self.row.id
    }
}

impl ProvedRow {
    fn leaf(&self) -> Result<Hash, ProofError> {
        let moment = humantime::parse_rfc3339(&self.created_at).map_err(|_| ProofError::Time)?;
        let texts = [
            &self.org_slug,
            &self.actor,
            &self.session_role,
            &self.acting_role,
            &self.action,
            &self.target_type,
            &self.target_id,
        ];
        let row = Row {
            id: self.id,
            texts: texts.map(String::as_bytes),
            metadata: self.metadata.as_bytes(),
            created_at: since_2000(moment).ok_or(ProofError::Time)?,
        };
        let mac = bytes(&self.mac).ok_or(ProofError::Hex)?;
        Ok(leaf(&row.digest(), &mac))
    }
}

/// Bytes from hex.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| from_hex::<1>(str::from_utf8(pair).ok()?).map(|[byte]| byte);
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

/// Microseconds since 2000, as in Postgres' binary format.
fn since_2000(moment: SystemTime) -> Option<i64> {
    const EPOCH: Duration = Duration::from_hours(24 * 10957);
    let since = moment.duration_since(UNIX_EPOCH + EPOCH).ok()?;
    i64::try_from(since.as_micros()).ok()
}

/// The bytes of a value of any type, in Postgres' binary format; none for NULL.
pub(super) struct Raw<'a>(pub &'a [u8]);

impl<'a> tokio_postgres::types::FromSql<'a> for Raw<'a> {
    fn from_sql(
        _: &tokio_postgres::types::Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn from_sql_null(
        _: &tokio_postgres::types::Type,
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(&[]))
    }

    fn accepts(_: &tokio_postgres::types::Type) -> bool {
        true
    }
}
