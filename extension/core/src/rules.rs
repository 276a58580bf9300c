//! What the catalog demands of a value, declared in its `rules` column and checked here, in linear time.
//!
//! | rule | type | holds when |
//! | --- | --- | --- |
//! | `minLength`, `maxLength` | integer, characters | the value is no shorter, no longer |
//! | `prefix` | text | the value begins with it |
//! | `pattern` | regular expression (`regex` crate) | the whole value matches |
//! | `schema` | JSON Schema (draft 2020-12 unless it names another) | the value is JSON that is valid under it |
//!
//! A schema is a tree: `$ref` and its kin are refused, as a few of them can describe one that takes years to walk, and so
//! are `unevaluatedItems` and `unevaluatedProperties`, which walk it again. Rules have at most 64 KiB.
//!
//! A pattern takes time by its own length times that of the value, and cannot be interrupted; a schema may have several. So
//! neither is for values of more than 64 KiB, which are refused.
//!
//! A message names the rule and where it stands, never anything of the value: not even a property's name, unless the
//! schema itself has it.

use crate::limits::MAX_VALUE_CHARS;
use crate::redact::wipe;
use jsonschema::{PatternOptions, Validator, error::ValidationErrorKind};
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

const MAX_BYTES: usize = 64 << 10;
/// The longest value that is matched against a pattern or schema, in bytes.
const MAX_MATCHED_BYTES: usize = 64 << 10;
const REFUSED_KEYWORDS: [&str; 5] =
    ["$ref", "$dynamicRef", "$recursiveRef", "unevaluatedItems", "unevaluatedProperties"];

/// The rules as they are declared.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Declared {
    min_length: Option<usize>,
    max_length: Option<usize>,
    prefix: Option<String>,
    pattern: Option<String>,
    schema: Option<Value>,
}

/// The rules of one integration, compiled.
#[derive(Debug)]
pub struct Rules {
    min_length: usize,
    max_length: usize,
    prefix: String,
    pattern: Option<(String, Regex)>,
    schema: Option<Validator>,
}

/// Why rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// Not a JSON object of the known rules.
    #[error("rules are not of the expected form: {0}")]
    Form(serde_json::Error),
    /// Longer than they may be.
    #[error("rules have {0} bytes, and at most {MAX_BYTES} are possible")]
    Size(usize),
    /// The lengths leave no room.
    #[error("minLength {0} is greater than maxLength {1}")]
    Lengths(usize, usize),
    /// Longer than any value may be.
    #[error("{0} {1} is greater than {MAX_VALUE_CHARS}, the most that a value can ever have")]
    Limit(&'static str, usize),
    /// Not a regular expression, or one that is too large.
    #[error("pattern is not a regular expression of the regex crate: {0}")]
    Pattern(String),
    /// Not a JSON Schema, or one that refers to something outside itself.
    #[error("schema is not a JSON Schema: {0}")]
    Schema(String),
}

impl Rules {
    /// Compiles rules from the text of their JSON object.
    pub fn compile(declared: &str) -> Result<Self, RulesError> {
        if declared.len() > MAX_BYTES {
            return Err(RulesError::Size(declared.len()));
        }
        let Declared { min_length, max_length, prefix, pattern, schema } =
            serde_json::from_str(declared).map_err(RulesError::Form)?;
        let (min_length, max_length) = (min_length.unwrap_or(1), max_length.unwrap_or(MAX_VALUE_CHARS));
        for (name, length) in [("minLength", min_length), ("maxLength", max_length)] {
            if length > MAX_VALUE_CHARS {
                return Err(RulesError::Limit(name, length));
            }
        }
        if min_length > max_length {
            return Err(RulesError::Lengths(min_length, max_length));
        }
        Ok(Self {
            min_length,
            max_length,
            prefix: prefix.unwrap_or_default(),
            pattern: pattern.map(compile_pattern).transpose()?,
            schema: schema.as_ref().map(compile_schema).transpose()?,
        })
    }

    /// `Err` with the reason when `value` breaks a rule.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let length = value.chars().count();
        if length < self.min_length {
            return Err(format!("the value is shorter than {} characters", self.min_length));
        }
        if length > self.max_length {
            return Err(format!("the value is longer than {} characters", self.max_length));
        }
        if !value.starts_with(&self.prefix) {
            return Err(format!("the value does not begin with {:?}", self.prefix));
        }
        if value.len() > MAX_MATCHED_BYTES && (self.pattern.is_some() || self.schema.is_some()) {
            return Err(format!(
                "the value has {} bytes, and the rules pattern and schema are for values of at most {MAX_MATCHED_BYTES}",
                value.len()
            ));
        }
        if let Some((source, regex)) = &self.pattern
            && !regex.is_match(value)
        {
            return Err(format!("the value does not match the pattern {source}"));
        }
        self.schema.as_ref().map_or(Ok(()), |schema| check_schema(schema, value))
    }
}

fn compile_pattern(source: String) -> Result<(String, Regex), RulesError> {
    // Alone first, or `a)|(b` would be taken for two halves of the group that it is put into.
    let compiled = Regex::new(&source).and_then(|_| Regex::new(&format!(r"\A(?:{source})\z")));
    match compiled {
        Ok(regex) => Ok((source, regex)),
        Err(error) => Err(RulesError::Pattern(last_line(&error.to_string()))),
    }
}

fn compile_schema(schema: &Value) -> Result<Validator, RulesError> {
    if let Some(keyword) = refused_keyword(schema) {
        return Err(RulesError::Schema(format!("{keyword} is not supported, write out what it refers to")));
    }
    jsonschema::options()
        // The default engine backtracks.
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .map_err(|error| RulesError::Schema(last_line(&error.to_string())))
}

