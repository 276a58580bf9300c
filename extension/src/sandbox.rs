//! The box that somebody else's function runs in while it sees a secret.
//!
//! It runs as its owner, in a subtransaction, with a pinned `search_path`, with nothing written to the log or sent to
//! the client, and with the error that it raises caught. A validator can write nothing and leaves nothing behind; a
//! sync handler keeps what it wrote, if it succeeds.

use crate::boundary::Raised;
use integration_credentials_core::redact;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
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
        let silence = Silence::begin();
        let surroundings = Surroundings::begin_subtransaction();
        // As in PL/pgSQL's exception blocks, releasing is part of what may fail: a foreign server is asked to, too. An
        // error that came out of it uncaught would leave the subtransaction behind.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let guc_nest_level = enter(owner, access);
            let result = function();
            if access == Access::Write {
                surroundings.release(guc_nest_level);
            }
            result
        }));
        if access == Access::Read || outcome.is_err() {
            surroundings.roll_back();
        }
        drop(silence);
        outcome.map_err(Raised::from_panic)
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

/// Who and how the function runs. Returns the level that its settings end with.
fn enter(owner: pg_sys::Oid, access: Access) -> i32 {
    // SAFETY: plain calls of the server, within the subtransaction that undoes them if one fails.
    unsafe {
        let guc_nest_level = pg_sys::NewGUCNestLevel();
        set(c"search_path", c"pg_catalog, pg_temp");
        set_messages_off();
        if access == Access::Read {
            set(c"transaction_read_only", c"on");
        }
        let (mut user, mut security) = (pg_sys::InvalidOid, 0);
        pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut security);
        let flags = pg_sys::SECURITY_RESTRICTED_OPERATION | pg_sys::SECURITY_LOCAL_USERID_CHANGE;
        pg_sys::SetUserIdAndSecContext(owner, security | flags.cast_signed());
        guc_nest_level
    }
}

fn set_messages_off() {
    set(c"log_min_messages", c"panic");
    set(c"client_min_messages", c"error");
}

/// Nothing goes to the client or to standard error while this lives. The settings alone do not see to it: RAISE INFO
/// reaches the client whatever they say, and libpq writes the notices of a foreign server to standard error, which is
/// the server's log.
struct Silence {
    output: pg_sys::CommandDest::Type,
    stderr: Option<OwnedFd>,
}

impl Silence {
    fn begin() -> Self {
        let stderr = io::stderr().as_fd().try_clone_to_owned();
        let silenced = stderr.and_then(|stderr| {
            let nowhere = File::options().write(true).open("/dev/null")?;
            redirect_stderr(nowhere.as_fd())?;
            Ok(stderr)
        });
        let stderr = silenced.unwrap_or_else(|error| {
            Raised::internal(format!("standard error cannot be set aside: {error}")).throw()
        });
        // SAFETY: a variable of this process, which the destructor puts back.
        unsafe {
            let output = pg_sys::whereToSendOutput;
            pg_sys::whereToSendOutput = pg_sys::CommandDest::DestNone;
            Self { output, stderr: Some(stderr) }
        }
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // SAFETY: as it was before.
        unsafe { pg_sys::whereToSendOutput = self.output };
        if let Some(stderr) = self.stderr.take() {
            // What cannot be put back stays silent, which is the safe side.
            let _ = redirect_stderr(stderr.as_fd());
        }
    }
}

fn redirect_stderr(to: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: two open descriptors.
    if unsafe { libc::dup2(to.as_raw_fd(), libc::STDERR_FILENO) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
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

    fn release(&self, guc_nest_level: i32) {
        // SAFETY: as above.
        unsafe {
            pg_sys::SetUserIdAndSecContext(self.user, self.security);
            // As if aborted, though the rest is kept: what the function itself has SET must not outlive it. What is set
            // here ends with the subtransaction.
            pg_sys::AtEOXact_GUC(false, guc_nest_level);
            pg_sys::NewGUCNestLevel();
            set_messages_off();
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
