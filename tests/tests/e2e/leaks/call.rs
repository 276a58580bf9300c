//! How a call with a secret is written in SQL.

use std::fmt::Write;

/// The function that is called, as the statement spells it, and the form of its arguments.
#[derive(Clone, Copy)]
pub struct Spelling {
    pub schema: &'static str,
    pub function: &'static str,
    /// Of key and value.
    pub arguments: fn(&str, &str) -> String,
}

/// As one would write it.
pub const USUAL: Spelling = Spelling {
    schema: "integration_credentials.",
    function: "admin_set_integration_credentials",
    arguments: |key, value| format!("{key}, {value}, 'actor'"),
};

/// What is wrong with a statement, so that it fails before the function is entered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// More arguments than there are parameters.
    TooMany,
    /// The schema is not named, and not on the search path.
    NotQualified,
    /// The value is in the place of the key.
    WrongPlace,
    /// Words that make no sense, after the call.
    Trailing,
    /// The value is cast to a type that cannot hold it.
    Cast(&'static str),
    /// The value is in double quotes, as if it were a name.
    DoubleQuoted,
}

/// One call of one cell.
pub struct Call<'a> {
    pub spelling: Spelling,
    /// A literal of the value.
    pub quote: fn(&str) -> String,
    pub fault: Fault,
    pub key: &'a str,
    /// The secret.
    pub value: &'a str,
    /// The same, sealed.
    pub sealed: &'a [u8],
}

impl Call<'_> {
    /// The call, with the value as a literal.
    pub fn literal(&self) -> String {
        self.with(&self.value())
    }

    /// The value as a literal.
    pub fn value(&self) -> String {
        match self.fault {
            Fault::DoubleQuoted => format!("\"{}\"", self.value),
            _ => (self.quote)(self.value),
        }
    }

    /// The sealed value as a literal.
    pub fn sealed_literal(&self) -> String {
        format!("'{}'", hex(self.sealed))
    }

    /// The call, with an expression for the value.
    pub fn with(&self, value: &str) -> String {
        let Spelling { schema, function, arguments } = self.spelling;
        let schema = if self.fault == Fault::NotQualified { "" } else { schema };
        let key = format!("'{}'", self.key);
        self.invoke(&format!("{schema}{function}"), value, |value| match self.fault {
            Fault::WrongPlace => arguments(value, &key),
            _ => arguments(&key, value),
        })
    }

    /// The call without its fault, with an expression for the value.
    pub fn sound(&self, value: &str) -> String {
        Call { fault: Fault::None, ..*self }.with(value)
    }

    /// The call of another function, which makes the call.
    pub fn wrapped(&self, value: &str) -> String {
        format!("app.wrap('{}', {value})", self.key)
    }

    /// `head(value)`, with the fault: for EXECUTE, which names no function.
    pub fn execute(&self, head: &str) -> String {
        self.invoke(head, &self.value(), str::to_owned)
    }

    fn invoke(&self, head: &str, value: &str, arguments: impl Fn(&str) -> String) -> String {
        let arguments = match self.fault {
            Fault::Cast(to) => arguments(&format!("({value})::{to}::text")),
            _ => arguments(value),
        };
        // Two, because with one more the call has options.
        let more = if self.fault == Fault::TooMany { ", 'one more', 'another'" } else { "" };
        let after = if self.fault == Fault::Trailing { " FROM FROM" } else { "" };
        format!("{head}({arguments}{more}){after}")
    }
}

/// Bytes as Postgres writes them.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(r"\x".to_owned(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes everything");
        hex
    })
}
