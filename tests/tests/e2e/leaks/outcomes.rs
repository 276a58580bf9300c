//! The columns of the matrix: how a call ends.

use super::{
    call::Fault,
    ways::{Carries, Way},
};

/// An integration whose validator refuses whatever it gets, and says it.
pub const REFUSED: &str = "refused";

/// How a call ends.
#[derive(Clone, Copy)]
pub struct Outcome {
    pub name: &'static str,
    pub fault: Fault,
    /// The group role of who calls.
    pub group: Option<&'static str>,
    pub key: &'static str,
    pub end: End,
    /// What is done before the last step.
    pub before: &'static [&'static str],
    /// What is set for the role.
    pub settings: &'static [&'static str],
    /// What the caller hears: none is success.
    pub sqlstates: &'static [&'static str],
    /// Whether it ends much as another one does, so that it is tried only with what programs do.
    pub is_minor: bool,
}

/// Who ends it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The server, at once.
    AtOnce,
    /// The server, after it was held up in the middle of the call.
    Released,
    /// `pg_cancel_backend`, in the middle of the call.
    Cancelled,
    /// `statement_timeout`, in the middle of the call.
    TimedOut,
    /// `pg_terminate_backend`, in the middle of the call.
    Terminated,
    /// SIGKILL, in the middle of the call.
    Killed,
}

impl Outcome {
    /// Whether the value gets to the server at all when a call of this way ends like this.
    pub fn can_be_of(&self, way: &Way) -> bool {
        use Carries::{Copied, Document, Execute, LateParameter, Literal, Parameter, Replication, Sealed};
        if self.is_minor && !way.is_common {
            return false;
        }
        if !self.before.is_empty() && way.carries != Literal {
            return false;
        }
        // The library says itself that its transaction writes.
        if self.name == READ_ONLY && way.is_by_library() {
            return false;
        }
        match (self.fault, way.carries) {
            (Fault::None, LateParameter) => self.end != End::AtOnce,
            // A statement that nobody may call is not prepared.
            (Fault::None, carries) => self.group.is_some() || carries != Execute,
            (_, LateParameter) => false,
            (_, Replication) => true,
            (Fault::TooMany | Fault::Trailing, carries) => {
                matches!(carries, Literal | Document | Execute | Parameter | Copied | Sealed)
            }
            (Fault::NotQualified, carries) => {
                matches!(carries, Literal | Document | Parameter | Copied | Sealed)
                    && !way.spelling.schema.is_empty()
            }
            (Fault::WrongPlace, carries) => matches!(carries, Literal | Document | Parameter | Copied),
            (Fault::Cast("json"), carries) => matches!(carries, Literal | Execute | Parameter | Copied),
            (Fault::Cast(_), carries) => matches!(carries, Literal | Document | Execute | Parameter | Copied),
            (Fault::DoubleQuoted, carries) => matches!(carries, Literal | Document | Execute),
        }
    }
}

/// An integration for what is to be got out of the way.
pub const FILLER: &str = "filler";

const READ_ONLY: &str = "read-only";
const ADMINS: &str = "integration_credentials_admin";
const READERS: &str = "integration_credentials_reader";

const SUCCESS: Outcome = Outcome {
    name: "success",
    fault: Fault::None,
    group: Some(ADMINS),
    key: crate::helpers::calls::ANY,
    end: End::Released,
    before: &[],
    settings: &[],
    sqlstates: &[],
    is_minor: false,
};

pub const ERROR: Outcome = Outcome { end: End::AtOnce, ..SUCCESS };

pub const OUTCOMES: &[Outcome] = &[
    SUCCESS,
    Outcome { name: "value refused", key: REFUSED, sqlstates: &["IC003"], is_minor: true, ..SUCCESS },
    Outcome { name: "no grant", group: Some(READERS), sqlstates: &["42501"], ..ERROR },
    Outcome { name: "no schema", group: None, sqlstates: &["42501", "42883"], is_minor: true, ..ERROR },
    // The second, when it is an EXECUTE that has too many.
    Outcome { name: "too many", fault: Fault::TooMany, sqlstates: &["42883", "42601"], ..ERROR },
    Outcome {
        name: "unqualified",
        fault: Fault::NotQualified,
        sqlstates: &["42883"],
        is_minor: true,
        ..ERROR
    },
    Outcome { name: "syntax", fault: Fault::Trailing, sqlstates: &["42601"], ..ERROR },
    Outcome { name: "::json", fault: Fault::Cast("json"), sqlstates: &["22P02"], is_minor: true, ..ERROR },
    Outcome { name: "::int", fault: Fault::Cast("int"), sqlstates: &["22P02"], ..ERROR },
    Outcome { name: "wrong place", fault: Fault::WrongPlace, sqlstates: &["IC004"], ..ERROR },
    Outcome {
        name: READ_ONLY,
        settings: &["default_transaction_read_only = on"],
        sqlstates: &["25006"],
        is_minor: true,
        ..ERROR
    },
    // What goes to the client alone.
    Outcome { name: "log off", settings: &["log_min_messages = panic"], ..ERROR },
    Outcome {
        name: "::int, log off",
        fault: Fault::Cast("int"),
        settings: &["log_min_messages = panic"],
        sqlstates: &["22P02"],
        is_minor: true,
        ..ERROR
    },
    Outcome {
        name: "syntax, log off",
        fault: Fault::Trailing,
        settings: &["log_min_messages = panic"],
        sqlstates: &["42601"],
        is_minor: true,
        ..ERROR
    },
    Outcome {
        name: "syntax in a savepoint, log off",
        fault: Fault::Trailing,
        before: &["BEGIN", "SAVEPOINT s"],
        settings: &["log_min_messages = panic"],
        sqlstates: &["42601"],
        ..ERROR
    },
    Outcome {
        name: "failed transaction",
        before: &["BEGIN", "SELECT 1/0"],
        sqlstates: &["25P02"],
        is_minor: true,
        ..ERROR
    },
    Outcome {
        name: "failed transaction, log off",
        before: &["BEGIN", "SELECT 1/0"],
        settings: &["log_min_messages = panic"],
        sqlstates: &["25P02"],
        ..ERROR
    },
    Outcome { name: "\"value\"", fault: Fault::DoubleQuoted, sqlstates: &["42703"], ..ERROR },
    Outcome { name: "cancelled", end: End::Cancelled, sqlstates: &["57014"], ..SUCCESS },
    Outcome {
        name: "timed out",
        end: End::TimedOut,
        settings: &["statement_timeout = '2s'"],
        sqlstates: &["57014"],
        is_minor: true,
        ..SUCCESS
    },
    Outcome { name: "terminated", end: End::Terminated, sqlstates: &["57P01"], is_minor: true, ..SUCCESS },
    Outcome { name: "killed", end: End::Killed, ..SUCCESS },
];
