//! How else a call and a literal may be written.

use super::{
    super::call::{Spelling, USUAL, hex},
    Carries, LITERAL, Step, Way, select,
};

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
