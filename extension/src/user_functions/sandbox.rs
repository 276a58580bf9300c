//! The sandbox in which a validator or sync handler runs, because it sees a secret.
//!
//! The function runs as its owner, in a subtransaction, with a pinned `search_path`. Nothing goes to the log
//! or the client, and an error of the function is caught. The cursors of the caller are hidden. A validator
//! cannot write, and leaves nothing behind. The rows that a successful sync handler wrote stay, and nothing
//! else: no setting, no open cursor or large object, no object in `pg_temp`, and no deferred trigger.

use super::cancel;
use super::cursors::{self, Hidden};
use super::silence::{self, Silence};
use crate::pg::error::{self, Raised, class};
use crate::pg::ffi::AtEOSubXact_LargeObject;
use crate::pg::prepared::{run as run_statement, statement};
use crate::pg::text::Text;
use crate::pg::version;
use integration_credentials_core::redact;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::cell::Cell;
use std::ffi::{CStr, CString, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The access of a function in the sandbox.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read only, and always rolled back.
    Read,
    /// Read and write, kept on success.
    Write,
}

/// Runs `function` as `owner`. `Err` is the message of its error, without the secret.
///
/// An error that is not the function's own, such as a cancel, ends the whole call.
pub fn run<R>(
    owner: pg_sys::Oid,
    access: Access,
    secret: &str,
    function: impl FnOnce() -> R,
) -> Result<R, String> {
    let _hidden = Hidden::begin();
    // Output printed before belongs to the caller.
    throw_interrupt(flush_languages(owner));
    let (outcome, is_cancelled) = {
        let mut silence = Silence::begin();
        let _inside = Inside::enter();
        let cancel = cancel::Watch::begin();
        let surroundings = Surroundings::begin_subtransaction();
        // As in PL/pgSQL's exception blocks, the release is caught too: it may fail, for example at a foreign
        // server, and an uncaught error would leave the subtransaction behind.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let guc_nest_level = enter(owner, access);
            let result = function();
            if access == Access::Write {
                surroundings.release(guc_nest_level, owner);
            }
            result
        }));
        let is_cancelled = cancel.came();
        if access == Access::Read || outcome.is_err() {
            surroundings.roll_back();
        }
        let flushed = flush_languages(owner);
        if flushed.is_err() {
            silence.keep_stdout();
        }
        drop(silence);
        throw_interrupt(flushed);
        (outcome.map_err(Raised::from_panic), is_cancelled)
    };
    outcome.map_err(|Raised { sqlstate, message, is_interrupt, .. }| {
        let message = redact::reason(&message, secret);
        if is_interrupt || (access == Access::Read && says_nothing_of_the_value(sqlstate)) {
            Raised::new(sqlstate, message).throw()
        }
        if is_cancelled {
            let code = PgSqlErrorCode::ERRCODE_QUERY_CANCELED as c_int;
            Raised::new(code, "canceling statement while a validator or sync handler runs".to_owned()).throw()
        }
        message
    })
}

/// A lost race (class 40), resources (53), an operator (57), the system (58). Such an error of a validator
/// must not be reported as a bad credential.
fn says_nothing_of_the_value(sqlstate: i32) -> bool {
    [
        PgSqlErrorCode::ERRCODE_TRANSACTION_ROLLBACK,
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
        PgSqlErrorCode::ERRCODE_OPERATOR_INTERVENTION,
        PgSqlErrorCode::ERRCODE_SYSTEM_ERROR,
    ]
    .into_iter()
    .any(|code| class(code as i32) == class(sqlstate))
}

/// Sets the role and the settings that the function runs with. Returns the nest level of the settings.
fn enter(owner: pg_sys::Oid, access: Access) -> i32 {
    // SAFETY: plain calls of the server, within the subtransaction that undoes them after an error.
    unsafe {
        let guc_nest_level = pg_sys::NewGUCNestLevel();
        set(c"search_path", c"pg_catalog, pg_temp");
        // The caller's settings must not change the meaning of the function. No parallel worker may run a
        // part of it, because the output of another process cannot be silenced.
        set(c"max_parallel_workers_per_gather", c"0");
        set(version::DEBUG_PARALLEL_QUERY, c"off");
        set(c"standard_conforming_strings", c"on");
        set(c"backslash_quote", c"safe_encoding");
        set(c"transform_null_equals", c"off");
        set(c"array_nulls", c"on");
        set(c"quote_all_identifiers", c"off");
        set(c"DateStyle", c"ISO, MDY");
        set(c"IntervalStyle", c"postgres");
        set(c"bytea_output", c"hex");
        set(c"xmloption", c"content");
        set(c"extra_float_digits", c"1");
        // The function may build a statement from the value, and the statistics would show that statement.
        set_if_known(c"pg_stat_statements.track", c"none");
        set_messages_off();
        if access == Access::Read {
            // As SET TRANSACTION does. Since 16 a function cannot have it as its own setting; a reader is rolled back.
            set_by(pg_sys::GucAction::GUC_ACTION_LOCAL, c"transaction_read_only", c"on");
        }
        become_user(owner);
        guc_nest_level
    }
}

