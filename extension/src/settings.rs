//! The settings, and the org of this session.

use crate::pg::call::{Answer, Call};
use crate::pg::session;
use integration_credentials_core::error::{ErrorCode, Refusal};
use integration_credentials_core::limits::{self, DEFAULT_VALUE_CHARS, MAX_ORG_CHARS, MAX_VALUE_CHARS};
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, IntoDatum, PostgresGucEnum, pg_sys};
use std::ffi::{CStr, CString};
use std::sync::OnceLock;
use std::time::Duration;

static ORG_SLUG: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static KEYRING_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static KEYRING_COMMAND: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static NOTIFY: GucSetting<Notify> = GucSetting::<Notify>::new(Notify::adaptive);
static MAX_VALUE_LENGTH: GucSetting<i32> = GucSetting::<i32>::new(characters(DEFAULT_VALUE_CHARS));
static VERSION: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(LOADED));
/// The version of this library.
const LOADED: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => c"",
};
static TRACK_READS: GucSetting<bool> = GucSetting::<bool>::new(true);
static LOG_READS: GucSetting<LogReads> = GucSetting::<LogReads>::new(LogReads::off);
static MAX_LEASE: GucSetting<i32> = GucSetting::<i32>::new(300);
static REFUSE_LITERALS: GucSetting<bool> = GucSetting::<bool>::new(false);

/// A day, in seconds.
const LONGEST_LEASE: i32 = 86_400;

/// A number of characters in the type of a setting.
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "a million at most")]
const fn characters(count: usize) -> i32 {
    count as i32
}

/// The process that sends the notifications of a transaction. The names are the values of the setting.
#[derive(Clone, Copy, PostgresGucEnum)]
#[allow(non_camel_case_types)]
pub enum Notify {
    /// The session where the lock of NOTIFY is free, otherwise the background worker.
    adaptive,
    /// The session, by a plain NOTIFY.
    transaction,
}

/// What the server log says of a read. The names are the values of the setting.
#[derive(Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
#[allow(non_camel_case_types)]
pub enum LogReads {
    /// Nothing.
    off,
    /// A line with org, key, revision and role.
    log,
}

/// Set in the postmaster, and inherited by every process that it forks.
static PRELOADED: OnceLock<()> = OnceLock::new();

