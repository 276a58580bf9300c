//! What pgrx's bindings lack: symbols that the server exports, with their prototypes as in the headers named
//! here, in all supported majors.
//!
//! The bindings lack some of them. Around the others the bindings put a guard, which catches an error and
//! raises it again. That would rewrite every error of every statement, and must not run in a signal handler.

use pgrx::pg_sys;
use std::ffi::{c_char, c_int, c_void};

// utils/elog.h
unsafe extern "C-unwind" {
    pub fn errstart(level: c_int, domain: *const c_char) -> bool;
    pub fn errcode(sqlstate: c_int) -> c_int;
    pub fn errmsg_internal(format: *const c_char, ...) -> c_int;
    pub fn errdetail_internal(format: *const c_char, ...) -> c_int;
    pub fn errhint(format: *const c_char, ...) -> c_int;
    pub fn errhidestmt(hide: bool) -> c_int;
    pub fn errhidecontext(hide: bool) -> c_int;
    pub fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
}

// executor/executor.h, optimizer/planner.h, tcop/utility.h
unsafe extern "C-unwind" {
    pub fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, flags: c_int);
    pub fn standard_planner(
        query: *mut pg_sys::Query,
        text: *const c_char,
        options: c_int,
        parameters: pg_sys::ParamListInfo,
    ) -> *mut pg_sys::PlannedStmt;
    pub fn standard_ProcessUtility(
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

// tcop/tcopprot.h, postmaster/interrupt.h, utils/timeout.h
unsafe extern "C-unwind" {
    pub fn die(signal: c_int);
    pub fn SignalHandlerForConfigReload(signal: c_int);
    pub fn get_timeout_indicator(timeout: c_int, reset: bool) -> bool;
}

// commands/async.h, commands/sequence.h, storage/large_object.h
unsafe extern "C-unwind" {
    pub fn Async_Notify(channel: *const c_char, payload: *const c_char);
    pub fn nextval_internal(sequence: pg_sys::Oid, check_permissions: bool) -> i64;
    pub fn AtEOSubXact_LargeObject(
        is_commit: bool,
        subtransaction: pg_sys::SubTransactionId,
        parent: pg_sys::SubTransactionId,
    );
}

// storage/lwlock.h, utils/timestamp.h. The guard would cost more than the calls. LWLockAcquire raises an error only in a
// process that holds 200 of these locks.
unsafe extern "C-unwind" {
    pub fn LWLockAcquire(lock: *mut pg_sys::LWLock, mode: pg_sys::LWLockMode::Type) -> bool;
    pub fn LWLockRelease(lock: *mut pg_sys::LWLock);
    pub fn GetCurrentTimestamp() -> pg_sys::TimestampTz;
}

// utils/palloc.h
unsafe extern "C-unwind" {
    pub fn MemoryContextAllocExtended(
        context: pg_sys::MemoryContext,
        bytes: usize,
        flags: c_int,
    ) -> *mut c_void;
}