fn become_user(user: pg_sys::Oid) {
    let (mut was, mut security) = (pg_sys::InvalidOid, 0);
    let flags = pg_sys::SECURITY_RESTRICTED_OPERATION | pg_sys::SECURITY_LOCAL_USERID_CHANGE;
    // SAFETY: within a subtransaction, whose end resets the user.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&raw mut was, &raw mut security);
        pg_sys::SetUserIdAndSecContext(user, security | flags.cast_signed());
    }
}

/// Flushes the buffers of the languages, in a sandbox of its own.
fn flush_languages(owner: pg_sys::Oid) -> Result<(), Raised> {
    if !silence::has_languages() {
        return Ok(());
    }
    let surroundings = Surroundings::begin_subtransaction();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        enter(owner, Access::Read);
        silence::flush_languages();
    }));
    surroundings.roll_back();
    outcome.map_err(Raised::from_panic)
}

fn throw_interrupt(outcome: Result<(), Raised>) {
    if let Err(raised) = outcome
        && raised.is_interrupt
    {
        raised.throw()
    }
}

thread_local! {
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// While this lives, a function is in the sandbox.
struct Inside {
    was: bool,
}

impl Inside {
    fn enter() -> Self {
        Self { was: IS_INSIDE.replace(true) }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        IS_INSIDE.set(self.was);
    }
}

/// Refuses SET CONSTRAINTS in the sandbox, because only an abort would undo it. Postgres itself refuses
/// LISTEN, PREPARE, temporary tables, cursors WITH HOLD and deferred triggers there, as in any
/// security-restricted operation.
///
/// # Safety
/// Postgres passes a valid command. An error jumps out of every frame up to Postgres' own: none may have a
/// destructor left.
pub unsafe fn check_command(command: *const pg_sys::PlannedStmt) {
    // SAFETY: the caller vouches for the command and the frames.
    unsafe {
        if is_inside() && (*(*command).utilityStmt).type_ == pg_sys::NodeTag::T_ConstraintsSetStmt {
            error::refuse(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                "cannot execute SET CONSTRAINTS in a validator or sync handler",
            );
        }
    }
}

fn set_messages_off() {
    set(c"log_min_messages", c"panic");
    set(c"client_min_messages", c"error");
}

/// The state to restore after the subtransaction.
struct Surroundings {
    memory: pg_sys::MemoryContext,
    resources: pg_sys::ResourceOwner,
    user: pg_sys::Oid,
    security: i32,
}

impl Surroundings {
    fn begin_subtransaction() -> Self {
        // SAFETY: the order of PL/pgSQL's own exception blocks.
        unsafe {
            let (mut user, mut security) = (pg_sys::InvalidOid, 0);
            pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut security);
            let surroundings = Self {
                memory: pg_sys::CurrentMemoryContext,
                resources: pg_sys::CurrentResourceOwner,
                user,
                security,
            };
            pg_sys::BeginInternalSubTransaction(std::ptr::null());
            // The result of the function must outlive the subtransaction.
            pg_sys::MemoryContextSwitchTo(surroundings.memory);
            surroundings
        }
    }

    fn release(&self, guc_nest_level: i32, owner: pg_sys::Oid) {
        // SAFETY: as above.
        unsafe {
            pg_sys::SetUserIdAndSecContext(self.user, self.security);
            // Settings end as in an abort, though the rows stay: a SET of the function must not outlive it.
            // The settings made here end with the subtransaction.
            pg_sys::AtEOXact_GUC(false, guc_nest_level);
            pg_sys::NewGUCNestLevel();
            set_messages_off();
            let cursors = cursors::names();
            // Ending a query may run code of the function.
            become_user(owner);
            close_what_was_opened(&cursors);
            pg_sys::SetUserIdAndSecContext(self.user, self.security);
            refuse_temporary_objects();
            pg_sys::ReleaseCurrentSubTransaction();
            self.give_back();
        }
    }

    fn roll_back(&self) {
        // SAFETY: as above. Also resets user, security context and settings.
        unsafe {
            pg_sys::MemoryContextSwitchTo(self.memory);
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            self.give_back();
        }
    }

    unsafe fn give_back(&self) {
        // SAFETY: both belong to the caller's transaction, which goes on.
        unsafe {
            pg_sys::MemoryContextSwitchTo(self.memory);
            pg_sys::CurrentResourceOwner = self.resources;
        }
    }
}

