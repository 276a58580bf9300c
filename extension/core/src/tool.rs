//! The metered functions, and which of their parameters are sensitive.

use crate::redact::REDACTED;
use serde_json::{Map, Value};

/// A function that is metered under its own name.
#[derive(Debug, PartialEq, Eq)]
pub struct Tool {
    /// The name of the function, and its key in `tool_metering`.
    pub key: &'static str,
    /// The parameters that are metered.
    pub parameters: &'static [&'static str],
    /// The parameters whose content must not be shown.
    pub sensitive: &'static [&'static str],
}

/// Sets or rotates a credential.
pub static SET: Tool = Tool {
    key: "admin_set_integration_credentials",
    parameters: &["key", "value", "actor"],
    sensitive: &["value"],
};
/// Sets or rotates a credential from a sealed value.
pub static SET_SEALED: Tool = Tool {
    key: "admin_set_integration_credentials_sealed",
    parameters: &["key", "sealed", "actor"],
    sensitive: &["sealed"],
};
/// Removes a credential.
pub static REMOVE: Tool =
    Tool { key: "admin_remove_integration_credentials", parameters: &["key", "actor"], sensitive: &[] };
/// Adds or replaces a catalog entry.
pub static REGISTER: Tool =
    Tool { key: "admin_register_integration", parameters: &["key", "display_name", "actor"], sensitive: &[] };
/// Removes a catalog entry.
pub static UNREGISTER: Tool =
    Tool { key: "admin_unregister_integration", parameters: &["key", "actor"], sensitive: &[] };
/// Enables or disables a catalog entry.
pub static SET_ENABLED: Tool =
    Tool { key: "admin_set_integration_enabled", parameters: &["key", "enabled", "actor"], sensitive: &[] };

static ALL: [&Tool; 6] = [&SET, &SET_SEALED, &REMOVE, &REGISTER, &UNREGISTER, &SET_ENABLED];

impl Tool {
    /// The tool with this key.
    #[must_use]
    pub fn find(key: &str) -> Option<&'static Self> {
        ALL.into_iter().find(|tool| tool.key == key)
    }

    /// The parameters to meter: unknown parameters are left out, sensitive ones are replaced.
    #[must_use]
    pub fn redact(&self, mut given: Map<String, Value>) -> Map<String, Value> {
        let mut redacted = Map::new();
        for &name in self.parameters {
            if let Some(value) = given.remove(name) {
                let sensitive = self.sensitive.contains(&name);
                redacted.insert(name.into(), if sensitive { REDACTED.into() } else { value });
            }
        }
        redacted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sensitive_and_unknown_parameters_never_pass() {
        let Value::Object(given) = json!({"key": "k", "value": "s3cret", "actor": "a", "Value": "s3cret"})
        else {
            unreachable!()
        };
        let redacted = SET.redact(given);
        assert_eq!(Value::Object(redacted), json!({"key": "k", "value": "<redacted>", "actor": "a"}));
    }

    #[test]
    fn every_sensitive_parameter_is_a_parameter() {
        for tool in ALL {
            assert!(tool.sensitive.iter().all(|name| tool.parameters.contains(name)));
            assert_eq!(Tool::find(tool.key), Some(tool));
        }
    }
}
