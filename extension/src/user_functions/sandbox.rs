//! The box that somebody else's function runs in while it sees a secret.
//!
//! It runs as its owner, in a subtransaction, with a pinned `search_path`, with nothing written to the log or sent to
//! the client, and with the error that it raises caught. A validator can write nothing and leaves nothing behind; a
//! sync handler keeps what it wrote, if it succeeds, and leaves nothing else: no setting, cursor or large object that it
//! has opened, no object in `pg_temp`, and no trigger that it has put off. The cursors of the caller are hidden from it.

use super::cancel;
use super::cursors::{self, Hidden};
use super::silence::{self, Silence};
use crate::pg::error::{self, Raised, class};
use crate::pg::ffi::AtEOSubXact_LargeObject;
use crate::pg::prepared::{run as run_statement, statement};
use crate::pg::text::Text;
use integration_credentials_core::redact;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::cell::Cell;
use std::ffi::{CStr, CString, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a function in the box may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing but read; whatever it did all the same is rolled back.
    Read,
    /// Write, and what it wrote is kept if it succeeds.
    Write,
}

/// Runs `function` as `owner`. `Err` is the message of the error it raised, without the secret.
///
/// An error that is not the function's own, such as a cancel, ends the whole call.
pub fn run<R>(
    owner: pg_sys::Oid,
    access: Access,
    secret: &str,
    function: impl FnOnce() -> R,
) -> Result<R, String> {
    let _hidden = Hidden::begin();
    // What was printed before is not the function's.
    throw_interrupt(flush_languages(owner));
    let (outcome, is_cancelled) = {
        let mut silence = Silence::begin();
        let _inside = Inside::enter();
        let cancel = cancel::Watch::begin();
        let surroundings = Surroundings::begin_subtransaction();
        // As in PL/pgSQL's exception blocks, releasing is part of what may fail: a foreign server is asked to, too. An
        // error that came out of it uncaught would leave the subtransaction behind.
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
            Raised::new(code, "canceling statement, which a function made an error of its own".to_owned())
                .throw()
        }
        message
    })
}

/// A lost race (class 40), resources (53), an operator (57), the system (58): to take one of them for the verdict of a
/// validator would send the owner of a good credential looking in the wrong place.
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

/// Who and how the function runs. Returns the level that its settings end with.
fn enter(owner: pg_sys::Oid, access: Access) -> i32 {
    // SAFETY: plain calls of the server, within the subtransaction that undoes them if one fails.
    unsafe {
        let guc_nest_level = pg_sys::NewGUCNestLevel();
        set(c"search_path", c"pg_catalog, pg_temp");
        // The caller's settings do not change what the function means, and no other process runs a part of it: its
        // output could not be silenced.
        set(c"max_parallel_workers_per_gather", c"0");
        set(c"force_parallel_mode", c"off");
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
        // A statement that the function builds from the value is nobody's to see.
        set_if_known(c"pg_stat_statements.track", c"none");
        set_messages_off();
        if access == Access::Read {
            set(c"transaction_read_only", c"on");
        }
        become_user(owner);
        guc_nest_level
    }
}

fn become_user(user: pg_sys::Oid) {
    let (mut was, mut security) = (pg_sys::InvalidOid, 0);
    let flags = pg_sys::SECURITY_RESTRICTED_OPERATION | pg_sys::SECURITY_LOCAL_USERID_CHANGE;
    // SAFETY: within a subtransaction, whose end takes it back.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&raw mut was, &raw mut security);
        pg_sys::SetUserIdAndSecContext(user, security | flags.cast_signed());
    }
}

/// Has the languages print what they have still in their buffers, in a box of its own.
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

/// While this lives, a function is in the box.
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

/// Refuses SET CONSTRAINTS in the sandbox, which nothing but an abort puts back. Postgres itself refuses LISTEN, PREPARE,
/// temporary tables, cursors WITH HOLD and deferred triggers there, as in any restricted operation.
///
/// # Safety
/// Postgres passes a valid command. An error jumps out of every frame up to Postgres' own: none may have a destructor left.
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

/// What the subtransaction is to give back.
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
            // What the function returns must outlive the subtransaction.
            pg_sys::MemoryContextSwitchTo(surroundings.memory);
            surroundings
        }
    }

    fn release(&self, guc_nest_level: i32, owner: pg_sys::Oid) {
        // SAFETY: as above.
        unsafe {
            pg_sys::SetUserIdAndSecContext(self.user, self.security);
            // As if aborted, though the rest is kept: what the function itself has SET must not outlive it. What is set
            // here ends with the subtransaction.
            pg_sys::AtEOXact_GUC(false, guc_nest_level);
            pg_sys::NewGUCNestLevel();
            set_messages_off();
            let cursors = cursors::names();
            // To end a query may be to run code of the function.
            become_user(owner);
            close_what_was_opened(&cursors);
            pg_sys::SetUserIdAndSecContext(self.user, self.security);
            refuse_temporary_objects();
            pg_sys::ReleaseCurrentSubTransaction();
            self.give_back();
        }
    }

    fn roll_back(&self) {
        // SAFETY: as above. Takes user, security context and settings back, too.
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

// Whatever is in a schema depends on it. As text, which every type has.
statement!(volatile TEMPORARY() "
    SELECT d.xmin::pg_catalog.text FROM pg_catalog.pg_depend d
    WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
      AND d.refobjid = pg_catalog.pg_my_temp_schema()");

/// Refuses objects in `pg_temp` that this subtransaction has made: the session would keep them. Postgres itself refuses
/// temporary tables in the box, and no functions, operators, collations and the like.
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
    // Ids of subtransactions are given in their order, so those within this one have later ones.
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

/// Closes the cursors and large objects that were opened in this subtransaction, which else are its parent's.
unsafe fn close_what_was_opened(cursors: &[CString]) {
    // SAFETY: within a subtransaction. A portal is looked up before each use, for closing one may close another.
    unsafe {
        let subtransaction = pg_sys::GetCurrentSubTransactionId();
        for name in cursors {
            let portal = pg_sys::GetPortalByName(name.as_ptr());
            if !portal.is_null() && (*portal).createSubid == subtransaction {
                // PL/Python and PL/Perl pin theirs.
                if (*portal).portalPinned {
                    pg_sys::UnpinPortal(portal);
                }
                pg_sys::PortalDrop(portal, false);
            }
        }
        // As if aborted, which closes descriptors and touches no data.
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
    // SAFETY: constant names and values, valid for these settings.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}

/// Whether somebody else's function runs in the box.
pub fn is_inside() -> bool {
    IS_INSIDE.get()
}
