//! The rules for a value, declared in the catalog's `rules` column and checked here in linear time.
//!
//! | rule | type | holds when |
//! | --- | --- | --- |
//! | `minLength`, `maxLength` | integer, characters | the value is no shorter, no longer |
//! | `prefix` | text | the value begins with it |
//! | `pattern` | regular expression (`regex` crate) | the whole value matches |
//! | `schema` | JSON Schema (draft 2020-12 unless it names another) | the value is JSON that is valid under the schema |
//!
//! A schema is a tree. `$ref`, `$dynamicRef` and `$recursiveRef` are refused, because a few of them can
//! describe a schema that takes years to walk. `unevaluatedItems` and `unevaluatedProperties` are refused,
//! because they walk the tree again. Rules have at most 64 KiB.
//!
//! A few bytes of a pattern, such as `\w{9999}`, compile to megabytes, and each place in a schema keeps its
//! path. So the patterns of an integration, in the rule `pattern` and in the schema, share limits of number,
//! length and compiled size. The paths share a limit too.
//!
//! Matching takes the compiled size times the length of the value, and cannot be interrupted. So the rules
//! `pattern` and `schema` refuse values of more than 64 KiB.
//!
//! A message names the rule and its place, never a part of the value: not even the name of a property, unless
//! the schema has it.

use crate::limits::MAX_VALUE_CHARS;
use crate::redact::wipe;
use jsonschema::{PatternOptions, Validator, error::ValidationErrorKind};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::Value;

/// The longest rules, in bytes of their text.
pub const MAX_BYTES: usize = 64 << 10;
/// The longest value that is matched against a pattern or schema, in bytes.
const MAX_MATCHED_BYTES: usize = 64 << 10;
/// The most patterns.
const MAX_PATTERNS: usize = 64;
/// The most bytes of all patterns together. Before compilation, a Unicode class takes a thousand times its
/// name.
const MAX_PATTERN_BYTES: usize = 4 << 10;
/// The largest compiled size of all patterns together, in bytes: of ordinary patterns, and of any.
const PROGRAM_BYTES: [usize; 2] = [64 << 10, 2 << 20];
/// The most bytes of the paths of all places in a schema.
const MAX_PATH_BYTES: usize = 1 << 20;
/// The most that [`Rules::compile`] allocates, in bytes, with a margin: 20 MB were measured.
pub const COMPILE_BYTES: usize = 64 << 20;
/// The most that [`Rules::check`] allocates, in bytes, with a margin: 12 MB were measured.
pub const CHECK_BYTES: usize = 24 << 20;
/// The most that a check by an ordinary pattern and no schema allocates, in bytes, with a margin: 138 kB were measured.
pub const ORDINARY_CHECK_BYTES: usize = 256 << 10;
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
    weight: usize,
    is_costly: bool,
}

