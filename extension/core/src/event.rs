//! The payload of a notification. Any role may LISTEN, so a payload names the change and never has a value.

use serde::{Deserialize, Serialize};
use std::ffi::CStr;

/// The channel that events are sent on.
pub const CHANNEL: &str = "integration_credentials";

/// The payload that tells every listener to read the whole list again. It names no org and no key.
pub const RESYNC: &CStr = c"{\"v\":1,\"op\":\"resync\"}";

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// A credential was set for the first time, rotated, promoted or rolled back.
    Set,
    /// The credential was removed.
    Remove,
    /// The catalog entry was enabled.
    Enable,
    /// The catalog entry was disabled.
    Disable,
    /// A value was stored as pending.
    Stage,
    /// The pending value was dropped.
    Discard,
    /// The previous value was dropped.
    Retire,
}

/// A change, as announced when its transaction commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The org whose credential it is.
    pub org: String,
    /// The integration key.
    pub key: String,
    /// The revision after the change; 0 where the org never had a credential.
    pub revision: i64,
    /// What was done.
    pub operation: Operation,
}

/// Why a payload is not an event.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// Not JSON of the expected form.
    #[error("not an event: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A version that this release does not know.
    #[error("an event of version {0}; this release knows version 1")]
    Version(u32),
}

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Payload<S> {
    v: u32,
    org: S,
    key: S,
    revision: i64,
    op: Operation,
}

impl Event {
    /// `{"v":1,"org":"acme","key":"salesforce","revision":42,"op":"set"}`
    pub fn to_payload(&self) -> Result<String, EventError> {
        Ok(serde_json::to_string(&Payload {
            v: VERSION,
            org: self.org.as_str(),
            key: self.key.as_str(),
            revision: self.revision,
            op: self.operation,
        })?)
    }

    /// Reads a payload back.
    pub fn parse(payload: &str) -> Result<Self, EventError> {
        let Payload { v, org, key, revision, op } = serde_json::from_str::<Payload<String>>(payload)?;
        if v != VERSION {
            return Err(EventError::Version(v));
        }
        Ok(Self { org, key, revision, operation: op })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_the_published_form_and_is_read_back() {
        let event =
            Event { org: "acme".into(), key: "salesforce".into(), revision: 42, operation: Operation::Set };
        let payload = event.to_payload().unwrap();
        assert_eq!(payload, r#"{"v":1,"org":"acme","key":"salesforce","revision":42,"op":"set"}"#);
        assert_eq!(Event::parse(&payload).unwrap(), event);
    }

    #[test]
    fn the_longest_event_fits_into_a_notification() {
        // Postgres takes payloads below 8000 bytes; a control character takes six of them in JSON.
        let worst = "\u{1}".repeat(255);
        let event =
            Event { org: worst.clone(), key: worst, revision: i64::MAX, operation: Operation::Disable };
        assert!(event.to_payload().unwrap().len() < 8000);
    }

    #[test]
    fn another_version_or_form_is_an_error() {
        let later = r#"{"v":2,"org":"a","key":"k","revision":1,"op":"set"}"#;
        assert!(matches!(Event::parse(later), Err(EventError::Version(2))));
        assert!(matches!(Event::parse("hello"), Err(EventError::Malformed(_))));
    }
}
