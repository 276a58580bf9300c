//! The rows of the matrix: the ways in which a value gets to the server.

use super::call::{Call, Fault, Spelling, USUAL, hex};
use tokio_postgres::types::{Format, Type};

/// A way to call.
#[derive(Clone, Copy)]
pub struct Way {
    pub name: &'static str,
    pub carries: Carries,
    pub spelling: Spelling,
    /// Writes the value as a literal.
    pub quote: fn(&str) -> String,
    pub steps: fn(&Call) -> Vec<Step>,
}

/// In what the value is carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carries {
    /// In the statement that has the call.
    Literal,
    /// The same, in a JSON document.
    Document,
    /// In an EXECUTE of a statement that has the call.
    Execute,
    /// In a parameter.
    Parameter,
    /// In the call of another function, which makes the call.
    Wrapped,
    /// Sealed.
    Sealed,
    /// In whatever the client library makes of it.
    Library,
}

/// What a session sends, one after the other.
pub enum Step {
    /// By the simple protocol: one message with all of it.
    Simple(String),
    /// By the extended protocol, under a name.
    Parse(String),
    /// What was parsed.
    Execute,
    /// By the simple protocol, with the name of what was parsed for `{name}`.
    ByName(String),
    /// By the extended protocol, parsed and executed at once.
    Query(String),
    /// COPY ... TO STDOUT, by the extended protocol.
    CopyOut(String),
    /// With one parameter.
    Bind { sql: String, value: Vec<u8>, format: Format, r#type: Type },
    /// `Client::set` of the library.
    LibrarySet,
    /// `Client::set_plain` of the library.
    LibrarySetPlain,
}

impl Way {
    /// The same, to call another function of the same parameters.
    pub fn to(self, schema: &'static str, function: &'static str) -> Self {
        Self { spelling: Spelling { schema, function, ..self.spelling }, ..self }
    }
}

/// The first five, and the sealed ones, are what a client does. The others are what people do.
pub const WAYS: &[Way] = &[
    LITERAL,
    Way { name: "literal in Parse", steps: |call| vec![Step::Parse(select(call)), Step::Execute], ..LITERAL },
    Way {
        name: "text parameter",
        carries: Carries::Parameter,
        steps: |call| vec![bind(call, Format::Text)],
        ..LITERAL
    },
    Way {
        name: "binary parameter",
        carries: Carries::Parameter,
        steps: |call| vec![bind(call, Format::Binary)],
        ..LITERAL
    },
    Way {
        name: "PREPARE, EXECUTE",
        carries: Carries::Execute,
        steps: |call| vec![prepare(call), Step::Simple(call.execute("EXECUTE p"))],
        ..LITERAL
    },
    Way {
        name: "sealed parameter",
        steps: |call| {
            vec![Step::Bind {
                sql: format!("SELECT {}", call.with("$1")),
                value: call.sealed.to_vec(),
                format: Format::Binary,
                r#type: Type::BYTEA,
            }]
        },
        ..SEALED
    },
    Way {
        name: "sealed literal",
        steps: |call| vec![Step::Simple(format!("SELECT {}", call.with(&call.sealed_literal())))],
        ..SEALED
    },
    Way { name: "library, set", carries: Carries::Library, steps: |_| vec![Step::LibrarySet], ..LITERAL },
    Way {
        name: "library, set_plain",
        carries: Carries::Library,
        steps: |_| vec![Step::LibrarySetPlain],
        ..LITERAL
    },
    Way { name: "literal in unnamed Parse", steps: |call| vec![Step::Query(select(call))], ..LITERAL },
    Way {
        name: "PREPARE with the literal",
        steps: |call| {
            vec![Step::Simple(format!("PREPARE p AS {}", select(call))), Step::Simple("EXECUTE p".into())]
        },
        ..LITERAL
    },
    Way {
        name: "DO",
        steps: |call| vec![Step::Simple(format!("DO $do$ BEGIN PERFORM {}; END $do$", call.literal()))],
        ..LITERAL
    },
    Way {
        name: "DO, EXECUTE format",
        steps: |call| {
            vec![Step::Simple(format!(
                "DO $do$ BEGIN EXECUTE format($sql$SELECT {}$sql$, {}); END $do$",
                call.with("%L"),
                call.value()
            ))]
        },
        ..LITERAL
    },
    Way {
        name: "DO, EXECUTE USING",
        steps: |call| {
            vec![Step::Simple(format!(
                "DO $do$ BEGIN EXECUTE $sql$SELECT {}$sql$ USING {}; END $do$",
                call.with("$1"),
                call.value()
            ))]
        },
        ..LITERAL
    },
    Way {
        name: "second of three statements",
        steps: |call| vec![Step::Simple(format!("SELECT 1; {}; SELECT 3", select(call)))],
        ..LITERAL
    },
    Way {
        // Seen while the statement before it runs.
        name: "statement after a slow one",
        steps: |call| vec![Step::Simple(format!("{WAIT}; {}", select(call)))],
        ..LITERAL
    },
    Way {
        name: "COPY (SELECT ...)",
        steps: |call| vec![Step::CopyOut(format!("COPY ({}) TO STDOUT", select(call)))],
        ..LITERAL
    },
    Way {
        name: "EXPLAIN (ANALYZE, VERBOSE)",
        steps: |call| vec![Step::Simple(format!("EXPLAIN (ANALYZE, VERBOSE) {}", select(call)))],
        ..LITERAL
    },
    Way {
        name: "cursor",
        steps: |call| {
            vec![
                Step::Simple("BEGIN".into()),
                Step::Simple(format!("DECLARE c CURSOR FOR {}", select(call))),
                Step::Simple("FETCH c".into()),
            ]
        },
        ..LITERAL
    },
    Way {
        name: "CREATE TABLE AS SELECT",
        steps: |call| vec![Step::Simple(format!("CREATE TEMP TABLE t AS {}", select(call)))],
        ..LITERAL
    },
    Way {
        name: "CREATE TABLE AS EXECUTE",
        carries: Carries::Execute,
        steps: |call| vec![prepare(call), Step::Simple(call.execute("CREATE TEMP TABLE t AS EXECUTE p"))],
        ..LITERAL
    },
    Way {
        name: "value from a CTE",
        steps: |call| {
            vec![Step::Simple(format!(
                "WITH v AS (SELECT {}::text AS value) SELECT {} FROM v",
                call.value(),
                call.with("v.value")
            ))]
        },
        ..LITERAL
    },
    Way {
        name: "comments inside the call",
        spelling: Spelling {
            schema: "integration_credentials /* ( ' */ . ",
            function: "admin_set_integration_credentials -- '\n",
            arguments: |key, value, actor| {
                format!("/* ', {value} */ {key}, -- )\n /* /* ( */ */ {value} /* ' */, {actor}")
            },
        },
        ..LITERAL
    },
    Way {
        name: "named arguments",
        spelling: Spelling {
            arguments: |key, value, actor| format!("value => {value}, key => {key}, actor => {actor}"),
            ..USUAL
        },
        ..LITERAL
    },
    Way {
        name: "capitals",
        spelling: Spelling {
            schema: "Integration_Credentials.",
            function: "ADMIN_SET_INTEGRATION_CREDENTIALS",
            ..USUAL
        },
        ..LITERAL
    },
    Way {
        name: "quoted names",
        spelling: Spelling {
            schema: "\"integration_credentials\".",
            function: "\"admin_set_integration_credentials\"",
            ..USUAL
        },
        ..LITERAL
    },
    Way {
        name: "names with escapes",
        spelling: Spelling { function: r#"U&"admin\005fset\005fintegration\005fcredentials""#, ..USUAL },
        ..LITERAL
    },
    Way {
        name: "schema on the search path",
        spelling: Spelling { schema: "", ..USUAL },
        steps: |call| {
            vec![Step::Simple("SET search_path = integration_credentials".into()), Step::Simple(select(call))]
        },
        ..LITERAL
    },
    Way {
        name: "two calls in a statement",
        steps: |call| vec![Step::Simple(format!("{}, {}", select(call), call.literal()))],
        ..LITERAL
    },
    Way {
        name: "call in FROM",
        steps: |call| vec![Step::Simple(format!("SELECT * FROM {}", call.literal()))],
        ..LITERAL
    },
    Way {
        // The views show no more than a thousand bytes.
        name: "value where the text is cut off",
        steps: |call| {
            let select = select(call);
            let length = 1000 - select.find(&call.value()).unwrap_or_default();
            vec![Step::Simple(format!("/*{}*/{select}", "*".repeat(length)))]
        },
        ..LITERAL
    },
    Way {
        name: "EXPLAIN EXECUTE",
        carries: Carries::Execute,
        steps: |call| vec![prepare(call), Step::Simple(call.execute("EXPLAIN (ANALYZE, VERBOSE) EXECUTE p"))],
        ..LITERAL
    },
    Way {
        name: "PREPARE and EXECUTE in one string",
        carries: Carries::Execute,
        steps: |call| {
            vec![Step::Simple(format!(
                "PREPARE p(text) AS SELECT {}; {}; DEALLOCATE p",
                call.sound("$1"),
                call.execute("EXECUTE p")
            ))]
        },
        ..LITERAL
    },
    Way {
        name: "EXECUTE of a quoted name",
        carries: Carries::Execute,
        steps: |call| {
            vec![
                Step::Simple(format!("PREPARE \"my; 'p\"(text) AS SELECT {}", call.sound("$1"))),
                Step::Simple(call.execute("EXECUTE \"my; 'p\"")),
            ]
        },
        ..LITERAL
    },
    Way {
        name: "EXECUTE of what Parse prepared",
        carries: Carries::Execute,
        steps: |call| {
            vec![
                Step::Parse(format!("SELECT {}", call.sound("$1"))),
                Step::ByName(call.execute("EXECUTE {name}")),
            ]
        },
        ..LITERAL
    },
    Way {
        name: "bytea parameter, decoded",
        carries: Carries::Parameter,
        steps: |call| {
            vec![Step::Bind {
                sql: format!("SELECT {}", call.with("convert_from($1, 'UTF8')")),
                value: call.value.into(),
                format: Format::Binary,
                r#type: Type::BYTEA,
            }]
        },
        ..LITERAL
    },
    Way {
        name: "parameter that is part of a document",
        carries: Carries::Parameter,
        steps: |call| {
            vec![Step::Bind {
                sql: format!("SELECT {}", call.with("($1->>'token')")),
                value: format!("{{\"token\": \"{}\"}}", call.value).into(),
                format: Format::Text,
                r#type: Type::JSON,
            }]
        },
        ..LITERAL
    },
    Way {
        name: "arguments with :=",
        spelling: Spelling {
            arguments: |key, value, actor| format!("key := {key}, value := {value}, actor := {actor}"),
            ..USUAL
        },
        ..LITERAL
    },
    Way {
        name: "backslash before a quote",
        quote: |value| format!(r"'{}\'{}'", &value[..20], &value[20..]),
        steps: |call| {
            vec![Step::Simple("SET standard_conforming_strings = off".into()), Step::Simple(select(call))]
        },
        ..LITERAL
    },
    Way {
        name: "JSON document",
        carries: Carries::Document,
        quote: |value| format!(r#"'{{"token": "{value}", "n": 1}}'"#),
        ..LITERAL
    },
    Way {
        name: "literal for a function that calls ours",
        carries: Carries::Wrapped,
        steps: |call| vec![Step::Simple(format!("SELECT {}", call.wrapped(&call.value())))],
        ..LITERAL
    },
    Way {
        name: "parameter for a function that calls ours",
        carries: Carries::Wrapped,
        steps: |call| {
            vec![Step::Bind {
                sql: format!("SELECT {}", call.wrapped("$1")),
                value: call.value.into(),
                format: Format::Text,
                r#type: Type::TEXT,
            }]
        },
        ..LITERAL
    },
    Way { name: "E''", quote: |value| format!(r"E'\x5f{value}'"), ..LITERAL },
    Way { name: "U&''", quote: |value| format!(r"U&'\005f{value}'"), ..LITERAL },
    Way { name: "$$", quote: |value| format!("$v${value}$v$"), ..LITERAL },
    Way {
        name: "quotes in the value",
        quote: |value| format!(r"'{}''\''{}'", &value[..20], &value[20..]),
        ..LITERAL
    },
    Way {
        name: "literal on two lines",
        quote: |value| format!("'{}'\n '{}'", &value[..20], &value[20..]),
        ..LITERAL
    },
    Way {
        name: "concatenated",
        quote: |value| format!("('{}' || '{}')", &value[..20], &value[20..]),
        ..LITERAL
    },
    Way {
        name: "decoded from hex",
        quote: |value| format!("convert_from('{}', 'UTF8')", hex(value.as_bytes())),
        ..LITERAL
    },
];

/// Waits for the operator to let go.
pub const WAIT: &str = "SELECT pg_advisory_xact_lock_shared(1)";

const LITERAL: Way = Way {
    name: "literal",
    carries: Carries::Literal,
    spelling: USUAL,
    quote: |value| format!("'{value}'"),
    steps: |call| vec![Step::Simple(select(call))],
};

const SEALED: Way = Way {
    carries: Carries::Sealed,
    spelling: Spelling { function: "admin_set_integration_credentials_sealed", ..USUAL },
    ..LITERAL
};

fn select(call: &Call) -> String {
    format!("SELECT {}", call.literal())
}

fn prepare(call: &Call) -> Step {
    Step::Simple(format!("PREPARE p(text) AS SELECT {}", call.sound("$1")))
}

fn bind(call: &Call, format: Format) -> Step {
    let r#type = match (call.fault, format) {
        // Refused before the call: the text of a number must be one, and JSON is the same in both formats.
        (Fault::Cast("int"), Format::Text) => Type::INT4,
        (Fault::Cast("json"), _) => Type::JSON,
        _ => Type::TEXT,
    };
    Step::Bind { sql: format!("SELECT {}", call.with("$1")), value: call.value.into(), format, r#type }
}
