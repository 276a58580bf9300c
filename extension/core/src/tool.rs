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
    parameters: &["key", "value", "actor", "options"],
    sensitive: &["value", "options"],
};
/// Sets or rotates a credential from a sealed value.
pub static SET_SEALED: Tool = Tool {
    key: "admin_set_integration_credentials_sealed",
    parameters: &["key", "sealed", "actor", "options"],
    sensitive: &["sealed", "options"],
};
/// Makes the pending value current.
pub static PROMOTE: Tool = Tool {
    key: "admin_promote_integration_credentials",
    parameters: &["key", "actor", "expected_revision"],
    sensitive: &[],
};
/// Drops the pending value.
pub static DISCARD: Tool =
    Tool { key: "admin_discard_integration_credentials", parameters: &["key", "actor"], sensitive: &[] };
/// Makes the previous value current.
pub static ROLLBACK: Tool = Tool {
    key: "admin_rollback_integration_credentials",
    parameters: &["key", "actor", "expected_revision"],
    sensitive: &[],
};
/// Drops the previous value.
pub static RETIRE: Tool = Tool {
    key: "admin_retire_integration_credentials",
    parameters: &["key", "actor", "force"],
    sensitive: &[],
};
/// Removes a credential.
pub static REMOVE: Tool = Tool {
    key: "admin_remove_integration_credentials",
    parameters: &["key", "actor", "purge"],
    sensitive: &[],
};
/// Finds the integrations that have a value.
pub static FIND: Tool =
    Tool { key: "find_integration_credentials", parameters: &["sealed", "actor"], sensitive: &["sealed"] };
/// Adds or replaces a catalog entry.
pub static REGISTER: Tool =
    Tool { key: "admin_register_integration", parameters: &["key", "display_name", "actor"], sensitive: &[] };
/// Removes a catalog entry.
pub static UNREGISTER: Tool =
    Tool { key: "admin_unregister_integration", parameters: &["key", "actor"], sensitive: &[] };
/// Enables or disables a catalog entry.
pub static SET_ENABLED: Tool =
    Tool { key: "admin_set_integration_enabled", parameters: &["key", "enabled", "actor"], sensitive: &[] };
/// Sets how long the previous value is kept.
pub static SET_KEEP_PREVIOUS: Tool = Tool {
    key: "admin_set_integration_keep_previous",
    parameters: &["key", "keep_previous", "actor"],
    sensitive: &[],
};

static ALL: [&Tool; 12] = [
    &SET,
    &SET_SEALED,
    &PROMOTE,
    &DISCARD,
    &ROLLBACK,
    &RETIRE,
    &REMOVE,
    &FIND,
    &REGISTER,
    &UNREGISTER,
    &SET_ENABLED,
    &SET_KEEP_PREVIOUS,
];

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
