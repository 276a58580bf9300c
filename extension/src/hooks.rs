//! The hooks of Postgres that the library uses: for the text of a statement, and for the end of a
//! transaction.
//!
//! Each hook does its own work under a guard, and then calls the next hook with no destructor pending in its
//! frame. So an error of Postgres jumps over the frame unchanged.

use crate::announce::{announce_resync, queue, two_phase};
use crate::audit;
use crate::calls::reencrypt;
use crate::maintenance::board;
use crate::pg::ffi::{standard_ExecutorStart, standard_ProcessUtility, standard_planner};
use crate::pg::version;
use crate::progress;
use crate::reads::memory;
use crate::redaction;
use crate::user_functions::sandbox;
use pgrx::pg_sys;
use std::ffi::{c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

static NEXT: OnceLock<Next> = OnceLock::new();

struct Next {
    analyzed: pg_sys::post_parse_analyze_hook_type,
    planning: pg_sys::planner_hook_type,
    starting: pg_sys::ExecutorStart_hook_type,
    running: pg_sys::ExecutorRun_hook_type,
    utility: pg_sys::ProcessUtility_hook_type,
    message: pg_sys::emit_log_hook_type,
    memory_request: pg_sys::shmem_request_hook_type,
    memory_startup: pg_sys::shmem_startup_hook_type,
}

/// Installs the hooks in the postmaster, so that every process inherits them.
pub fn install() {
    // SAFETY: variables of the postmaster, which has one thread.
    unsafe {
        let next = Next {
            analyzed: pg_sys::post_parse_analyze_hook,
            planning: pg_sys::planner_hook,
            starting: pg_sys::ExecutorStart_hook,
            running: pg_sys::ExecutorRun_hook,
            utility: pg_sys::ProcessUtility_hook,
            message: pg_sys::emit_log_hook,
            memory_request: pg_sys::shmem_request_hook,
            memory_startup: pg_sys::shmem_startup_hook,
        };
        if NEXT.set(next).is_ok() {
            pg_sys::post_parse_analyze_hook = Some(analyzed);
            pg_sys::planner_hook = Some(planning);
            pg_sys::ExecutorStart_hook = Some(starting);
            pg_sys::ExecutorRun_hook = Some(version::running::<Execution>);
            pg_sys::ProcessUtility_hook = Some(utility);
            pg_sys::emit_log_hook = Some(message);
            pg_sys::shmem_request_hook = Some(memory_request);
            pg_sys::shmem_startup_hook = Some(memory_startup);
            pg_sys::RegisterXactCallback(Some(ended), std::ptr::null_mut());
            redaction::watch_errors();
        }
    }
}

/// Runs our part of a hook. A failure of ours must not fail the statement.
fn quietly<R: Default>(work: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        redaction::distrust();
        R::default()
    })
}

/// Runs after a statement has been analyzed. From here on Postgres only shows its text.
unsafe extern "C-unwind" fn analyzed(
    state: *mut pg_sys::ParseState,
    query: *mut pg_sys::Query,
    jumble: *mut pg_sys::JumbleState,
) {
    // SAFETY: Postgres passes a valid state. The next hook, which may show the text, gets the masked copy.
    unsafe {
        let copy = quietly(|| redaction::analyzed(&*state));
        let source = (*state).p_sourcetext;
        if let Some(copy) = copy {
            (*state).p_sourcetext = copy;
        }
        if let Some(next) = NEXT.get().and_then(|next| next.analyzed) {
            next(state, query, jumble);
        }
        if let Some(copy) = copy {
            (*state).p_sourcetext = source;
            quietly(|| redaction::free_copy(copy));
        }
    }
}

/// Runs before a query is planned. A plan for one use has another copy of the text than the analyzed one.
unsafe extern "C-unwind" fn planning(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: c_int,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: all arguments are passed on unchanged, except the text, whose copy lives until the query is
    // planned.
    unsafe {
        let copy = quietly(|| redaction::masked_copy(text, pg_sys::CurrentMemoryContext));
        let next = NEXT.get().and_then(|next| next.planning).unwrap_or(standard_planner);
        let plan = next(query, copy.unwrap_or(text), options, parameters);
        if let Some(copy) = copy {
            quietly(|| redaction::free_copy(copy));
        }
        plan
    }
}

