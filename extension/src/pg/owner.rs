//! Writing to a table as its owner, as autovacuum does: whatever code the table's owner has attached to the table
//! then runs with no more than the owner's rights.

use pgrx::pg_sys;

/// Runs `work` as the owner of an open table, in a security-restricted operation. After an error, Postgres resets
/// role and settings at the end of the transaction or subtransaction.
///
/// # Safety
/// The table is open until this returns.
pub unsafe fn as_table_owner<R>(table: pg_sys::Relation, work: impl FnOnce() -> R) -> R {
    let (mut role, mut context) = (pg_sys::InvalidOid, 0);
    let restricted = pg_sys::SECURITY_RESTRICTED_OPERATION | pg_sys::SECURITY_LOCAL_USERID_CHANGE;
    // SAFETY: variables of this process, and a table that the caller vouches for.
    unsafe {
        let settings = pg_sys::NewGUCNestLevel();
        pg_sys::GetUserIdAndSecContext(&raw mut role, &raw mut context);
        let owner = (*(*table).rd_rel).relowner;
        pg_sys::SetUserIdAndSecContext(owner, context | restricted.cast_signed());
        let result = work();
        pg_sys::SetUserIdAndSecContext(role, context);
        pg_sys::AtEOXact_GUC(false, settings);
        result
    }
}
