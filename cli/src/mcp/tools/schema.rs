//! What a client reads about the tools: written by hand, because each byte of it is in every conversation.

use super::Tool;
use rmcp::model::{self, JsonObject, ToolAnnotations};
use serde_json::{Value, json};
use std::sync::Arc;

/// A tool, as a client sees it. `values` is whether the caller may give a value.
pub fn definition(tool: Tool, values: bool) -> model::Tool {
    let Words { title, description, output } = words(tool);
    let (read_only, destructive, idempotent) = match tool {
        Tool::List | Tool::Status | Tool::SealingKey | Tool::Audit => (true, None, true),
        Tool::Remove => (false, Some(true), true),
        Tool::Set | Tool::Promote | Tool::Rollback => (false, Some(true), false),
    };
    let mut defined = model::Tool::new(tool.name(), description, object(input(tool, values)));
    defined.title = Some(title.to_owned());
    // No `required`: a client that validates the results of failed calls would throw away the error.
    defined.output_schema = Some(Arc::new(object(json!({"type": "object", "properties": output}))));
    let idempotent = idempotent.then_some(true);
    defined.annotations =
        Some(ToolAnnotations::from_raw(None, Some(read_only), destructive, idempotent, Some(false)));
    defined
}

fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(object) => object,
        _ => JsonObject::new(),
    }
}

fn input(tool: Tool, values: bool) -> Value {
    let key = json!({"type": "string", "minLength": 1, "maxLength": 255});
    let number = json!({"type": "integer", "minimum": 0});
    let (properties, required) = match tool {
        Tool::List => (
            json!({
                "keys": {"type": "array", "items": key, "minItems": 1, "maxItems": 100},
                "after": {"type": "string", "description": "next of the last answer"},
                "limit": {"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
                "details": {"type": "boolean", "description": "rules, docs and example too"},
            }),
            json!([]),
        ),
        Tool::Set => {
            let mut properties = json!({
                "integration_key": key,
                "expected_revision": number,
                "sealed": {"type": "string", "maxLength": 44100, "description": "base64, by get_sealing_key"},
            });
            if values {
                properties["value"] = json!({"type": "string", "minLength": 1, "maxLength": 8192});
            }
            (properties, json!(["integration_key"]))
        }
        Tool::Remove => (json!({"integration_key": key}), json!(["integration_key"])),
        Tool::Promote | Tool::Rollback => {
            (json!({"integration_key": key, "expected_revision": number}), json!(["integration_key"]))
        }
        Tool::Status => (json!({"integration_key": key}), json!([])),
        Tool::SealingKey => (json!({}), json!([])),
        Tool::Audit => (
            json!({
                "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
                "before_id": {"type": "integer", "description": "next of the last answer"},
            }),
            json!([]),
        ),
    };
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if required != json!([]) {
        schema["required"] = required;
    }
    schema
}

struct Words {
    title: &'static str,
    description: &'static str,
    output: Value,
}

fn words(tool: Tool) -> Words {
    let (text, flag, any) =
        (json!({"type": "string"}), json!({"type": "boolean"}), json!({"type": "object"}));
    let objects = json!({"type": "array", "items": any});
    let receipt = json!({
        "key": text, "isConfigured": flag, "hasCredentials": flag, "updatedAt": {"type": ["string", "null"]}, "error": any,
    });
    match tool {
        Tool::List => Words {
            title: "List integrations",
            description: "Lists the integrations, and whether the org has a credential for each. Never a value.",
            output: json!({"org": text, "integrations": objects, "next": text, "error": any}),
        },
        Tool::Set => Words {
            title: "Set a credential",
            description: "Sets or rotates the credential of an integration. A person types the secret into a page: never ask for \
                          it, and never write it here. If the answer has pending, show its url to the person; it is done when \
                          list_integrations shows a higher revision.",
            output: {
                let mut output = receipt;
                output["pending"] = any;
                output
            },
        },
        Tool::Remove => Words {
            title: "Remove a credential",
            description: "Removes the credential of an integration.",
            output: receipt,
        },
        Tool::Status => Words {
            title: "Show rotations",
            description: "Shows how far each rotation is, and which consumers may still use an old value.",
            output: json!({"rotations": objects, "leftOut": {"type": "integer"}, "error": any}),
        },
        Tool::Promote => Words {
            title: "Promote a staged credential",
            description: "Makes the staged value of an integration the current one.",
            output: receipt,
        },
        Tool::Rollback => Words {
            title: "Roll a credential back",
            description: "Makes the previous value of an integration the current one, or brings a removed one back.",
            output: receipt,
        },
        Tool::SealingKey => Words {
            title: "Get the sealing key",
            description: "Returns the public key to seal a value to, for programs; good for ten minutes.",
            output: json!({
                "form": {"type": "integer"}, "org": text, "role": text, "issuedAt": {"type": "integer"}, "keyId": text,
                "publicKey": text, "error": any,
            }),
        },
        Tool::Audit => Words {
            title: "Read the audit log",
            description: "Lists who changed which credential, newest first.",
            output: json!({"rows": objects, "next": {"type": "integer"}, "error": any}),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(tools: impl IntoIterator<Item = Tool>) -> usize {
        let tools: Vec<_> = tools.into_iter().map(|tool| definition(tool, true)).collect();
        serde_json::to_string(&tools).unwrap().len()
    }

    #[test]
    fn all_tools_take_less_than_6000_bytes() {
        assert!(bytes(Tool::ALL) < 6000, "{}", bytes(Tool::ALL));
    }

    #[test]
    fn only_a_caller_with_the_right_sees_that_a_value_can_be_given() {
        for (tool, values) in Tool::ALL.into_iter().flat_map(|tool| [(tool, false), (tool, true)]) {
            let has_value = definition(tool, values).input_schema["properties"].get("value").is_some();
            assert_eq!(has_value, values && tool == Tool::Set);
        }
    }

    #[test]
    fn every_output_can_be_an_error_and_requires_nothing() {
        for tool in Tool::ALL {
            let output = definition(tool, false).output_schema.unwrap();
            assert!(
                output["properties"].get("error").is_some() && !output.contains_key("required"),
                "{tool:?}"
            );
        }
    }
}
