//! What a client gets.

use super::super::refusal::Refusal;
use intcred::{Integration, Receipt};
use rmcp::{
    ErrorData,
    model::{CallToolResponse, CallToolResult, ContentBlock, InputRequiredResult},
};
use serde_json::{Value, json};

/// How a call ends.
pub enum Answer {
    /// The object, and before it a text for the model where the object is not enough.
    Done {
        object: Value,
        text: Option<String>,
    },
    Refused(Refusal),
    /// The client is to ask a person, and then this again.
    InputRequired(InputRequiredResult),
    /// The request is not one of the protocol.
    Protocol(ErrorData),
}

impl Answer {
    pub const fn done(object: Value) -> Self {
        Self::Done { object, text: None }
    }

    /// For the log: `ok`, or the code of the error.
    pub fn outcome(&self) -> &str {
        match self {
            Self::Done { object, text } => match object["error"]["code"].as_str() {
                Some(code) => code,
                None if text.is_some() => "pending",
                None => "ok",
            },
            Self::Refused(refusal) => refusal.code,
            Self::InputRequired(_) => "input_required",
            Self::Protocol(_) => "invalid_params",
        }
    }

    pub fn into_response(self) -> Result<CallToolResponse, ErrorData> {
        let (object, text, is_error) = match self {
            Self::InputRequired(result) => return Ok(result.into()),
            Self::Protocol(error) => return Err(error),
            // A sync that failed is an error, although the credential is saved.
            Self::Done { object, text } => {
                let is_error = object.get("error").is_some();
                (object, text, is_error)
            }
            Self::Refused(refusal) => (refusal.to_json(), None, true),
        };
        let mut result = CallToolResult::default();
        result.content = text.into_iter().chain([object.to_string()]).map(ContentBlock::text).collect();
        result.structured_content = Some(object);
        result.is_error = Some(is_error);
        Ok(result.into())
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The receipt of a change.
pub fn receipt(receipt: &Receipt) -> Value {
    let Receipt { key, is_configured, has_credentials, updated_at, error, .. } = receipt;
    let mut object = json!({
        "key": key, "isConfigured": is_configured, "hasCredentials": has_credentials, "updatedAt": updated_at,
    });
    if let Some(error) = error {
        object["error"] = json!({
            "status": error.status, "code": error.code, "message": super::super::text::clean(&error.message),
            "hint": "The credential is saved. Calling again is safe.",
        });
    }
    object
}

/// The receipt as the row is now.
pub fn receipt_of_row(row: &Integration) -> Value {
    let Integration { key, is_configured, has_credentials, updated_at, .. } = row;
    json!({"key": key, "isConfigured": is_configured, "hasCredentials": has_credentials, "updatedAt": updated_at})
}
