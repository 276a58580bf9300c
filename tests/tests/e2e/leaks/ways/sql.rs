//! Calls in SQL that is itself a value: a literal with escapes, a parameter, a literal in a literal.

use super::{Carries, LITERAL, Step, Way, literal, prepare, select};
use tokio_postgres::types::{Format, Type};

pub const SQL: &[Way] = &[
    Way {
        name: "DO E''",
        steps: |call| {
            let body = format!("BEGIN PERFORM {}; END", call.literal());
            let body = body.replace('\'', r"\'").replace("_set_", r"\x5fset\137");
            vec![Step::Simple(format!("DO E'{body}'"))]
        },
        ..LITERAL
    },
    Way {
        name: "DO U&''",
        steps: |call| {
            let body = literal(&format!("BEGIN PERFORM {}; END", call.literal()));
            vec![Step::Simple(format!("DO U&{}", body.replace("_set_", r"\005fset\+00005f")))]
        },
        ..LITERAL
    },
    Way {
        name: "DO, on two lines",
        steps: |call| {
            let body = literal(&format!("BEGIN PERFORM {}; END", call.literal()));
            vec![Step::Simple(format!("DO {}", body.replace("_set_", "_se' -- '\n  't_")))]
        },
        ..LITERAL
    },
    Way {
        name: "DO LANGUAGE, two literals deep",
        steps: |call| {
            let execute = literal(&select(call));
            vec![Step::Simple(format!("DO LANGUAGE \"plpgsql\" $é$BEGIN EXECUTE {execute}; END$é$"))]
        },
        ..LITERAL
    },
    Way {
        name: "DO, four literals deep",
        steps: |call| {
            let inner = literal(&format!("BEGIN EXECUTE {}; END", literal(&select(call))));
            vec![Step::Simple(format!("DO $a$BEGIN EXECUTE {}; END$a$", literal(&format!("DO {inner}"))))]
        },
        ..LITERAL
    },
    Way {
        name: "DO, variable",
        steps: |call| {
            let (value, call) = (call.value(), call.with("v"));
            vec![Step::Simple(format!("DO $do$ DECLARE v text := {value}; BEGIN PERFORM {call}; END $do$"))]
        },
        ..LITERAL
    },
    Way {
        name: "DO, loop over rows",
        steps: |call| {
            let (value, call) = (call.value(), call.with("r.v"));
            vec![Step::Simple(format!(
                "DO $do$ DECLARE r record; BEGIN
                    FOR r IN SELECT {value} AS v LOOP PERFORM {call}; END LOOP;
                 END $do$"
            ))]
        },
        ..LITERAL
    },
    Way {
        name: "DO, EXECUTE of a prepared statement",
        carries: Carries::Execute,
        steps: |call| {
            let execute = literal(&call.execute("EXECUTE p"));
            vec![prepare(call), Step::Simple(format!("DO $do$ BEGIN EXECUTE {execute}; END $do$"))]
        },
        ..LITERAL
    },
    Way {
        name: "query_to_xml",
        steps: |call| {
            let query = literal(&select(call));
            vec![Step::Query(format!("SELECT to_jsonb(query_to_xml({query}, true, false, '')::text)"))]
        },
        ..LITERAL
    },
    Way {
        name: "query_to_xml of a parameter",
        carries: Carries::Parameter,
        steps: |call| {
            vec![Step::Bind {
                sql: "SELECT to_jsonb(query_to_xml($1, true, false, '')::text)".into(),
                value: select(call).into(),
                format: Format::Text,
                r#type: Type::TEXT,
            }]
        },
        ..LITERAL
    },
    Way {
        name: "ts_stat",
        steps: |call| {
            // With the comma, what trails comes within the parentheses.
            let query =
                literal(&format!("SELECT to_tsvector('simple', v::text) FROM ({}) AS t(v)", select(call)));
            vec![Step::Simple(format!("SELECT ndoc FROM ts_stat({query})"))]
        },
        ..LITERAL
    },
    Way {
        name: "parameter, after 64 KiB of them",
        carries: Carries::LateParameter,
        steps: |call| {
            let bind = |sql: &str, value: String| Step::Bind {
                sql: sql.to_owned(),
                value: value.into(),
                format: Format::Text,
                r#type: Type::TEXT,
            };
            let filler =
                "SELECT integration_credentials.admin_set_integration_credentials('filler', $1, 'actor')";
            let fillers = (0..9).map(|_| bind(filler, "filler\n".repeat(1170)));
            let last = bind(&format!("SELECT {}", call.with("$1")), call.value.to_owned());
            [Step::Simple("BEGIN".into())].into_iter().chain(fillers).chain([last]).collect()
        },
        ..LITERAL
    },
];
