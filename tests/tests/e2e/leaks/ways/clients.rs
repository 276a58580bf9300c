//! How programs pass a value.

use super::{
    super::call::{Call, Fault, Spelling, USUAL},
    Carries, LITERAL, Step, Way, prepare, select,
};
use tokio_postgres::types::{Format, Type};

pub const CLIENTS: &[Way] = &[
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
    Way {
        name: "library, set",
        carries: Carries::SealedByLibrary,
        steps: |_| vec![Step::LibrarySet],
        ..LITERAL
    },
    Way {
        name: "library, set_plain",
        carries: Carries::Library,
        steps: |_| vec![Step::LibrarySetPlain],
        ..LITERAL
    },
];

const SEALED: Way = Way {
    carries: Carries::Sealed,
    spelling: Spelling { function: "admin_set_integration_credentials_sealed", ..USUAL },
    ..LITERAL
};

fn bind(call: &Call, format: Format) -> Step {
    let r#type = match (call.fault, format) {
        // Refused before the call: the text of a number must be one, and JSON is the same in both formats.
        (Fault::Cast("int"), Format::Text) => Type::INT4,
        (Fault::Cast("json"), _) => Type::JSON,
        _ => Type::TEXT,
    };
    Step::Bind { sql: format!("SELECT {}", call.with("$1")), value: call.value.into(), format, r#type }
}