// Every object of a schema depends on it. xmin as text, which needs no Rust type of its own.
statement!(volatile TEMPORARY() "
    SELECT d.xmin::pg_catalog.text FROM pg_catalog.pg_depend d
    WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
      AND d.refobjid = pg_catalog.pg_my_temp_schema()");

/// Refuses objects in `pg_temp` that this subtransaction has made, because the session would keep them. In
/// the sandbox Postgres itself refuses temporary tables, but not functions, operators, collations and the
/// like.
fn refuse_temporary_objects() {
    // SAFETY: plain calls of the server, in a transaction.
    let (subtransaction, temporary) = unsafe {
        let (mut temporary, mut toast) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
        pg_sys::GetTempNamespaceState(&raw mut temporary, &raw mut toast);
        (pg_sys::GetCurrentTransactionIdIfAny(), temporary)
    };
    if subtransaction == pg_sys::InvalidTransactionId || temporary == pg_sys::InvalidOid {
        return;
    }
    // Ids of subtransactions grow, so nested subtransactions have later ids.
    let is_ours = |writer: pg_sys::TransactionId| {
        // SAFETY: as above.
        unsafe {
            pg_sys::TransactionIdIsCurrentTransactionId(writer)
                && pg_sys::TransactionIdFollowsOrEquals(writer, subtransaction)
        }
    };
    let has_any = run_statement(&TEMPORARY, &[], |rows| {
        for row in rows {
            let writer = row.get(1)?.and_then(|Text(writer)| writer.parse::<u32>().ok());
            if writer.is_some_and(|writer| is_ours(pg_sys::TransactionId::from(writer))) {
                return Ok(true);
            }
        }
        Ok(false)
    });
    if has_any {
        Raised::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE as c_int,
            "cannot create objects in pg_temp in a validator or sync handler".to_owned(),
        )
        .throw()
    }
}

/// Closes the cursors and large objects of this subtransaction, which its parent would inherit.
unsafe fn close_what_was_opened(cursors: &[CString]) {
    // SAFETY: within a subtransaction. A portal is looked up before each use, because closing one may close
    // another.
    unsafe {
        let subtransaction = pg_sys::GetCurrentSubTransactionId();
        for name in cursors {
            let portal = pg_sys::GetPortalByName(name.as_ptr());
            if !portal.is_null() && (*portal).createSubid == subtransaction {
                // PL/Python and PL/Perl pin their portals.
                if (*portal).portalPinned {
                    pg_sys::UnpinPortal(portal);
                }
                pg_sys::PortalDrop(portal, false);
            }
        }
        // As in an abort, which closes descriptors and changes no data.
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            AtEOSubXact_LargeObject(false, subtransaction, subtransaction);
        });
    }
}

/// Sets a setting of another library, if it is loaded.
fn set_if_known(name: &CStr, value: &CStr) {
    // SAFETY: a constant name; NULL where there is no such setting.
    if !unsafe { pg_sys::GetConfigOption(name.as_ptr(), true, false) }.is_null() {
        set(name, value);
    }
}

/// Sets a setting until the current level of settings ends.
fn set(name: &CStr, value: &CStr) {
    set_by(pg_sys::GucAction::GUC_ACTION_SAVE, name, value);
}

fn set_by(action: pg_sys::GucAction::Type, name: &CStr, value: &CStr) {
    // SAFETY: constant names and values, valid for these settings.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
            action,
            true,
            0,
            false,
        );
    }
}

/// Whether a function runs in the sandbox.
pub fn is_inside() -> bool {
    IS_INSIDE.get()
}
