//! What a client may give. An argument that is not known is refused, and none is quoted.

use super::super::refusal::Refusal;
use integration_credentials_core::limits;
use rmcp::model::JsonObject;
use serde::{Deserialize, de::DeserializeOwned};
use zeroize::Zeroizing;

/// The longest sealed value in base64: one of 8,192 characters of four bytes.
const MAX_SEALED: usize = 44_100;
const MAX_KEYS: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    pub keys: Option<Vec<String>>,
    pub after: Option<String>,
    #[serde(default = "fifty")]
    pub limit: u32,
    #[serde(default)]
    pub details: bool,
}

const fn fifty() -> u32 {
    50
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditLog {
    #[serde(default = "twenty")]
    pub limit: u32,
    pub before_id: Option<i64>,
}

const fn twenty() -> u32 {
    20
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfKey {
    pub integration_key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    pub integration_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transition {
    pub integration_key: String,
    pub expected_revision: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    pub integration_key: String,
    pub expected_revision: Option<i64>,
    pub sealed: Option<String>,
    pub value: Option<Zeroizing<String>>,
}

/// Reads the arguments.
pub fn parse<T: DeserializeOwned>(given: JsonObject) -> Result<T, Refusal> {
    // The error would quote a name or a value.
    serde_json::from_value(given.into()).map_err(|_| {
        Refusal::invalid(
            "the arguments are not those of the tool: one is missing, unknown, or of another type",
            "tools/list has the schema of the arguments.",
        )
    })
}

/// An integration key.
pub fn key(text: &str) -> Result<(), Refusal> {
    let is_key = !text.contains('\0') && limits::key(Some(text)).is_ok();
    is_key.then_some(()).ok_or_else(|| {
        Refusal::invalid(
            "no integration can have this key",
            "Give a key as text of 1 to 255 characters, without NUL.",
        )
    })
}

/// A number from 1 to `most`.
pub fn limit(limit: u32, most: u32) -> Result<(), Refusal> {
    let is_within = (1..=most).contains(&limit);
    is_within.then_some(()).ok_or_else(|| {
        Refusal::invalid(format!("limit is not a number from 1 to {most}"), "Ask for more with another call.")
    })
}

impl List {
    pub fn check(&self) -> Result<(), Refusal> {
        limit(self.limit, 200)?;
        if self.keys.as_ref().is_some_and(|keys| !(1..=MAX_KEYS).contains(&keys.len())) {
            return Err(Refusal::invalid(
                format!("keys does not have 1 to {MAX_KEYS} entries"),
                "Leave keys out to list all integrations.",
            ));
        }
        self.keys.iter().flatten().chain(&self.after).try_for_each(|text| key(text))
    }
}

/// The bytes of a sealed value.
pub fn sealed(text: &str) -> Result<Vec<u8>, Refusal> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let bytes = if text.len() > MAX_SEALED { None } else { STANDARD.decode(text).ok() };
    bytes.filter(|bytes| !bytes.is_empty()).ok_or_else(|| {
        Refusal::invalid(
            format!("sealed is not base64 of 1 to {MAX_SEALED} characters"),
            "Ask get_sealing_key, and seal the value with `intcred seal`.",
        )
    })
}
