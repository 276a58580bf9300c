//! Telling every listener, when the transaction commits.

use crate::boundary::Raised;
use integration_credentials_core::event::{CHANNEL, Event};
use pgrx::pg_sys;
use std::ffi::{CString, c_char};

unsafe extern "C-unwind" {
    // commands/async.h is not among pgrx's bindings.
    fn Async_Notify(channel: *const c_char, payload: *const c_char);
}

/// `NOTIFY integration_credentials`, as part of this transaction.
pub fn announce(event: &Event) {
    let payload = event.to_payload().ok().and_then(|payload| CString::new(payload).ok());
    let (Ok(channel), Some(payload)) = (CString::new(CHANNEL), payload) else {
        Raised::internal("integration_credentials: the event cannot be written").throw()
    };
    let (channel, payload) = (channel.as_ptr(), payload.as_ptr());
    // SAFETY: two C strings that outlive the call, which copies them. It may raise an error; the guard catches it.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| Async_Notify(channel, payload)) };
}