/// Why rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// Not a JSON object of the known rules.
    #[error("rules are not of the expected form: {0}")]
    Form(serde_json::Error),
    /// Longer than they may be.
    #[error("rules have {0} bytes; at most {MAX_BYTES} are allowed")]
    Size(usize),
    /// The lengths leave no room.
    #[error("minLength {0} is greater than maxLength {1}")]
    Lengths(usize, usize),
    /// Longer than any value may be.
    #[error("{0} {1} is greater than {MAX_VALUE_CHARS}, the length of the longest value")]
    Limit(&'static str, usize),
    /// Not a regular expression, or a too large one.
    #[error("pattern is not a regular expression of the regex crate: {0}")]
    Pattern(String),
    /// Too many patterns.
    #[error("pattern and schema have {0} patterns; at most {MAX_PATTERNS} are allowed")]
    Patterns(usize),
    /// Patterns that are too long.
    #[error("the patterns of pattern and schema have {0} bytes; at most {MAX_PATTERN_BYTES} are allowed")]
    PatternSize(usize),
    /// Too many places that lie too deep.
    #[error(
        "the paths of all places in the schema have {0} bytes; at most {MAX_PATH_BYTES} are allowed: nest it less, or shorten its names"
    )]
    Paths(usize),
    /// Not a JSON Schema, or a schema with a refused keyword.
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
        let mut extent = Extent::default();
        if let Some(pattern) = &pattern {
            extent.add_pattern(pattern);
        }
        if let Some(schema) = &schema {
            extent.add_schema(schema, 0)?;
        }
        extent.check()?;
        let prefix = prefix.unwrap_or_default();
        let [ordinary, most] = PROGRAM_BYTES;
        let compile = |bytes| {
            let limit = bytes / extent.patterns.max(1);
            Ok(Self {
                min_length,
                max_length,
                prefix: prefix.clone(),
                pattern: pattern.as_deref().map(|source| compile_pattern(source, limit)).transpose()?,
                schema: schema.as_ref().map(|schema| compile_schema(schema, limit)).transpose()?,
                weight: extent.weight(declared.len(), bytes),
                is_costly: schema.is_some() || pattern.is_some() && bytes > ordinary,
            })
        };
        // Rules with another error fail again.
        compile(ordinary).or_else(|_| compile(most))
    }

    /// The memory that the compiled rules keep, in bytes: an upper estimate.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Whether a check may allocate more than [`ORDINARY_CHECK_BYTES`].
    #[must_use]
    pub fn are_costly(&self) -> bool {
        self.is_costly
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
                "the value has {} bytes; the rules pattern and schema take values of at most {MAX_MATCHED_BYTES}",
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

/// The amount that there is to compile.
#[derive(Default)]
struct Extent {
    patterns: usize,
    pattern_bytes: usize,
    path_bytes: usize,
}

impl Extent {
    fn add_pattern(&mut self, pattern: &str) {
        self.patterns += 1;
        self.pattern_bytes += pattern.len();
    }

    /// Adds a schema, or a part of one at a path of so many bytes, and refuses a schema with a refused
    /// keyword.
    fn add_schema(&mut self, schema: &Value, path: usize) -> Result<(), RulesError> {
        self.path_bytes += path;
        match schema {
            Value::Object(members) => {
                if let Some(keyword) = REFUSED_KEYWORDS.into_iter().find(|&word| members.contains_key(word)) {
                    let problem = format!("{keyword} is not supported; write the schema out without it");
                    return Err(RulesError::Schema(problem));
                }
                if let Some(Value::String(pattern)) = members.get("pattern") {
                    self.add_pattern(pattern);
                }
                if let Some(Value::Object(patterns)) = members.get("patternProperties") {
                    patterns.keys().for_each(|pattern| self.add_pattern(pattern));
                }
                members.iter().try_for_each(|(name, part)| self.add_schema(part, path + 1 + name.len()))
            }
            // A number has five digits at most.
            Value::Array(parts) => parts.iter().try_for_each(|part| self.add_schema(part, path + 6)),
            _ => Ok(()),
        }
    }

    fn check(&self) -> Result<(), RulesError> {
        match *self {
            Self { patterns, .. } if patterns > MAX_PATTERNS => Err(RulesError::Patterns(patterns)),
            Self { pattern_bytes, .. } if pattern_bytes > MAX_PATTERN_BYTES => {
                Err(RulesError::PatternSize(pattern_bytes))
            }
            Self { path_bytes, .. } if path_bytes > MAX_PATH_BYTES => Err(RulesError::Paths(path_bytes)),
            _ => Ok(()),
        }
    }

    /// Measured with the worst rules of each kind: a program, its caches, and 75 bytes for each byte of a
    /// schema.
    fn weight(&self, declared: usize, program: usize) -> usize {
        let programs = if self.patterns > 0 { 4 * program } else { 0 };
        programs + 96 * declared + 2 * self.path_bytes
    }
}

fn compile_pattern(source: &str, limit: usize) -> Result<(String, Regex), RulesError> {
    let build = |source: &str| RegexBuilder::new(source).size_limit(limit).dfa_size_limit(limit).build();
    // Alone first, because `a)|(b` would be valid inside the group.
    match build(source).and_then(|_| build(&format!(r"\A(?:{source})\z"))) {
        Ok(regex) => Ok((source.to_owned(), regex)),
        Err(regex::Error::CompiledTooBig(_)) => Err(RulesError::Pattern(too_large(limit))),
        Err(error) => Err(RulesError::Pattern(last_line(&error.to_string()))),
    }
}

fn compile_schema(schema: &Value, limit: usize) -> Result<Validator, RulesError> {
    jsonschema::options()
        // The default engine backtracks.
        .with_pattern_options(PatternOptions::regex().size_limit(limit).dfa_size_limit(limit))
        .build(schema)
        .map_err(|error| {
            let problem = last_line(&error.to_string());
            RulesError::Schema(match error.kind() {
                ValidationErrorKind::Format { .. } => format!("{problem}, or {}", too_large(limit)),
                _ => problem,
            })
        })
}

/// The problem of a pattern that compiles to more than its share.
fn too_large(limit: usize) -> String {
    format!(
        "it compiles to more than {limit} bytes, its share of {}: repeat less, and write [a-z] instead of \\w or \\p{{L}}, \
         which match thousands of characters",
        PROGRAM_BYTES[1]
    )
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

fn check_schema(schema: &Validator, value: &str) -> Result<(), String> {
    // Only the position of serde_json's error, which quotes nothing.
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

    #[test]
    fn rules_that_would_take_much_memory_or_time_are_refused_and_ordinary_ones_are_not() {
        let many = |unit: &Value, count: usize| Value::from(vec![unit.clone(); count]);
        let deep = (0..100).fold(json!({}), |inner, _| json!({"not": inner}));
        let patterns = |count: usize| -> Vec<Value> {
            (0..count).map(|number| json!({"pattern": format!("^[A-Za-z0-9_-]{{10}}{number}$")})).collect()
        };
        for (rules, expected) in [
            (json!({"pattern": r"\w{200}"}), "more than 2097152 bytes"),
            (json!({"pattern": "(?:(?:a?){300}){300}Z"}), "more than 2097152 bytes"),
            (json!({"pattern": r"\p{L}".repeat(1000)}), "5000 bytes; at most 4096"),
            (json!({"schema": {"pattern": r"\p{L}{200}"}}), "more than 2097152 bytes"),
            (json!({"schema": {"patternProperties": {r"\p{L}{200}": {}}}}), "more than 2097152 bytes"),
            (json!({"pattern": "a", "schema": {"allOf": patterns(64)}}), "65 patterns; at most 64"),
            (
                json!({"schema": {"allOf": [{"pattern": "a".repeat(4000)}, {"pattern": "b".repeat(97)}]}}),
                "4097 bytes",
            ),
            (
                json!({"schema": {"properties": {"x".repeat(9000): {"allOf": many(&json!({}), 5000)}}}}),
                "paths",
            ),
            (json!({"schema": {"allOf": many(&deep, 70)}}), "paths"),
        ] {
            let began = std::time::Instant::now();
            let error = Rules::compile(&rules.to_string()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(began.elapsed().as_secs() < 30, "{expected}");
        }
        for rules in [
            json!({"pattern": r"sk_live_\w{40}"}),
            json!({"pattern": "[A-Za-z0-9_-]{1000}"}),
            json!({"pattern": ".{255}"}),
            json!({"schema": {"allOf": patterns(64)}}),
            json!({"schema": {"properties": {"a": {"pattern": r"^\w{10}$"}, "b": {"pattern": "^.{1,100}$"}}}}),
            json!({"schema": {"properties": {"pattern": {"type": "string"}, "patternProperties": {}}}}),
            json!({"schema": {"anyOf": many(&json!({"type": "string"}), 3000)}}),
        ] {
            let rules = Rules::compile(&rules.to_string()).unwrap_or_else(|error| panic!("{rules}: {error}"));
            assert!(rules.weight() < CHECK_BYTES);
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
