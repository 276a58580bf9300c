//! NOTIFY.

use crate::pg::ffi::Async_Notify;
use integration_credentials_core::event::CHANNEL;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// `NOTIFY integration_credentials`, as part of this transaction.
pub fn send(payload: &CStr) {
    let channel = CString::new(CHANNEL).unwrap_or_default();
    let (channel, payload) = (channel.as_ptr(), payload.as_ptr());
    // SAFETY: two C strings that outlive the call, which copies them. It may raise an error; the guard catches it.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| Async_Notify(channel, payload)) };
}
