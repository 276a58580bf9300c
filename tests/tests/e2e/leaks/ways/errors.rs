//! How an error comes to quote a value, in the language of the server's messages.

use super::{Carries, LITERAL, Step, Way};
use crate::leaks::call::Call;
use tokio_postgres::types::{Format, Type};

/// Casts of a literal to these types.
macro_rules! casts {
    ($($to:literal),*) => {
        &[$(Way {
            name: concat!("::", $to),
            steps: |call| vec![select(call, &format!("({})::{}::text", call.value(), $to))],
            ..LITERAL
        }),*]
    };
}

/// Expressions with a literal or a name in them.
macro_rules! expressions {
    ($($name:literal: $format:literal),*) => {
        &[$(Way {
            name: $name,
            steps: |call| vec![select(call, &format!($format, value = call.value))],
            ..LITERAL
        }),*]
    };
}

const CASTS: &[Way] = casts![
    "int",
    "uuid",
    "bool",
    "date",
    "interval",
    "json",
    "jsonb",
    "jsonpath",
    "inet",
    "bit",
    "int4range",
    "int[]",
    "text[]",
    "regclass",
    "regtype",
    "regprocedure",
    "regoperator",
    "regrole",
    "regnamespace",
    "regconfig",
    "regcollation",
    "aclitem"
];

const EXPRESSIONS: &[Way] = expressions![
    "column": r#""{value}""#,
    "column of a table": r#"t."{value}""#,
    "table": r#"(SELECT 'x' FROM "{value}")"#,
    "schema": r#"(SELECT 'x' FROM "{value}".t)"#,
    "database": r#"(SELECT 'x' FROM "{value}".s.t)"#,
    "function": r#""{value}"('x')"#,
    "function of a schema": r#""{value}".f('x')"#,
    "type": r#"'x'::"{value}"::text"#,
    "collation": r#"'x' COLLATE "{value}""#,
    "operator": r#"('x' OPERATOR("{value}".+) 'x')"#,
    "window": r#"max('x') OVER "{value}""#,
    "name of an argument": r#""{value}" => 'x'"#,
    // Without the last character, a value with few digits is a time zone, as EST5EDT is.
    "time zone": "(now() AT TIME ZONE '/{value}-')::text",
    "part of a date": "date_part('{value}', now())::text",
    "to_date": "to_date('x{value}', 'YYYY')::text",
    "XML": "'<{value}'::xml::text",
    "text search": "'x {value}'::tsquery::text",
    "encoding": "encode('x', '{value}')",
    "encoding of a text": "convert_from('x', '{value}')",
    "hex": "decode('{value}', 'hex')::text",
    "setting": "current_setting('{value}')",
    "sequence": "currval('{value}')::text",
    "privilege": "has_table_privilege('pg_class', '{value}')::text",
    "role": "pg_has_role('{value}', 'USAGE')::text",
    "size": "pg_size_bytes('{value}')::text",
    "identifier": "(parse_ident('{value}.'))[1]",
    "text search configuration": "to_tsvector('{value}', 'x')::text",
    "path of JSON": "jsonb_path_query_first('{{}}', '$.{value}[')::text",
    "number as a format": "to_number('{value}', '{value}EEEE')::text",
    "range of a regular expression": "substring('x' from '[z-a{value}]')",
    "array in an array": "(ARRAY['{value}']::int[])[1]::text"
];

const PARAMETERS: &[Way] = &[
    Way { name: "parameter::int", carries: Carries::Parameter, steps: |call| bind(call, "int"), ..LITERAL },
    Way { name: "parameter::json", carries: Carries::Parameter, steps: |call| bind(call, "json"), ..LITERAL },
    Way { name: "parameter::date", carries: Carries::Parameter, steps: |call| bind(call, "date"), ..LITERAL },
];

pub const SQLSTATES: &[&str] = &[
    "0A000", "22004", "22007", "22023", "2200N", "2201B", "22P02", "3F000", "42601", "42602", "42622",
    "42703", "42704", "42725", "42804", "42846", "42883", "42P01", "42P20", "42703", "22000", "22001",
];

/// All of them.
pub fn all() -> Vec<Way> {
    [CASTS, EXPRESSIONS, PARAMETERS].concat()
}

fn select(call: &Call, value: &str) -> Step {
    Step::Simple(format!("SELECT {}", call.with(value)))
}

fn bind(call: &Call, to: &str) -> Vec<Step> {
    vec![Step::Bind {
        sql: format!("SELECT {}", call.with(&format!("$1::{to}::text"))),
        value: call.value.into(),
        format: Format::Text,
        r#type: Type::TEXT,
    }]
}
