//! NOTIFY, and the lock that it takes.

use integration_credentials_core::event::CHANNEL;
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char};

unsafe extern "C-unwind" {
    // commands/async.h is not among pgrx's bindings.
    fn Async_Notify(channel: *const c_char, payload: *const c_char);
}

/// `NOTIFY integration_credentials`, as part of this transaction.
pub fn send(payload: &CStr) {
    let channel = CString::new(CHANNEL).unwrap_or_default();
    let (channel, payload) = (channel.as_ptr(), payload.as_ptr());
    // SAFETY: two C strings that outlive the call, which copies them. It may raise an error; the guard catches it.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| Async_Notify(channel, payload)) };
}

/// Takes the lock that every transaction with a NOTIFY takes at its commit, if nobody has it. It is held to the end of the
/// transaction, as NOTIFY would.
pub fn is_free_to_send() -> bool {
    // What PreCommit_Notify locks: "database 0".
    let tag = pg_sys::LOCKTAG {
        locktag_field1: 0,
        locktag_field2: pg_sys::DatabaseRelationId.to_u32(),
        locktag_field3: 0,
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT.to_le_bytes()[0],
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD.to_le_bytes()[0],
    };
    // SAFETY: a valid tag; it does not wait.
    let taken = unsafe {
        pg_sys::LockAcquire(&raw const tag, pg_sys::AccessExclusiveLock.cast_signed(), false, true)
    };
    taken != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}
