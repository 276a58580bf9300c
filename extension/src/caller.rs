//! Which role called. Functions that write to the audit log run as their owner, and the log names the role that called.
//!
//! SECURITY DEFINER would run them as their owner too, but keeps to itself which role it puts aside: the role of SET ROLE,
//! or the owner of another definer function that calls ours. So these functions are declared without it, and do it here.

use crate::boundary::{Answer, Call, Raised};
use pgrx::{IntoDatum, pg_sys};
use std::ffi::CStr;

/// A role.
#[derive(Clone, Copy)]
pub struct Role(pg_sys::Oid);

impl Role {
    /// The role whose privileges count now.
    pub fn current() -> Self {
        // SAFETY: a variable of this session.
        Self(unsafe { pg_sys::GetUserId() })
    }

    /// The role that logged in or, after SET SESSION AUTHORIZATION, the one that this named.
    pub fn session() -> Self {
        // SAFETY: a variable of this session.
        Self(unsafe { pg_sys::GetSessionUserId() })
    }

    /// Its name.
    pub fn name(self) -> String {
        // SAFETY: a C string of Postgres', which is copied.
        let name = unsafe { CStr::from_ptr(pg_sys::GetUserNameFromId(self.0, false)) };
        name.to_string_lossy().into_owned()
    }

    /// Whether it is a superuser.
    pub fn is_superuser(self) -> bool {
        // SAFETY: asks for a role that may be gone.
        unsafe { pg_sys::superuser_arg(self.0) }
    }
}

/// Runs a call as the owner of the function that was called. When an error ends it, Postgres sets the role back as it ends
/// the transaction or subtransaction, as it does for SECURITY DEFINER.
pub fn as_owner(call: &Call, function: fn(&Call) -> Answer) -> Answer {
    let owner = owner(call);
    let (mut role, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: variables of this session.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&raw mut role, &raw mut context);
        let changed = pg_sys::SECURITY_LOCAL_USERID_CHANGE.cast_signed();
        pg_sys::SetUserIdAndSecContext(owner, context | changed);
    }
    let answer = function(call);
    // SAFETY: as they were.
    unsafe { pg_sys::SetUserIdAndSecContext(role, context) };
    answer
}

#[allow(clippy::cast_ptr_alignment, reason = "Postgres aligns its rows for any type")]
fn owner(call: &Call) -> pg_sys::Oid {
    // SAFETY: a valid call, whose flinfo is there where the function was looked up by its oid. The row is of pg_proc.
    unsafe {
        let function = (*call.raw()).flinfo.as_ref().map_or(pg_sys::InvalidOid, |info| info.fn_oid);
        let identifier = pg_sys::SysCacheIdentifier::PROCOID.cast_signed();
        let row = pg_sys::SearchSysCache1(identifier, function.into_datum().unwrap_or(pg_sys::Datum::null()));
        if row.is_null() {
            Raised::internal("integration_credentials: called by no function of the catalog").throw()
        }
        let owner = (*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_proc>()).proowner;
        pg_sys::ReleaseSysCache(row);
        owner
    }
}
