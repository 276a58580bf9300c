//! The box that somebody else's function runs in while it sees a secret.
//!
//! It runs as its owner, in a subtransaction, with a pinned `search_path`, with nothing written to the log or sent to
//! the client, and with the error that it raises caught. A validator can write nothing and leaves nothing behind; a
//! sync handler keeps what it wrote, if it succeeds.

use crate::boundary::Raised;
use integration_credentials_core::redact;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::CStr;
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
    let outcome = {
        let entered = Entered::new(owner, access);
        let outcome = catch_unwind(AssertUnwindSafe(function)).map_err(Raised::from_panic);
        entered.leave(access == Access::Write && outcome.is_ok());
        outcome
    };
    outcome.map_err(|Raised { sqlstate, message, is_interrupt, .. }| {
        let message = redact::reason(&message, secret);
        if is_interrupt || (access == Access::Read && says_nothing_of_the_value(sqlstate)) {
            Raised::new(sqlstate, message).throw()
        }
        message
    })
}

/// A lost race (class 40), resources (53), an operator (57), the system (58): to take one of them for the verdict of a
/// validator would send the owner of a good credential looking in the wrong place.
fn says_nothing_of_the_value(sqlstate: i32) -> bool {
    const CLASS: i32 = 0xfff;
    [
        PgSqlErrorCode::ERRCODE_TRANSACTION_ROLLBACK,
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
        PgSqlErrorCode::ERRCODE_OPERATOR_INTERVENTION,
        PgSqlErrorCode::ERRCODE_SYSTEM_ERROR,
    ]
    .into_iter()
    .any(|class| class as i32 & CLASS == sqlstate & CLASS)
}

/// The surroundings of the call, to be put back.
struct Entered {
    memory: pg_sys::MemoryContext,
    resources: pg_sys::ResourceOwner,
    user: pg_sys::Oid,
    security: i32,
    output: pg_sys::CommandDest::Type,
    settings: i32,
}

impl Entered {
    fn new(owner: pg_sys::Oid, access: Access) -> Self {
        // SAFETY: the order of PL/pgSQL's own exception blocks; nothing here outlives `leave`.
        unsafe {
            let (mut user, mut security) = (pg_sys::InvalidOid, 0);
            pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut security);
            let mut entered = Self {
                memory: pg_sys::CurrentMemoryContext,
                resources: pg_sys::CurrentResourceOwner,
                user,
                security,
                output: pg_sys::whereToSendOutput,
                settings: 0,
            };
            pg_sys::BeginInternalSubTransaction(std::ptr::null());
            // What the function returns must outlive the subtransaction.
            pg_sys::MemoryContextSwitchTo(entered.memory);

            entered.settings = pg_sys::NewGUCNestLevel();
            set(c"search_path", c"pg_catalog, pg_temp");
            set(c"log_min_messages", c"panic");
            set(c"client_min_messages", c"error");
            if access == Access::Read {
                set(c"transaction_read_only", c"on");
            }
            // RAISE INFO reaches the client whatever client_min_messages says, and that setting is anybody's to
            // change.
            pg_sys::whereToSendOutput = pg_sys::CommandDest::DestNone;

            let flags = pg_sys::SECURITY_RESTRICTED_OPERATION | pg_sys::SECURITY_LOCAL_USERID_CHANGE;
            pg_sys::SetUserIdAndSecContext(owner, security | flags.cast_signed());
            entered
        }
    }

    fn leave(self, keep: bool) {
        // SAFETY: undoes what `new` did. An error in here ends the whole transaction, which undoes it too, but for
        // whereToSendOutput, which is therefore put back first.
        unsafe {
            pg_sys::whereToSendOutput = self.output;
            pg_sys::SetUserIdAndSecContext(self.user, self.security);
            pg_sys::MemoryContextSwitchTo(self.memory);
            // As if aborted, even if the rest is kept: what the function itself has SET must not outlive it.
            pg_sys::AtEOXact_GUC(false, self.settings);
            if keep {
                pg_sys::ReleaseCurrentSubTransaction();
            } else {
                pg_sys::RollbackAndReleaseCurrentSubTransaction();
            }
            pg_sys::MemoryContextSwitchTo(self.memory);
            pg_sys::CurrentResourceOwner = self.resources;
        }
    }
}

/// Sets a setting until the level of `Entered::settings` ends.
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
