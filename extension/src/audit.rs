//! The audit row of each change.

use crate::calls::caller::Role;
use crate::pg::call::Call;
use crate::pg::heap_insert::{Log, append, column};
use crate::pg::jsonb::Document;
use crate::pg::prepared::statement;
use serde_json::Value;

const AUDIT_LOG: Log =
    Log { table: c"webapp_org_admin_audit_log", ids: c"webapp_org_admin_audit_log_id_seq", insert: &AUDIT };
statement!(volatile AUDIT(TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID) "
    INSERT INTO integration_credentials.webapp_org_admin_audit_log
        (org_slug, actor, session_role, acting_role, action, target_type, target_id, metadata)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)");

/// Writes the row of one change of an integration.
pub fn write(call: &Call, org: &str, actor: &str, action: &str, key: &str, metadata: &Value) {
    write_about(call, org, actor, action, ("integration", key), metadata);
}

/// Writes the row of one change of a target, given by its type and id. The two roles come from Postgres, the
/// actor from the caller.
pub fn write_about(
    call: &Call,
    org: &str,
    actor: &str,
    action: &str,
    (target_type, target_id): (&str, &str),
    metadata: &Value,
) {
    let columns = [
        column(c"org_slug", org),
        column(c"actor", actor),
        column(c"session_role", Role::session().name()),
        column(c"acting_role", call.caller.role.name()),
        column(c"action", action),
        column(c"target_type", target_type),
        column(c"target_id", target_id),
        column(c"metadata", Document::of(metadata)),
    ];
    append(&AUDIT_LOG, &columns);
}
