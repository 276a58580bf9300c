//! Texts of Postgres, checked to be UTF-8.
//!
//! The encoding of the database does not guarantee UTF-8: Postgres checks text from a client, but not from
//! dblink, a foreign table or a library. pgrx does not check either, and a Rust string must be UTF-8, so
//! every text comes in here.

use super::error::Raised;
use pgrx::{FromDatum, IntoDatum, PgSqlErrorCode, pg_sys};
use std::ffi::c_int;

/// A text of a table of the extension or of the system catalog.
pub struct Text(pub String);

impl FromDatum for Text {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, oid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: the caller vouches for the datum.
        let Raw(bytes) = unsafe { Raw::from_polymorphic_datum(datum, is_null, oid) }?;
        Some(Self(String::from_utf8(bytes).unwrap_or_else(|_| refuse_stored())))
    }
}

impl IntoDatum for Text {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        self.0.into_datum()
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }
}

/// The bytes of a text in any encoding.
pub struct Raw(pub Vec<u8>);

impl FromDatum for Raw {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, oid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: the caller vouches for the datum, which is of variable length as a bytea is.
        unsafe { Vec::from_polymorphic_datum(datum, is_null, oid) }.map(Self)
    }
}

impl IntoDatum for Raw {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        self.0.into_datum()
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }
}

/// A text with U+FFFD in place of invalid bytes, for messages.
pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn refuse_stored() -> ! {
    Raised::new(
        PgSqlErrorCode::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE as c_int,
        "a text in a table of integration_credentials or in the system catalog is not valid UTF-8".to_owned(),
    )
    .throw()
}
