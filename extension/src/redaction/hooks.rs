//! Where Postgres hands the text of a statement on.
//!
//! Each hook does its own work under a guard, and then goes on to the next with nothing of Rust left in its frame: an error
//! of Postgres jumps right over it, unchanged.

use super::{live, log, statement};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

static NEXT: OnceLock<Next> = OnceLock::new();

struct Next {
    analyzed: pg_sys::post_parse_analyze_hook_type,
    starting: pg_sys::ExecutorStart_hook_type,
    utility: pg_sys::ProcessUtility_hook_type,
}

unsafe extern "C-unwind" {
    // Without the guard that pgrx puts around them, which would translate every error of every statement.
    fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, flags: c_int);
    fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        text: *const c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        parameters: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        destination: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

thread_local! {
    static LAST_WAS_SECRET: Cell<bool> = const { Cell::new(false) };
}

/// Whether the statement that was analyzed last has a secret in its text.
pub fn last_was_secret() -> bool {
    LAST_WAS_SECRET.get()
}

pub fn install() {
    // SAFETY: variables of the postmaster, which has one thread.
    unsafe {
        let next = Next {
            analyzed: pg_sys::post_parse_analyze_hook,
            starting: pg_sys::ExecutorStart_hook,
            utility: pg_sys::ProcessUtility_hook,
        };
        if NEXT.set(next).is_ok() {
            pg_sys::post_parse_analyze_hook = Some(analyzed);
            pg_sys::ExecutorStart_hook = Some(starting);
            pg_sys::ProcessUtility_hook = Some(utility);
            pg_sys::RegisterXactCallback(Some(ended), std::ptr::null_mut());
        }
    }
}

/// Runs our part of a hook. That it fails must not make the statement fail; whatever it left in a text, the log hook
/// looks at the text again.
fn quietly<R: Default>(work: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        log::distrust();
        R::default()
    })
}

/// After a statement has been analyzed: from here on its text is only shown.
unsafe extern "C-unwind" fn analyzed(
    state: *mut pg_sys::ParseState,
    query: *mut pg_sys::Query,
    jumble: *mut pg_sys::JumbleState,
) {
    // SAFETY: Postgres passes a valid state, and what it is for goes on to the next hook.
    unsafe {
        quietly(|| redact_source(&mut *state));
        if let Some(next) = NEXT.get().and_then(|next| next.analyzed) {
            next(state, query, jumble);
        }
    }
}

unsafe fn redact_source(state: &mut pg_sys::ParseState) {
    let source = state.p_sourcetext;
    if source.is_null() {
        return;
    }
    // SAFETY: a C string, by its definition. What came from the client is parsed whole before any of it is analyzed.
    unsafe {
        let text = std::ffi::CStr::from_ptr(source).to_bytes();
        let secrets = statement::find(text);
        LAST_WAS_SECRET.set(secrets.is_some());
        let Some(secrets) = secrets.filter(|secrets| !secrets.is_masked(text)) else { return };
        if statement::is_from_client(source) {
            statement::report_activity(text, &secrets);
            statement::mask_in_place(source, &secrets);
        } else if let Some(copy) = statement::masked_copy(source) {
            statement::mask_copies(source, &secrets);
            state.p_sourcetext = copy;
        }
    }
}

/// Before a plan is executed. Its text may come from a copy that nobody has seen yet.
unsafe extern "C-unwind" fn starting(query: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: Postgres passes a valid query. The copy lives as long as it does, for it is made in the same context.
    unsafe {
        if let Some(copy) = quietly(|| statement::masked_copy((*query).sourceText)) {
            (*query).sourceText = copy;
        }
        match NEXT.get().and_then(|next| next.starting) {
            Some(next) => next(query, flags),
            None => standard_ExecutorStart(query, flags),
        }
    }
}

/// Before a command that is no plan.
#[allow(clippy::too_many_arguments)] // Postgres' own signature.
unsafe extern "C-unwind" fn utility(
    command: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: all is handed on as it came, but for the text, whose copy lives in the context of the caller.
    unsafe {
        let text = quietly(|| statement::masked_copy(text)).unwrap_or(text);
        let next = NEXT.get().and_then(|next| next.utility).unwrap_or(standard_ProcessUtility);
        next(command, text, read_only_tree, context, parameters, environment, destination, completion);
    }
}

/// When a transaction has ended. Postgres calls this for a failed one after it has written its error.
unsafe extern "C-unwind" fn ended(event: pg_sys::XactEvent::Type, _: *mut c_void) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_ABORT | pg_sys::XactEvent::XACT_EVENT_PARALLEL_ABORT => {
            quietly(statement::report_activity_again);
            live::forget();
        }
        pg_sys::XactEvent::XACT_EVENT_COMMIT
        | pg_sys::XactEvent::XACT_EVENT_PARALLEL_COMMIT
        | pg_sys::XactEvent::XACT_EVENT_PREPARE => live::forget(),
        _ => {}
    }
}
