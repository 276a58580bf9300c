//! The audit row of each change, with its MAC.
//!
//! | module | concept |
//! | --- | --- |
//! | this one | writing a row |
//! | `seal` | the job that signs blocks of rows, and asking for it |
//! | `prune` | deleting the rows of old blocks |

use crate::calls::caller::Role;
use crate::keyring;
use crate::maintenance;
use crate::pg::call::{Call, VOID};
use crate::pg::ffi::nextval_internal;
use crate::pg::heap_insert::{Identity, Log, append_with, column};
use crate::pg::jsonb::Document;
use crate::pg::lock::{Lock, Mode};
use crate::pg::prepared::statement;
use crate::pg::relation;
use integration_credentials_core::audit::Row;
use pgrx::pg_sys;
use serde_json::Value;
use std::cell::Cell;

pub mod prune;
pub mod seal;

const AUDIT_LOG: Log = Log {
    table: c"webapp_org_admin_audit_log",
    ids: c"webapp_org_admin_audit_log_id_seq",
    insert: &AUDIT,
    insert_with: Some((c"mac", &AUDIT_WITH_MAC)),
};
statement!(volatile AUDIT(TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID) "
    INSERT INTO integration_credentials.webapp_org_admin_audit_log
        (org_slug, actor, session_role, acting_role, action, target_type, target_id, metadata)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)");
statement!(volatile AUDIT_WITH_MAC(INT8OID, TIMESTAMPTZOID, BYTEAOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
        TEXTOID, TEXTOID, JSONBOID) "
    INSERT INTO integration_credentials.webapp_org_admin_audit_log
        (id, created_at, mac, org_slug, actor, session_role, acting_role, action, target_type, target_id, metadata)
    OVERRIDING SYSTEM VALUE
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)");

thread_local! {
    /// Whether this transaction has written a row.
    static HAS_ROWS: Cell<bool> = const { Cell::new(false) };
    /// The sequence that has counted this session.
    static COUNTED: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
}

/// Writes the row of one change of an integration. The two roles come from Postgres, the actor from the caller.
pub fn write(call: &Call, org: &str, actor: &str, action: &str, key: &str, metadata: &Value) {
    write_about(call, org, actor, action, ("integration", key), metadata);
}

/// Writes the row of one change of a target, given by its type and id.
pub fn write_about(
    call: &Call,
    org: &str,
    actor: &str,
    action: &str,
    (target_type, target_id): (&str, &str),
    metadata: &Value,
) {
    let (session_role, acting_role) = (Role::session().name(), call.caller.role.name());
    let metadata = Document::of(metadata);
    let columns = [
        column(c"org_slug", org),
        column(c"actor", actor),
        column(c"session_role", session_role.as_str()),
        column(c"acting_role", acting_role.as_str()),
        column(c"action", action),
        column(c"target_type", target_type),
        column(c"target_id", target_id),
        column(c"metadata", metadata.clone()),
    ];
    let texts = [org, actor, &session_role, &acting_role, action, target_type, target_id];
    let mac = |Identity { id, created_at }: Identity| {
        let mac = metadata.text().ok().and_then(|metadata| {
            let row = Row { id, texts: texts.map(str::as_bytes), metadata: metadata.as_bytes(), created_at };
            keyring::mac(&row.digest())
        });
        Some(column(c"mac", mac))
    };
    if count_session() {
        // `seal` looks whether it is free.
        let lock = Lock::audit_append(relation::oid(seal::BLOCKS));
        lock.acquire(Mode::RowShare);
        append_with(&AUDIT_LOG, &columns, mac);
        lock.release(Mode::RowShare);
        HAS_ROWS.set(true);
    } else {
        append_with(&AUDIT_LOG, &columns, mac);
    }
}

/// Counts this session among those that have written a row in this database: `seal` must know that there is one.
/// Returns whether rows are sealed, which an earlier version of the extension does not do.
fn count_session() -> bool {
    let sessions = relation::oid(c"audit_sessions");
    let is_sealed = sessions != pg_sys::InvalidOid;
    if is_sealed && COUNTED.get() != sessions {
        // SAFETY: in a transaction that may write. An error is caught and raised again.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| nextval_internal(sessions, false)) };
        COUNTED.set(sessions);
    }
    is_sealed
}

/// `audit_seal()`: asks for a worker.
pub fn ask_to_seal() -> Option<pg_sys::Datum> {
    maintenance::request();
    VOID
}

/// Asks for a worker after the commit of a prepared transaction, which may have had rows.
pub fn prepared_transaction_committed() {
    if relation::oid(seal::BLOCKS) != pg_sys::InvalidOid {
        maintenance::request();
    }
}

/// Asks for a worker to seal the rows of a transaction that has committed, or forgets those of another.
pub fn transaction_ended(is_committed: bool) {
    if HAS_ROWS.replace(false) && is_committed {
        maintenance::request();
    }
}
