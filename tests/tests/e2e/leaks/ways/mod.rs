//! The rows of the matrix: the ways in which a value gets to the server.
//!
//! | module | concept |
//! | --- | --- |
//! | [`clients`] | how programs pass a value |
//! | [`statements`] | what else a call may be part of |
//! | [`spellings`] | how else a call and a literal may be written |
//! | [`names`] | what names may be written like, and what they may hide |
//! | [`options`] | calls with options |
//! | [`sql`] | calls in SQL that is itself a value |
//! | [`errors`] | how an error comes to quote a value: for the matrix of languages |

mod clients;
pub mod errors;
mod names;
mod options;
mod spellings;
mod sql;
mod statements;

use super::call::{Call, Spelling, USUAL};
pub use clients::CLIENTS;
use tests::installation::Installation;
use tokio_postgres::types::{Format, Type};

/// A way to call.
#[derive(Clone, Copy)]
pub struct Way {
    pub name: &'static str,
    /// The major of Postgres that is the first to know it.
    pub since: u32,
    /// Whether programs do it, and not only who wants to know.
    pub is_common: bool,
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
    /// In a statement of a replication session that has the call.
    Replication,
    /// In a parameter.
    Parameter,
    /// In a parameter, after calls that succeed.
    LateParameter,
    /// In a row of a COPY that has the call.
    Copied,
    /// In the call of another function, which makes the call.
    Wrapped,
    /// Sealed.
    Sealed,
    /// In a parameter that the client library binds.
    Library,
    /// In what the client library seals.
    SealedByLibrary,
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
    /// COPY ... FROM STDIN, by the extended protocol, with these rows.
    CopyIn { sql: String, rows: String },
    /// By the simple protocol, in a replication session, which knows no other.
    Replication(String),
    /// By the simple protocol, whatever comes of it.
    Try(&'static str),
    /// With one parameter.
    Bind { sql: String, value: Vec<u8>, format: Format, r#type: Type },
    /// `Client::set` of the library.
    LibrarySet,
    /// `Client::set_plain` of the library.
    LibrarySetPlain,
}

impl Way {
    /// Whether the client library makes the call.
    pub fn is_by_library(&self) -> bool {
        matches!(self.carries, Carries::Library | Carries::SealedByLibrary)
    }

    /// The same, to call another function of the same parameters.
    pub fn to(self, schema: &'static str, function: &'static str) -> Self {
        Self { spelling: Spelling { schema, function, ..self.spelling }, ..self }
    }
}

/// The newest major of Postgres that is tested.
pub const NEWEST: u32 = 18;

/// All that this major of Postgres knows.
pub fn all() -> Vec<Way> {
    let rare = [spellings::SPELLINGS, options::OPTIONS, names::NAMES, sql::SQL].concat();
    let rare = rare.into_iter().map(|way| Way { is_common: false, ..way });
    let major = Installation::find().major();
    let ways = [CLIENTS, statements::STATEMENTS].concat().into_iter().chain(rare);
    ways.filter(|way| way.since <= major).collect()
}

const LITERAL: Way = Way {
    name: "literal",
    since: 15,
    is_common: true,
    carries: Carries::Literal,
    spelling: USUAL,
    quote: |value| format!("'{value}'"),
    steps: |call| vec![Step::Simple(select(call))],
};

fn select(call: &Call) -> String {
    format!("SELECT {}", call.literal())
}

fn prepare(call: &Call) -> Step {
    prepare_as("p", call)
}

fn prepare_as(name: &str, call: &Call) -> Step {
    Step::Simple(format!("PREPARE {name}(text) AS SELECT {}", call.sound("$1")))
}

/// A literal of any text.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
