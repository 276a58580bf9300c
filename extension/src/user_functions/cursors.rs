//! The caller's cursors, hidden while a validator or sync handler runs.

use crate::pg::error::Raised;
use crate::pg::prepared::{run, statement};
use crate::pg::text::Raw;
use pgrx::pg_sys;
use std::ffi::CString;

// As bytes: a name may be in any encoding.
statement!(stable CURSORS() "SELECT c.name FROM pg_catalog.pg_cursors c");

/// `InvalidSubTransactionId`.
const NONE: pg_sys::SubTransactionId = 0;

/// The names of all open cursors.
pub fn names() -> Vec<CString> {
    run(&CURSORS, &[], |rows| {
        let mut names = Vec::with_capacity(rows.len());
        for row in rows {
            names.extend(row.get(1)?.and_then(|Raw(name)| CString::new(name).ok()));
        }
        Ok(names)
    })
}

/// The open cursors, which no function can read, move or close while this lives.
///
/// A cursor reads with the privileges of the role that opened it. Postgres neither runs nor closes a portal
/// that is already active, in any language. So the cursors are marked active.
pub struct Hidden(Vec<Cursor>);

struct Cursor {
    portal: pg_sys::Portal,
    /// The subtransaction that used the cursor last. An abort of that subtransaction would drop the cursor.
    /// For a cursor WITH HOLD the number is of an earlier transaction, and the sandbox may have the same
    /// number.
    used_in: pg_sys::SubTransactionId,
}

impl Hidden {
    /// Hides them. A cursor that is running is active already.
    pub fn begin() -> Self {
        let mut hidden = Self(Vec::new());
        // SAFETY: within a transaction. A portal is found just before it is changed.
        unsafe {
            if pg_sys::ThereAreNoReadyPortals() {
                return hidden;
            }
            for name in names() {
                let portal = pg_sys::GetPortalByName(name.as_ptr());
                if !portal.is_null() && (*portal).status == pg_sys::PortalStatus::PORTAL_READY {
                    hidden.0.push(Cursor { portal, used_in: (*portal).activeSubid });
                    (*portal).status = pg_sys::PortalStatus::PORTAL_ACTIVE;
                    (*portal).activeSubid = NONE;
                }
            }
            // A cursor that the view does not show.
            if !pg_sys::ThereAreNoReadyPortals() {
                drop(hidden);
                Raised::internal("cannot hide an open cursor from a validator or sync handler").throw()
            }
        }
        hidden
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        for &Cursor { portal, used_in } in &self.0 {
            // SAFETY: only the end of the transaction drops an active portal, and this value is dropped
            // before.
            unsafe {
                if (*portal).status == pg_sys::PortalStatus::PORTAL_ACTIVE {
                    (*portal).status = pg_sys::PortalStatus::PORTAL_READY;
                }
                (*portal).activeSubid = used_in;
            }
        }
    }
}