fn refused_keyword(schema: &Value) -> Option<&'static str> {
    match schema {
        Value::Object(members) => REFUSED_KEYWORDS
            .into_iter()
            .find(|keyword| members.contains_key(*keyword))
            .or_else(|| members.values().find_map(refused_keyword)),
        Value::Array(items) => items.iter().find_map(refused_keyword),
        _ => None,
    }
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

fn check_schema(schema: &Validator, value: &str) -> Result<(), String> {
    // serde_json's own message quotes nothing, but says where the value stops to be JSON.
    let mut document: Value = serde_json::from_str(value).map_err(|error| {
        format!("the value is not JSON (line {}, column {})", error.line(), error.column())
    })?;
    let verdict = schema.validate(&document).map_err(|error| {
        let place = error.schema_path();
        match error.kind() {
            // The name of a required property comes from the schema.
            ValidationErrorKind::Required { property } => {
                format!("the value lacks the property {property} (schema rule {place})")
            }
            _ => format!("the value breaks the schema rule {place}"),
        }
    });
    wipe(&mut document);
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn refusal(rules: &Value, value: &str) -> String {
        Rules::compile(&rules.to_string()).unwrap().check(value).unwrap_err()
    }

    #[test]
    fn lengths_count_characters() {
        let rules = json!({"minLength": 2, "maxLength": 3});
        assert!(refusal(&rules, "😀").contains("shorter than 2"));
        assert!(refusal(&rules, "😀😀😀😀").contains("longer than 3"));
        assert!(Rules::compile(&rules.to_string()).unwrap().check("😀😀").is_ok());
    }

    #[test]
    fn prefix_and_pattern_hold_for_the_whole_value() {
        assert!(refusal(&json!({"prefix": "xoxb-"}), "s3cr3t").contains("\"xoxb-\""));
        let rules = json!({"pattern": "a+|b+"});
        assert!(refusal(&rules, "xaa").contains("a+|b+"));
        assert!(refusal(&rules, "aab").contains("pattern"));
        assert!(Rules::compile(&rules.to_string()).unwrap().check("bbb").is_ok());
    }

    #[test]
    fn a_schema_refusal_names_the_rule_and_nothing_of_the_value() {
        let rules = json!({"schema": {
            "type": "object",
            "required": ["username", "password"],
            "properties": {"username": {"type": "string"}, "password": {"type": "string", "minLength": 8}},
            "additionalProperties": false,
        }});
        assert!(refusal(&rules, "hunter2").contains("not JSON"));
        assert!(refusal(&rules, r#"{"username": "u"}"#).contains("lacks the property \"password\""));
        for value in [
            r#"{"username": "u", "password": "hunter2"}"#,
            r#"{"username": "u", "password": "long enough", "hunter2": 1}"#,
            r#"{"username": {"hunter2": "hunter2"}, "password": "long enough"}"#,
            r#"["hunter2"]"#,
        ] {
            let reason = refusal(&rules, value);
            assert!(reason.contains("schema rule /") && !reason.contains("hunter2"), "{reason}");
        }
    }

    #[test]
    fn a_value_that_would_take_long_to_match_is_refused() {
        let longest = "a".repeat(MAX_MATCHED_BYTES);
        let longer = format!("{longest}a");
        let document = |text: &str| format!("\"{}\"", &text[2..]);
        for (rules, value, too_long) in [
            (json!({"pattern": "a*"}), longest.clone(), longer.clone()),
            (json!({"schema": {"type": "string"}}), document(&longest), document(&longer)),
        ] {
            assert!(Rules::compile(&rules.to_string()).unwrap().check(&value).is_ok());
            let reason = refusal(&rules, &too_long);
            assert!(reason.contains("65537 bytes") && reason.contains("at most 65536"), "{reason}");
        }
        let rules = json!({"prefix": "a", "minLength": MAX_VALUE_CHARS});
        assert!(Rules::compile(&rules.to_string()).unwrap().check(&"a".repeat(MAX_VALUE_CHARS)).is_ok());
    }

    #[test]
    fn rules_that_cannot_be_used_are_refused() {
        for (rules, expected) in [
            (json!({"minLenght": 1}), "unknown field"),
            (json!({"minLength": -1}), "expected form"),
            (json!({"minLength": 9, "maxLength": 8}), "greater than maxLength"),
            (json!({"maxLength": MAX_VALUE_CHARS + 1}), "1048577"),
            (json!({"pattern": "("}), "unclosed group"),
            (json!({"pattern": "(?=a)"}), "look-around"),
            (json!({"pattern": "a){2}|(?:b"}), "unopened group"),
            (json!({"schema": {"type": "strnig"}}), "schema"),
            (json!({"schema": {"pattern": "(?=a)"}}), "schema"),
            (json!({"schema": {"$ref": "https://example.com/schema.json"}}), "$ref is not supported"),
            (json!({"schema": {"allOf": [{"$dynamicRef": "#a"}]}}), "$dynamicRef is not supported"),
            (json!({"schema": {"unevaluatedItems": false}}), "unevaluatedItems is not supported"),
            (json!({"schema": {"description": "x".repeat(MAX_BYTES)}}), "at most 65536"),
            (json!([]), "expected form"),
        ] {
            let error = Rules::compile(&rules.to_string()).unwrap_err().to_string();
            assert!(error.contains(expected), "{rules}: {error}");
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics(declared in "\\PC*", value in "\\PC*") {
            if let Ok(rules) = Rules::compile(&declared) {
                let _ = rules.check(&value);
            }
        }
    }
}
