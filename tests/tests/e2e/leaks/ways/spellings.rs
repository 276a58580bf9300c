//! How else a call and a literal may be written.

use super::{
    super::call::{Spelling, USUAL, hex},
    Carries, LITERAL, Step, Way, select,
};
use base64::{Engine, engine::general_purpose::STANDARD};

pub const SPELLINGS: &[Way] = &[
    Way {
        name: "comments inside the call",
        spelling: Spelling {
            schema: "integration_credentials /* ( ' */ . ",
            function: "admin_set_integration_credentials -- '\n",
            arguments: |key, value| {
                format!("/* ', {value} */ {key}, -- )\n /* /* ( */ */ {value} /* ' */, 'actor'")
            },
        },
        ..LITERAL
    },
    Way {
        name: "named arguments",
        spelling: Spelling {
            arguments: |key, value| format!("value => {value}, key => {key}, actor => 'actor'"),
            ..USUAL
        },
        ..LITERAL
    },
    Way {
        name: "arguments with :=",
        spelling: Spelling {
            arguments: |key, value| format!("key := {key}, value := {value}, actor := 'actor'"),
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
    Way { name: "E''", quote: |value| format!(r"E'\x5f{value}'"), ..LITERAL },
    Way { name: "U&''", quote: |value| format!(r"U&'\005f{value}'"), ..LITERAL },
    Way { name: "$$", quote: |value| format!("$v${value}$v$"), ..LITERAL },
    Way {
        name: "quotes in the value",
        quote: |value| format!(r"'{}''\''{}'", &value[..20], &value[20..]),
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
        name: "literal on two lines",
        quote: |value| format!("'{}'\n '{}'", &value[..20], &value[20..]),
        ..LITERAL
    },
    Way { name: "E'' on two lines", quote: |value| format!("E'x'\n'y\\', {value}'"), ..LITERAL },
    Way {
        name: "U&'' on two lines",
        quote: |value| format!("U&'x'\r\n 'y\\\\, {value}\\005f' UESCAPE '\\'"),
        ..LITERAL
    },
    Way {
        name: "literal on three lines, with comments",
        quote: |value| format!("'{}' -- '\n '{}' --\n\t'''; --'", &value[..20], &value[20..]),
        ..LITERAL
    },
    Way { name: "N''", quote: |value| format!("N'{value}'"), ..LITERAL },
    Way { name: "typed literal", quote: |value| format!("pg_catalog.text '{value}'"), ..LITERAL },
    Way { name: "CAST", quote: |value| format!("CAST('{value}' AS varchar(100))"), ..LITERAL },
    Way { name: "$é$", quote: |value| format!("$é1${value}$é1$"), ..LITERAL },
    Way { name: "not only ASCII", quote: |value| format!("'ключ ∞ 𝄞 {value} é'"), ..LITERAL },
    Way { name: "part of an array", quote: |value| format!("(ARRAY['x', '{value}'])[2]"), ..LITERAL },
    Way {
        name: "part of a text that is an array",
        quote: |value| format!("(('{{x,\"{value}\"}}'::text[])[2])"),
        ..LITERAL
    },
    Way {
        name: "CASE",
        quote: |value| format!("CASE WHEN current_user IS NULL THEN 'x' ELSE '{value}' END"),
        ..LITERAL
    },
    Way {
        name: "taken out of a document",
        quote: |value| format!("('{{\"token\": \"{value}\"}}'::json->>'token')"),
        ..LITERAL
    },
    Way {
        name: "decoded from numbers",
        quote: |value| {
            let bytes: Vec<_> = value.bytes().map(|byte| byte.to_string()).collect();
            format!("(SELECT string_agg(chr(n), '') FROM unnest(ARRAY[{}]) n)", bytes.join(","))
        },
        ..LITERAL
    },
    Way {
        name: "decoded from base64",
        quote: |value| format!("convert_from(decode('{}', 'base64'), 'UTF8')", STANDARD.encode(value)),
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
    Way {
        name: "JSON document",
        carries: Carries::Document,
        quote: |value| format!(r#"'{{"token": "{value}", "n": 1}}'"#),
        ..LITERAL
    },
];
