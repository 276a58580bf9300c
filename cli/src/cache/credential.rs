//! A cached credential, and a handle on it.

use crate::{Secret, Timestamp};
use arc_swap::Guard;
use integration_credentials_core::redact::REDACTED;
use std::{
    fmt,
    sync::{Arc, LazyLock},
};

/// A value with its revision.
pub(super) struct Entry {
    pub value: Secret,
    /// 0 for [`EMPTY`].
    pub revision: i64,
    pub updated_at: Option<Timestamp>,
}

/// In a slot without a value. Real revisions begin at 1.
pub(super) static EMPTY: LazyLock<Arc<Entry>> =
    LazyLock::new(|| Arc::new(Entry { value: Secret::new(String::new()), revision: 0, updated_at: None }));

impl Entry {
    pub fn is_there(&self) -> bool {
        self.revision != 0
    }
}

/// A handle on a cached credential, without a copy of the value. The value is wiped from memory once the
/// cache has dropped it and the last handle is gone, so keep a handle no longer than a request takes.
pub struct Credential(Guard<Arc<Entry>>);

impl Credential {
    pub(super) fn of(entry: Guard<Arc<Entry>>) -> Self {
        Self(entry)
    }

    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.value.expose()
    }

    /// The credential's revision, 1 or more. Each change raises it.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.0.revision
    }

    /// When the credential was set, by the clock of the server.
    #[must_use]
    pub fn updated_at(&self) -> Option<Timestamp> {
        self.0.updated_at
    }
}

impl From<Arc<Entry>> for Credential {
    fn from(entry: Arc<Entry>) -> Self {
        Self(Guard::from_inner(entry))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("value", &format_args!("{REDACTED}"))
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_goes_from_thread_to_thread_and_shows_nothing() {
        fn is_send_and_sync<T: Send + Sync + 'static>(_: &T) {}
        let entry = Entry { value: Secret::new("hunter2".into()), revision: 3, updated_at: None };
        let credential = Credential::from(Arc::new(entry));
        is_send_and_sync(&credential);
        assert_eq!(format!("{credential:?}"), "Credential { value: <redacted>, revision: 3, .. }");
    }
}