/// Defines the settings while Postgres preloads the library. A library that is loaded later defines none,
/// because any role may already have set a parameter of an undefined name.
pub fn define() {
    GucRegistry::define_string_guc(
        c"integration_credentials.org_slug",
        c"The org that calls in this session act for.",
        c"1 to 255 characters. Empty, the org is the name of the database. Set it by database, by role, or GRANT SET ON PARAMETER to a trusted service.",
        &ORG_SLUG,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"integration_credentials.refuse_literals",
        c"Refuses a call whose value is a literal in the text of the statement.",
        c"Off, such a call gets a notice. A literal that reaches the call by way of a column or variable is not noticed.",
        &REFUSE_LITERALS,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"integration_credentials.max_value_length",
        c"The longest value that a role may set, in characters.",
        c"A value has at most four bytes a character. A longer value that is stored can still be read.",
        &MAX_VALUE_LENGTH,
        1,
        characters(MAX_VALUE_CHARS),
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"integration_credentials.max_lease",
        c"The longest lease of a process that holds credentials.",
        c"After a crash or a failover, no rotation is called converged for so long. While the server is away, a client may use what it holds for the time of its lease.",
        &MAX_LEASE,
        1,
        LONGEST_LEASE,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_enum_guc(
        c"integration_credentials.notify",
        c"Which process sends the notifications of a transaction.",
        c"transaction: the session, by a plain NOTIFY. adaptive: the session where NOTIFY does not wait, otherwise a background worker.",
        &NOTIFY,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"integration_credentials.track_reads",
        c"Records which role has read which credential last.",
        c"For credential_reads() and rotation_status(). What is read while this is off, they do not know.",
        &TRACK_READS,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"integration_credentials.log_reads",
        c"What the server log says of a read.",
        c"log: a line with org, key, revision and role, also for a transaction that is rolled back. off: nothing.",
        &LOG_READS,
        GucContext::Suset,
        GucFlags::default(),
    );
    for (name, short, setting) in [
        (
            c"integration_credentials.keyring_file",
            c"File with the keyring: a regular file or a link to one, of the server's user with 0600 or less, or of root with 0640 or less.",
            &KEYRING_FILE,
        ),
        (
            c"integration_credentials.keyring_command",
            c"Shell command whose standard output is the keyring. The session waits 30 s at most.",
            &KEYRING_COMMAND,
        ),
    ] {
        GucRegistry::define_string_guc(
            name,
            short,
            c"A session reads the keyring at its first use, and again after a configuration reload.",
            setting,
            GucContext::Sighup,
            GucFlags::SUPERUSER_ONLY,
        );
    }
    GucRegistry::define_string_guc(
        c"integration_credentials.version",
        c"The version of the library that the server has loaded.",
        c"That of the objects in a database is in pg_extension.",
        &VERSION,
        GucContext::Internal,
        GucFlags::DISALLOW_IN_FILE,
    );
    // SAFETY: a constant name.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"integration_credentials".as_ptr()) };
    PRELOADED.get_or_init(|| ());
}

/// Refuses a call in a server that did not preload the library, where no setting can be trusted.
pub fn require_preload() -> Result<(), Refusal> {
    PRELOADED.get().copied().ok_or_else(|| {
        Refusal::new(
            ErrorCode::EncryptionUnavailable,
            "the library integration_credentials is not preloaded",
            "Add integration_credentials to shared_preload_libraries and restart the server.",
        )
    })
}

/// The process that sends the notifications of this transaction.
pub fn notify() -> Notify {
    NOTIFY.get()
}

/// Checks a value against `max_value_length`.
pub fn check_value(value: Option<&str>) -> Result<&str, Refusal> {
    limits::value(value, usize::try_from(MAX_VALUE_LENGTH.get()).unwrap_or(DEFAULT_VALUE_CHARS))
}

/// Whether reads are recorded.
pub fn track_reads() -> bool {
    TRACK_READS.get()
}

/// What the server log says of a read.
pub fn log_reads() -> LogReads {
    LOG_READS.get()
}

/// The longest lease.
pub fn max_lease() -> Duration {
    Duration::from_secs(u64::try_from(MAX_LEASE.get()).unwrap_or_default())
}

/// Whether a literal value in the text of a statement is refused.
pub fn refuse_literals() -> bool {
    REFUSE_LITERALS.get()
}

/// Where the keyring comes from.
pub enum KeyringSource {
    /// A file.
    File(CString),
    /// A shell command.
    Command(CString),
}

/// The one source that is set.
pub fn keyring_source() -> Result<KeyringSource, Refusal> {
    require_preload()?;
    let set = |setting: &GucSetting<Option<CString>>| setting.get().filter(|value| !value.is_empty());
    let problem = match (set(&KEYRING_FILE), set(&KEYRING_COMMAND)) {
        (Some(file), None) => return Ok(KeyringSource::File(file)),
        (None, Some(command)) => return Ok(KeyringSource::Command(command)),
        (None, None) => "no keyring is configured",
        (Some(_), Some(_)) => "two keyrings are configured, a file and a command",
    };
    Err(Refusal::new(
        ErrorCode::EncryptionUnavailable,
        problem,
        "Set either integration_credentials.keyring_file or integration_credentials.keyring_command in \
         postgresql.conf, then reload the configuration. `intcred keyring generate` makes a keyring.",
    ))
}

/// The org that a call acts on: the org of this session, if the caller belongs to it.
pub fn current_org(call: &Call) -> Result<String, Refusal> {
    require_preload()?;
    let org = match ORG_SLUG.get().filter(|org| !org.is_empty()) {
        Some(org) => org,
        None => session::database_name(),
    };
    // Setting and database name may have been written in a database with another encoding.
    let org = org.to_str().map_err(|_| {
        Refusal::new(
            ErrorCode::InvalidRequest,
            "the org of this session is not valid UTF-8",
            "Set integration_credentials.org_slug in a database with encoding UTF8. Unset, the org is the name of the database.",
        )
    })?;
    let org = limits::check("the setting integration_credentials.org_slug", Some(org), MAX_ORG_CHARS)?;
    call.caller.check_org(org)?;
    Ok(org.to_owned())
}

/// `current_org()`
pub fn call_current_org(call: &Call) -> Answer {
    Ok(current_org(call)?.into_datum())
}
