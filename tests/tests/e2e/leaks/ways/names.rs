//! What names may be written like, and what they may hide.

use super::{
    super::call::{Spelling, USUAL},
    Carries, LITERAL, Step, Way, prepare_as, select,
};

pub const NAMES: &[Way] = &[
    Way {
        name: "names with escapes of their own",
        spelling: Spelling {
            function: r#"U&"admin!005fset!+00005fintegration_credentials" UESCAPE '!'"#,
            ..USUAL
        },
        ..LITERAL
    },
    Way {
        name: "an escape on its own line",
        spelling: Spelling {
            function: "U&\"admin*005fset_integration_credentials\"\n -- '\n UESCAPE\n'*'",
            ..USUAL
        },
        ..LITERAL
    },
    Way {
        name: "named arguments with escapes",
        spelling: Spelling {
            arguments: |key, value| {
                format!(r#"U&"v!0061lue" UESCAPE '!' => {value}, U&"k\0065y" := {key}, "actor" => 'actor'"#)
            },
            ..USUAL
        },
        ..LITERAL
    },
    Way {
        name: "database in the name",
        spelling: Spelling { schema: "test_0.integration_credentials.", ..USUAL },
        ..LITERAL
    },
    Way {
        name: "no space anywhere",
        steps: |call| vec![Step::Simple(format!("SELECT/**/{}", call.literal().replace(", ", ",")))],
        ..LITERAL
    },
    Way {
        name: "column called name",
        steps: |call| {
            let (value, call) = (call.value(), call.with("name"));
            vec![Step::Simple(format!("SELECT {call} FROM (VALUES ({value})) AS t(name)"))]
        },
        ..LITERAL
    },
    Way {
        name: "column called text",
        steps: |call| {
            let (value, call) = (call.value(), call.with("text"));
            vec![Step::Simple(format!("SELECT {call} FROM (SELECT {value} AS text) AS t"))]
        },
        ..LITERAL
    },
    Way {
        name: "column called json",
        steps: |call| {
            let (value, call) = (call.value(), call.with("json"));
            vec![Step::Simple(format!("WITH t(json) AS (SELECT {value}) SELECT {call} FROM t"))]
        },
        ..LITERAL
    },
    Way {
        name: "column of a row called record",
        steps: |call| {
            let (value, call) = (call.value(), call.with("record.value"));
            vec![Step::Simple(format!("SELECT {call} FROM (SELECT {value} AS value) AS record"))]
        },
        ..LITERAL
    },
    Way {
        name: "variable called text",
        steps: |call| {
            let (value, call) = (call.value(), call.with("text"));
            vec![Step::Simple(format!("DO $$ DECLARE text text := {value}; BEGIN PERFORM {call}; END $$"))]
        },
        ..LITERAL
    },
    Way {
        name: "variable called integer",
        steps: |call| {
            let (value, call) = (call.value(), call.with(r#""integer""#));
            vec![Step::Simple(format!(
                "DO $$ DECLARE \"integer\" varchar; BEGIN \"integer\" := {value}; PERFORM {call}; END $$"
            ))]
        },
        ..LITERAL
    },
    Way {
        name: "EXECUTE of a name with a quote in it",
        carries: Carries::Execute,
        steps: |call| vec![prepare_as(r#""a""b""#, call), Step::Simple(call.execute(r#"EXECUTE "a""b""#))],
        ..LITERAL
    },
    Way {
        // Postgres cuts names after 63 bytes.
        name: "EXECUTE of a name that was cut",
        carries: Carries::Execute,
        steps: |call| {
            let (long, cut) = ("p".repeat(70), "p".repeat(63));
            vec![prepare_as(&long, call), Step::Simple(call.execute(&format!("EXECUTE {cut}")))]
        },
        ..LITERAL
    },
    Way {
        name: "EXECUTE of a name that is too long",
        carries: Carries::Execute,
        steps: |call| {
            let (cut, long) = (format!("\"{}é\"", "P".repeat(61)), format!("\"{}éé\"", "P".repeat(61)));
            vec![prepare_as(&cut, call), Step::Simple(call.execute(&format!("EXECUTE {long}")))]
        },
        ..LITERAL
    },
    Way {
        name: "EXECUTE of a name with escapes",
        carries: Carries::Execute,
        steps: |call| {
            vec![
                prepare_as("prepared", call),
                Step::Simple(call.execute(r#"EXECUTE U&"prep!0061red" UESCAPE '!'"#)),
            ]
        },
        ..LITERAL
    },
    Way {
        name: "EXECUTE in capitals, with comments",
        carries: Carries::Execute,
        steps: |call| {
            vec![
                prepare_as("prepared", call),
                Step::Simple(call.execute("/* ' */ EXECUTE -- $a$\n /* /* */ ( */ PREPARED /**/ ")),
            ]
        },
        ..LITERAL
    },
    Way {
        name: "replication session",
        carries: Carries::Replication,
        steps: |call| vec![Step::Replication(select(call))],
        ..LITERAL
    },
    Way {
        name: "replication session, DO",
        carries: Carries::Replication,
        steps: |call| vec![Step::Replication(format!("DO $do$ BEGIN PERFORM {}; END $do$", call.literal()))],
        ..LITERAL
    },
];
