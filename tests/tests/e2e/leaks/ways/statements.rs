//! What else a call may be part of.

use super::super::call::Call;
use super::{Carries, LITERAL, Step, Way, prepare, select};
use tokio_postgres::types::{Format, Type};

pub const STATEMENTS: &[Way] = &[
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
        name: "EXPLAIN (GENERIC_PLAN)",
        since: 16,
        steps: |call| {
            let select = select(call);
            vec![Step::Simple(format!("EXPLAIN (GENERIC_PLAN, VERBOSE) {select}")), Step::Simple(select)]
        },
        ..LITERAL
    },
    Way {
        name: "EXPLAIN (SERIALIZE, MEMORY)",
        since: 17,
        steps: |call| {
            vec![Step::Simple(format!("EXPLAIN (ANALYZE, VERBOSE, SERIALIZE, MEMORY) {}", select(call)))]
        },
        ..LITERAL
    },
    Way {
        name: "JSON_OBJECT",
        since: 16,
        steps: |call| vec![Step::Simple(format!("SELECT JSON_OBJECT('v': {})", call.literal()))],
        ..LITERAL
    },
    Way {
        name: "JSON_TABLE",
        since: 17,
        steps: |call| {
            vec![Step::Simple(format!(
                "SELECT * FROM JSON_TABLE({}, '$' COLUMNS (k text PATH '$.key'))",
                call.literal()
            ))]
        },
        ..LITERAL
    },
    Way {
        name: "MERGE ... RETURNING",
        since: 17,
        steps: |call| {
            vec![
                Step::Simple("CREATE TEMP TABLE t (v jsonb)".into()),
                Step::Simple(format!(
                    "MERGE INTO t USING ({}) AS s(v) ON false WHEN NOT MATCHED THEN INSERT VALUES (s.v)
                         RETURNING merge_action(), t.*",
                    select(call)
                )),
            ]
        },
        ..LITERAL
    },
    Way {
        name: "UPDATE ... RETURNING old, new",
        since: 18,
        steps: |call| {
            vec![
                Step::Simple("CREATE TEMP TABLE t AS SELECT NULL::jsonb AS v".into()),
                Step::Simple(format!("UPDATE t SET v = ({}) RETURNING old.*, new.*", select(call))),
            ]
        },
        ..LITERAL
    },
    Way { name: "row of COPY FROM", carries: Carries::Copied, steps: |call| copy_from(call, ""), ..LITERAL },
    Way {
        name: "row of COPY FROM, ON_ERROR ignore",
        since: 17,
        carries: Carries::Copied,
        // What is no number is skipped, with a notice.
        steps: |call| copy_from(call, " WITH (ON_ERROR ignore, LOG_VERBOSITY verbose)"),
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
];

fn copy_from(call: &Call, options: &str) -> Vec<Step> {
    let rows = format!("{value}\t{value}\n1\t{value}\n", value = call.value);
    let sql = format!("COPY t FROM STDIN{options} WHERE {} IS NOT NULL", call.with("v"));
    let number = if options.is_empty() { "text" } else { "int" };
    vec![Step::Simple(format!("CREATE TEMP TABLE t (n {number}, v text)")), Step::CopyIn { sql, rows }]
}

/// Waits for the operator to let go.
pub const WAIT: &str = "SELECT pg_advisory_xact_lock_shared(1)";