/// Runs when the execution of a plan starts. Its text may be a copy that no hook has masked yet.
unsafe extern "C-unwind" fn starting(query: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: Postgres passes a valid query, which has its state then. The copy lives as long as that state.
    unsafe {
        match NEXT.get().and_then(|next| next.starting) {
            Some(next) => next(query, flags),
            None => standard_ExecutorStart(query, flags),
        }
        quietly(|| {
            let query = &mut *query;
            if let Some(state) = query.estate.as_mut()
                && let Some(copy) = redaction::masked_copy(query.sourceText, state.es_query_cxt)
            {
                query.sourceText = copy;
                state.es_sourceText = copy;
            }
        });
    }
}

/// While a plan is executed, which may be another's than the client's statement: FETCH and COMMIT run a cursor's.
struct Execution;

impl version::Running for Execution {
    unsafe fn run(query: *mut pg_sys::QueryDesc, go_on: impl FnOnce(pg_sys::ExecutorRun_hook_type)) {
        // SAFETY: Postgres passes a valid query. An error jumps over what follows, and stays one of that plan.
        let before = unsafe { quietly(|| redaction::begin_to_run((*query).sourceText)) };
        go_on(NEXT.get().and_then(|next| next.running));
        quietly(|| redaction::go_on_with(before));
    }
}

/// Runs before a utility command.
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
    // SAFETY: all arguments are passed on unchanged, except the text, whose copy lives until the command is
    // done.
    unsafe {
        sandbox::check_command(command);
        let copy = quietly(|| redaction::masked_copy(text, pg_sys::CurrentMemoryContext));
        let text = copy.unwrap_or(text);
        let is_commit_prepared = is_commit_prepared(command);
        let has_events = is_commit_prepared && quietly(two_phase::is_any_marked);
        let next = NEXT.get().and_then(|next| next.utility).unwrap_or(standard_ProcessUtility);
        next(command, text, read_only_tree, context, parameters, environment, destination, completion);
        if let Some(copy) = copy {
            quietly(|| redaction::free_copy(copy));
        }
        if has_events {
            quietly(announce_resync);
        }
        if is_commit_prepared {
            quietly(audit::prepared_transaction_committed);
        }
    }
}

/// Whether a command commits a prepared transaction.
unsafe fn is_commit_prepared(command: *const pg_sys::PlannedStmt) -> bool {
    // SAFETY: the caller has a valid command, whose node tag tells its type.
    unsafe {
        let node = (*command).utilityStmt;
        (*node).type_ == pg_sys::NodeTag::T_TransactionStmt
            && (*node.cast::<c_void>().cast::<pg_sys::TransactionStmt>()).kind
                == pg_sys::TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED
    }
}

/// Runs for each message on its way to the log and the client.
unsafe extern "C-unwind" fn message(error: *mut pg_sys::ErrorData) {
    // SAFETY: Postgres passes a valid message, which a hook may change.
    unsafe {
        redaction::redact(&mut *error);
        if let Some(next) = NEXT.get().and_then(|next| next.message) {
            next(error);
        }
    }
}

/// Runs when libraries may request shared memory.
unsafe extern "C-unwind" fn memory_request() {
    // SAFETY: called by the postmaster.
    unsafe {
        if let Some(next) = NEXT.get().and_then(|next| next.memory_request) {
            next();
        }
    }
    queue::request_memory();
    progress::request_memory();
    board::request_memory();
    memory::request_memory();
}

/// Runs when the shared memory exists.
unsafe extern "C-unwind" fn memory_startup() {
    // SAFETY: called by the postmaster.
    unsafe {
        if let Some(next) = NEXT.get().and_then(|next| next.memory_startup) {
            next();
        }
    }
    queue::initialize();
    progress::initialize();
    board::initialize();
    memory::initialize();
}

/// Runs when a transaction has ended; for a failed transaction, after Postgres has written its error.
unsafe extern "C-unwind" fn ended(event: pg_sys::XactEvent::Type, _: *mut c_void) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_ABORT | pg_sys::XactEvent::XACT_EVENT_PARALLEL_ABORT => {
            quietly(redaction::transaction_failed);
            quietly(|| audit::transaction_ended(false));
            quietly(reencrypt::abandon);
        }
        pg_sys::XactEvent::XACT_EVENT_COMMIT
        | pg_sys::XactEvent::XACT_EVENT_PARALLEL_COMMIT
        | pg_sys::XactEvent::XACT_EVENT_PREPARE => {
            quietly(redaction::transaction_done);
            quietly(|| audit::transaction_ended(event == pg_sys::XactEvent::XACT_EVENT_COMMIT));
        }
        _ => {}
    }
}
