//! Calls with options.

use super::{
    super::call::{Spelling, USUAL},
    Carries, LITERAL, Step, Way, select,
};
use tokio_postgres::types::{Format, Type};

pub const OPTIONS: &[Way] = &[
    Way { name: "with options", ..WITH_OPTIONS },
    Way {
        name: "with options, parameter",
        carries: Carries::Parameter,
        steps: |call| {
            let r#type = Type::TEXT;
            let sql = format!("SELECT {}", call.with("$1"));
            vec![Step::Bind { sql, value: call.value.into(), format: Format::Binary, r#type }]
        },
        ..WITH_OPTIONS
    },
    Way {
        name: "with named options",
        spelling: Spelling {
            arguments: |key, value| {
                format!(
                    "options => '{{\"keepPrevious\": 60}}', actor => 'actor', value => {value}, key => {key}"
                )
            },
            ..USUAL
        },
        ..WITH_OPTIONS
    },
    Way {
        name: "with options in Parse",
        steps: |call| vec![Step::Parse(select(call)), Step::Execute],
        ..WITH_OPTIONS
    },
];

const WITH_OPTIONS: Way = Way {
    is_common: false,
    spelling: Spelling {
        arguments: |key, value| format!("{key}, {value}, 'actor', '{{\"expiresAt\": \"2099-01-31\"}}'"),
        ..USUAL
    },
    ..LITERAL
};
