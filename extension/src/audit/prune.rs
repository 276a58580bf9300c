//! `audit_prune(before)`: deletes the rows of all blocks that were sealed before a moment. The headers stay, so
//! that the chain does, and so that a proof that was kept still verifies.

use super::write_about;
use crate::calls::caller::Role;
use crate::pg::call::{self, Answer, Call};
use crate::pg::lock::{Lock, Mode};
use crate::pg::prepared::{argument, first, statement};
use crate::settings;
use crate::user_functions::routine::require_superuser;
use integration_credentials_core::error::{ErrorCode, Refusal};
use serde_json::json;

// The fifth line of a header, which is signed, is when the block was sealed.
statement!(volatile LAST(TIMESTAMPTZOID) "
    SELECT pg_catalog.max(number) FROM integration_credentials.audit_blocks
    WHERE number < ALL (
        SELECT number FROM integration_credentials.audit_blocks
        WHERE pg_catalog.split_part(header, E'\\n', 5)::pg_catalog.timestamptz >= $1)");
statement!(volatile DELETE(INT8OID) "
    WITH deleted AS (
        DELETE FROM integration_credentials.webapp_org_admin_audit_log AS l
        USING integration_credentials.audit_blocks AS b CROSS JOIN LATERAL pg_catalog.unnest(b.ids) AS i (id)
        WHERE b.number <= $1 AND l.id = i.id
        RETURNING 1)
    SELECT pg_catalog.count(*) FROM deleted");
statement!(volatile EMPTY(INT8OID) "
    WITH emptied AS (
        UPDATE integration_credentials.audit_blocks SET ids = NULL, leaves = NULL
        WHERE number <= $1 AND ids IS NOT NULL
        RETURNING 1)
    SELECT pg_catalog.count(*) FROM emptied");

/// Answers the call. The worker that seals waits meanwhile, and no caller does.
pub fn call(call: &Call) -> Answer {
    require_superuser("prune the audit log")?;
    let before = call.timestamp(0).ok_or_else(|| {
        Refusal::new(
            ErrorCode::InvalidRequest,
            "before is NULL",
            "Give the moment up to which blocks are pruned.",
        )
    })?;
    let org = settings::current_org(call)?;
    Lock::audit_chain().acquire(Mode::Exclusive);
    let last = first(&LAST, &[argument(before)], |row| row.get::<i64>(1)).flatten();
    let count = |statement| {
        last.and_then(|last| first(statement, &[argument(last)], |row| row.get::<i64>(1)).flatten())
            .unwrap_or(0)
    };
    let (rows, blocks) = (count(&DELETE), count(&EMPTY));
    if blocks > 0 {
        let metadata = json!({"throughBlock": last, "blocks": blocks, "rows": rows});
        let target = ("audit_log", last.unwrap_or_default().to_string());
        write_about(call, &org, &Role::session().name(), "prune_audit_log", (target.0, &target.1), &metadata);
    }
    Ok(call::json(&json!({"throughBlock": last, "blocks": blocks, "rows": rows})))
}
