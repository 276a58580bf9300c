//! A JSON document in Postgres' own form.

use integration_credentials_core::{jsonb, rules};
use pgrx::fcinfo::direct_function_call;
use pgrx::{FromDatum, IntoDatum, pg_sys};
use serde_json::Value;
use std::ffi::{CStr, CString};

/// The longest document that is printed, in bytes. Rules of the longest text take a fifth of that.
pub const MAX_BYTES: usize = 20 * rules::MAX_BYTES;

/// Why a document cannot be read as text.
pub enum Unreadable {
    /// It has so many bytes, more than rules may have.
    TooLong(usize),
    /// It is not UTF-8.
    NotUtf8,
}

/// The bytes of a `jsonb`: equal bytes are equal documents.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Document(Vec<u8>);

impl Document {
    /// A value as a document.
    pub fn of(value: &Value) -> Self {
        let written = value.as_object().and_then(jsonb::object);
        Self(written.unwrap_or_else(|| parsed_by_postgres(&value.to_string())))
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The text that Postgres prints, up to the longest rules. Printed by Postgres, because `serde_json` can
    /// represent neither every number nor every depth of a jsonb.
    pub fn text(&self) -> Result<String, Unreadable> {
        if self.len() > MAX_BYTES {
            return Err(Unreadable::TooLong(self.len()));
        }
        // SAFETY: the datum of a jsonb. The C string of Postgres is copied.
        let text =
            unsafe { direct_function_call::<&CStr>(pg_sys::jsonb_out, &[self.0.as_slice().into_datum()]) };
        match text.unwrap_or_default().to_str() {
            Ok(text) if text.len() > rules::MAX_BYTES => Err(Unreadable::TooLong(text.len())),
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Unreadable::NotUtf8),
        }
    }
}

impl FromDatum for Document {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, oid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: the caller vouches for the datum, which is of variable length as a bytea is.
        unsafe { Vec::from_polymorphic_datum(datum, is_null, oid) }.map(Self)
    }
}

impl IntoDatum for Document {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        self.0.into_datum()
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

fn parsed_by_postgres(text: &str) -> Vec<u8> {
    let text = CString::new(text).unwrap_or_default();
    // SAFETY: a C string. The result is copied.
    let document =
        unsafe { direct_function_call(pg_sys::jsonb_in, &[Some(pg_sys::Datum::from(text.as_ptr()))]) };
    document.unwrap_or_default()
}
