//! The cursors that are open while somebody else's function runs.

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

/// The cursors that are open now: nobody can read, move or close one while this lives.
///
/// A cursor reads by the rights of the role that has opened it. Postgres runs and closes none that runs already, by
/// whatever way and language it is asked to; so that is what these say of themselves.
pub struct Hidden(Vec<Cursor>);

struct Cursor {
    portal: pg_sys::Portal,
    /// In which subtransaction it was used last. One that is used in a subtransaction that aborts is lost, and of a cursor
    /// WITH HOLD this is a number of an earlier transaction, which the box may have again.
    used_in: pg_sys::SubTransactionId,
}

impl Hidden {
    /// Hides them. One that runs is hidden as it is.
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
            // One that the view does not show.
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
            // SAFETY: nothing but the end of the transaction drops a portal that says that it runs, and this ends before.
            unsafe {
                if (*portal).status == pg_sys::PortalStatus::PORTAL_ACTIVE {
                    (*portal).status = pg_sys::PortalStatus::PORTAL_READY;
                }
                (*portal).activeSubid = used_in;
            }
        }
    }
}
