//! A cached credential, and a handle on it.

use crate::{Error, Secret, Timestamp, lease::Permit};
use arc_swap::Guard;
use integration_credentials_core::redact::REDACTED;
use std::{
    fmt,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// A value with its revision.
pub(super) struct Entry {
    value: Secret,
    /// 0 for [`EMPTY`].
    pub revision: i64,
    pub updated_at: Option<Timestamp>,
    /// Until when the value may be used; `None` for [`EMPTY`].
    permit: Option<Arc<Permit>>,
    /// The lease ran out, and by the time that there was another, the value was no longer current.
    is_revoked: AtomicBool,
}

/// In a slot without a value. Real revisions begin at 1.
pub(super) static EMPTY: LazyLock<Arc<Entry>> = LazyLock::new(|| {
    Arc::new(Entry {
        value: Secret::new(String::new()),
        revision: 0,
        updated_at: None,
        permit: None,
        is_revoked: AtomicBool::new(true),
    })
});

impl Entry {
    pub fn new(value: Secret, revision: i64, updated_at: Option<Timestamp>, permit: Arc<Permit>) -> Self {
        Self { value, revision, updated_at, permit: Some(permit), is_revoked: AtomicBool::new(false) }
    }

    pub fn is_there(&self) -> bool {
        self.revision != 0
    }

    /// Lets nobody use the value again.
    pub fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Release);
    }

    pub fn is_revoked(&self) -> bool {
        self.is_revoked.load(Ordering::Acquire)
    }

    fn expose(&self) -> Result<&str, Error> {
        // The permit first: it is renewed after what it does not cover is revoked.
        if self.permit.as_ref().is_some_and(|permit| permit.is_running()) && !self.is_revoked() {
            return Ok(self.value.expose());
        }
        Err(Error::LeaseOver { reason: "the server has not renewed it in time".to_owned() })
    }
}

/// The last handle is gone, which the server may wait for.
impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(permit) = &self.permit {
            permit.wake.notify_one();
        }
    }
}

/// A handle on a cached credential, without a copy of the value. The value is wiped from memory once the
/// cache has dropped it and the last handle is gone, so keep a handle no longer than a request takes: while a
/// handle on an old value is kept, the rotation is not over.
pub struct Credential(Guard<Arc<Entry>>);

impl Credential {
    pub(super) fn of(entry: Guard<Arc<Entry>>) -> Self {
        Self(entry)
    }

    /// The value itself.
    ///
    /// # Errors [`Error::LeaseOver`] once the lease of the cache has run out, because the server has not
    /// answered for [`CacheOptions::grace`](crate::CacheOptions::grace), or the cache is closed. Without a
    /// lease there is no error; see [`CredentialCache::lease`](crate::CredentialCache::lease).
    pub fn expose(&self) -> Result<&str, Error> {
        self.0.expose()
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
    use crate::lease::Clock;

    #[test]
    fn a_handle_goes_from_thread_to_thread_and_shows_nothing() {
        fn is_send_and_sync<T: Send + Sync + 'static>(_: &T) {}
        let permit = Arc::new(Permit::new(Clock::default()));
        let entry = Entry::new(Secret::new("hunter2".into()), 3, None, permit.clone());
        let credential = Credential::from(Arc::new(entry));
        is_send_and_sync(&credential);
        assert_eq!(format!("{credential:?}"), "Credential { value: <redacted>, revision: 3, .. }");
        assert!(matches!(credential.expose(), Err(Error::LeaseOver { .. })));
        permit.free();
        assert_eq!(credential.expose().unwrap(), "hunter2");
        credential.0.revoke();
        assert!(credential.expose().is_err());
    }
}
