//! The arguments, and the texts of the help, the man page and the completions.

use crate::{
    cli_error::CliError,
    exit_status::ExitStatus,
    output::Color,
    time::{Expiry, duration},
};
use clap::{
    Args, Parser, Subcommand, ValueEnum, builder::NonEmptyStringValueParser, error::ErrorKind, value_parser,
};
use clap_complete::Shell;
use std::{path::PathBuf, time::Duration};

/// Credentials of third-party integrations, kept inside Postgres.
///
/// A credential is never an argument or an environment variable, where other processes could see it. `set`
/// prompts for the credential on the terminal, or reads standard input or a file.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_long_help = after_help())]
pub struct Cli {
    /// Connect to this postgresql:// URI or "host=... dbname=..."; missing settings come from the PG*
    /// environment variables, the service file and ~/.pgpass, as with psql
    #[arg(long, global = true, value_name = "DSN")]
    pub dsn: Option<String>,
    /// Print results as JSON instead of tables
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colour; auto depends on the terminal and the environment
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    #[command(subcommand)]
    pub command: Command,
}

fn after_help() -> String {
    format!("{}\n\nResults go to standard output and everything else to standard error.", ExitStatus::table())
}

/// Parses the arguments. For help, version and missing arguments, clap prints and ends the process.
pub fn parse() -> Result<Cli, CliError> {
    Cli::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand => error.exit(),
        // Clap would show the argument, which could be a credential, in a log.
        kind => CliError::usage(
            kind.as_str().unwrap_or("the arguments are invalid"),
            "see --help; a credential is never an argument, use standard input or --value-file",
        ),
    })
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set or rotate a credential
    Set(Set),
    /// Rotate a credential to the end: stage, test, promote, wait for every consumer, revoke, retire
    #[command(after_long_help = ROTATION)]
    Rotate(Rotate),
    /// Show where rotations stand, and which consumers still use an old value
    Status {
        /// The integration's key; by default, all that have a credential
        key: Option<String>,
    },
    /// Make the staged value of a credential the current one
    Promote {
        /// The integration's key
        key: String,
        #[command(flatten)]
        guard: Guard,
        #[command(flatten)]
        actor: Actor,
    },
    /// Drop the staged value of a credential
    Discard {
        /// The integration's key
        key: String,
        #[command(flatten)]
        actor: Actor,
    },
    /// Make the previous value of a credential the current one, or bring back a removed one
    Rollback {
        /// The integration's key
        key: String,
        #[command(flatten)]
        guard: Guard,
        #[command(flatten)]
        actor: Actor,
    },
    /// Drop the previous value of a credential; refused while a consumer may still use it
    Retire {
        /// The integration's key
        key: String,
        /// Drop the value, whoever uses it
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        actor: Actor,
    },
    /// Print a credential, byte for byte; on a terminal, with a newline
    Get {
        /// The integration's key
        key: String,
        /// Which of its values
        #[arg(long, value_name = "VALUE", default_value = "current")]
        which: Which,
    },
    /// Set the credentials of a .env or JSON file, all of them or none
    #[command(after_long_help = IMPORT)]
    Import(Import),
    /// Find the credentials that have a value: is this leaked key one of ours?
    ///
    /// Searches current, previous and pending values; for a superuser, those of all orgs. Like grep, exit
    /// status 0 if there is one, and 1 if there is none. The server keeps nothing of the value, and the audit
    /// log has a row of the search.
    Find {
        #[command(flatten)]
        value: Value,
        #[command(flatten)]
        actor: Actor,
    },
    /// Decrypt every value of the org, and name those that cannot be decrypted
    ///
    /// Shows no value. Exit status 1 if there is one that cannot be decrypted.
    Check,
    /// List the integrations, and whether each has a credential
    List {
        /// Only credentials that expire within this time, such as 30d, or have expired
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expiring: Option<Duration>,
    },
    /// Show one integration, without its credential
    Show {
        /// The integration's key
        key: String,
    },
    /// Remove a credential; `intcred rollback` brings it back while it is kept
    Remove {
        /// The integration's key
        key: String,
        /// Keep nothing that a rollback could bring back
        #[arg(long)]
        purge: bool,
        #[command(flatten)]
        actor: Actor,
    },
    /// List and edit the integrations
    #[command(subcommand)]
    Catalog(Catalog),
    /// Show the audit log, newest first
    #[command(args_conflicts_with_subcommands = true)]
    Audit {
        /// The number of rows
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
        #[command(subcommand)]
        command: Option<Audit>,
    },
    /// Follow the changes, through every reconnect: one JSON object a line
    ///
    /// The events are synced (with the number of keys), changed, removed, enabled, disabled, disconnected and
    /// reconnected. After SIGINT or SIGTERM, running and queued hooks have --exec-timeout to end; then
    /// intcred ends with exit status 0. A second signal ends intcred at once. Under systemd, intcred sends
    /// notifications of readiness, status and watchdog.
    #[command(after_long_help = HOOKS)]
    Listen(Listen),
    /// Create the group roles and their grants; with ROLE, make ROLE a member of a group
    Grant {
        /// The role that becomes a member
        #[arg(requires = "to")]
        role: Option<String>,
        /// The group
        #[arg(long, value_name = "GROUP", requires = "role")]
        to: Option<Group>,
    },
    /// Check settings, grants and version of the server for problems that could expose a secret
    ///
    /// Exit status 1 if there is a problem. Checks that the role may not run are reported as unknown, not as
    /// problems. A superuser may run all checks.
    Doctor {
        /// Show and run the statements that fix problems of roles, databases and grants; needs a superuser
        #[arg(long)]
        fix: bool,
        /// Run the statements without a prompt
        #[arg(long, requires = "fix")]
        yes: bool,
    },
    /// Create the keyring file, whose keys the server encrypts with, and rotate its keys
    ///
    /// A rotation: add a key, ship the file to every server and reload, use the key, reencrypt, retire the old
    /// key. Commands other than generate, add and restore ask the servers, and need a superuser.
    #[command(subcommand)]
    Keyring(Keyring),
    /// Seal a value on this machine, without a connection, for another process to set
    ///
    /// Prints the sealed value in base64. It opens for ten minutes, and for the org and the role that asked for the sealing
    /// key, when they set this integration.
    Seal(Seal),
    /// Serve the integrations to clients of the Model Context Protocol, such as Claude Code
    ///
    /// On standard input and output, for one caller: the role of the connection settings. With --http, for callers with an
    /// API key. A secret is typed into a page that the server shows, and is in no tool's arguments or results.
    #[cfg(feature = "mcp")]
    #[command(args_conflicts_with_subcommands = true)]
    Mcp(Mcp),
    /// Print shell completions
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print a man page, for example `intcred man catalog add`
    Man {
        /// The command
        command: Vec<String>,
    },
}

/// Where a value is read from.
#[derive(Debug, Args)]
pub struct Value {
    /// Read the value from this file, byte for byte; - is standard input, the default where it is no
    /// terminal; the newline after a single line on standard input is stripped
    #[arg(long, value_name = "PATH")]
    pub value_file: Option<PathBuf>,
    /// Do not strip the newline after a single line on standard input, and accept a byte order mark
    #[arg(long)]
    pub exact: bool,
}

/// A change that only one of several callers is to make.
#[derive(Debug, Args)]
pub struct Guard {
    /// Change nothing unless the credential has this revision
    #[arg(long, value_name = "N")]
    pub expected_revision: Option<i64>,
}

#[derive(Debug, Args)]
pub struct Set {
    /// The integration's key
    pub key: String,
    #[command(flatten)]
    pub value: Value,
    /// Send the value as a bound parameter instead of sealed; a server that logs parameters may log the
    /// value
    #[arg(long)]
    pub plain: bool,
    /// Store the value as pending, for `intcred promote`
    #[arg(long)]
    pub stage: bool,
    /// When the vendor lets the value expire: a date, a moment such as 2027-01-31T00:00:00Z, or a time
    /// from now such as 90d; for lists and reminders only
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<Expiry>,
    /// Keep the value before this one for this time, such as 2days, instead of the catalog's; 0 keeps none
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "stage")]
    pub keep_previous: Option<Duration>,
    /// Change nothing unless the credential has this revision; 0: unless none was ever set
    #[arg(long, value_name = "N")]
    pub expected_revision: Option<i64>,
    /// Check the value by the catalog, the rules and the validator, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub actor: Actor,
}

#[derive(Debug, Args)]
pub struct Seal {
    /// The integration's key
    pub key: String,
    /// The file with the sealing key: the JSON that `get_sealing_key` answered; - is standard input
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    #[command(flatten)]
    pub value: Value,
}

#[cfg(feature = "mcp")]
#[derive(Debug, Args)]
pub struct Mcp {
    /// Serve HTTP on this IP:PORT instead of standard input and output
    #[arg(long, value_name = "ADDR", requires = "pepper_file")]
    pub http: Option<std::net::SocketAddr>,
    /// The URL by which clients and browsers reach the server: `https://HOST`, without a path; by default, on a loopback
    /// address, that address
    #[arg(long, value_name = "URL", requires = "http")]
    pub public_url: Option<String>,
    /// The server's half of every login: 32 to 1024 random bytes, readable by its user only
    #[arg(long, value_name = "FILE", requires = "http")]
    pub pepper_file: Option<PathBuf>,
    /// The certificate chain for TLS, in PEM
    #[arg(long, value_name = "FILE", requires_all = ["http", "tls_key"])]
    pub tls_cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// A proxy with TLS is in front, and adds the client's address to X-Forwarded-For
    #[arg(long, requires = "public_url")]
    pub behind_proxy: bool,
    /// Let pages of this origin call the server; can be repeated
    #[arg(long, value_name = "ORIGIN", requires = "http")]
    pub allow_origin: Vec<String>,
    /// The calls that a key may make in a second
    #[arg(long, value_name = "N", default_value_t = 20, requires = "http", value_parser = value_parser!(u32).range(1..=100_000))]
    pub calls_per_second: u32,
    #[command(subcommand)]
    pub command: Option<McpCommand>,
}

#[cfg(feature = "mcp")]
#[derive(Debug, Subcommand)]
pub enum McpCommand {
    /// Make, list and revoke API keys; needs a superuser
    #[command(subcommand)]
    Key(McpKey),
}

#[cfg(feature = "mcp")]
#[derive(Debug, Subcommand)]
pub enum McpKey {
    /// Make an API key, with a login role of its own, and print it once
    Add(McpKeyAdd),
    /// List the keys, and what each may do
    List,
    /// Revoke a key, and end its sessions; it takes effect with the next request
    Revoke {
        /// The id: icred_ and ten characters
        id: String,
    },
}

#[cfg(feature = "mcp")]
#[derive(Debug, Args)]
pub struct McpKeyAdd {
    /// The org that the key acts for
    #[arg(long, value_name = "ORG", value_parser = NonEmptyStringValueParser::new())]
    pub org: String,
    /// What the key may do
    #[arg(long, value_name = "SCOPE")]
    pub scope: McpScope,
    /// The name for people, in the audit log and on the page; the id by default
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// When the key ends: a date, a moment, or a time from now such as 90d
    #[arg(long, value_name = "WHEN")]
    pub valid_until: Option<Expiry>,
    /// Let calls with this key give a value in the clear: for scripts, never for a model
    #[arg(long)]
    pub values: bool,
    /// The pepper of the server that the key is for
    #[arg(long, value_name = "FILE")]
    pub pepper_file: PathBuf,
}

#[cfg(feature = "mcp")]
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum McpScope {
    /// Lists integrations, sets, removes, promotes and rolls back credentials
    Admin,
    /// Lists integrations
    User,
}

#[derive(Debug, Args)]
pub struct Rotate {
    /// The integration's key
    pub key: String,
    #[command(flatten)]
    pub value: Value,
    /// When the vendor lets the new value expire, as for `intcred set`
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<Expiry>,
    /// Run this command with `sh -c` before the promotion, with the staged value on standard input; if it
    /// fails, the value is discarded
    #[arg(long, value_name = "CMD", value_parser = NonEmptyStringValueParser::new())]
    pub test: Option<String>,
    /// Run this command with `sh -c` once every consumer uses the new value, with the old one on standard
    /// input
    #[arg(long, value_name = "CMD", value_parser = NonEmptyStringValueParser::new())]
    pub revoke: Option<String>,
    /// The time limit of a command; then its process group gets SIGTERM, and SIGKILL two seconds later
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = value_parser!(u32).range(1..))]
    pub exec_timeout: u32,
    /// Wait for the consumers for at most this time, such as 10min; without limit by default
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// Do not wait for the consumers: end after the promotion
    #[arg(long, conflicts_with_all = ["revoke", "timeout"])]
    pub detach: bool,
    /// Go on with a rotation that was interrupted, from wherever it stands
    #[arg(long, conflicts_with_all = ["value_file", "exact", "expires"])]
    pub resume: bool,
    /// Give the rotation up: discard the staged value, or roll back to the previous one
    #[arg(long, conflicts_with_all = ["resume", "value_file", "exact", "expires", "test", "revoke", "timeout", "detach"])]
    pub abort: bool,
    #[command(flatten)]
    pub actor: Actor,
}

const ROTATION: &str = "\
The new value is read as by `intcred set`. Its steps:
  stage    the server checks the value, and stores it beside the current one
  test     --test, if given
  promote  services get the new value; the server keeps the old one
  wait     until no consumer can still use the old value
  revoke   --revoke, if given
  retire   the server drops the old value

The state is in the database. After Ctrl-C, a failure or a crash, `intcred rotate KEY
--resume` goes on, with the same --test and --revoke. A revocation that was interrupted
or failed runs again, so it must succeed for a value that is revoked already.

The role needs the group admin and, for --test and --revoke, the group reader.

The commands find INTCRED_KEY, INTCRED_ORG and INTCRED_STEP (test or revoke) in their
environment, and neither the connection settings (PG*) nor the variables of systemd. Their
output, at most 64 KiB, goes to standard error when they have ended; where it has the
value, <redacted> stands instead.";

#[derive(Debug, Args)]
pub struct Import {
    /// The file; - is standard input
    pub file: PathBuf,
    /// Set the integration KEY to the value of NAME in the file; can be repeated, and then only these names
    /// are imported
    #[arg(long = "map", value_name = "NAME=KEY", value_parser = mapping)]
    pub map: Vec<(String, String)>,
    /// Say what would happen to each key, and what the rules refuse; change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub actor: Actor,
}

const IMPORT: &str = "\
A file whose first character is { or [ is JSON: an object of keys and values, or an array
of objects with \"key\" and \"value\", as of `intcred list --json` with a value added to some.
Any other file is .env: NAME=value, with or without `export`, comments, and quotes, in
which a value may have several lines. Variables such as $HOME are not replaced. Of a name
that is there twice, the last value counts.

Each value is sealed, and all are set in one transaction: if one is refused, none is set.";

/// `NAME=KEY`
fn mapping(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, key)) if !name.is_empty() && !key.is_empty() => Ok((name.to_owned(), key.to_owned())),
        _ => Err("not NAME=KEY"),
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Which {
    /// The value that services use
    Current,
    /// The value before, until its time is over
    Previous,
    /// The value that is staged
    Pending,
}

#[derive(Debug, Args)]
pub struct Listen {
    /// Begin with a changed event for each credential that is set
    #[arg(long)]
    pub initial: bool,
    /// Run this command with `sh -c` for each changed, removed, enabled or disabled event; see below
    #[arg(long, value_name = "CMD", value_parser = NonEmptyStringValueParser::new())]
    pub exec: Option<String>,
    /// Write the credential to the command's standard input too, after the line with the event
    #[arg(long, requires = "exec")]
    pub with_value: bool,
    /// The number of commands that may run at once
    #[arg(long, value_name = "N", default_value_t = 4, requires = "exec", value_parser = value_parser!(u16).range(1..))]
    pub exec_concurrency: u16,
    /// The time limit of a command; then its process group gets SIGTERM, and SIGKILL two seconds later
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "exec", value_parser = value_parser!(u32).range(1..))]
    pub exec_timeout: u32,
    /// The retries of a command that failed, for the same change
    #[arg(long, value_name = "N", default_value_t = 3, requires = "exec")]
    pub exec_retries: u32,
    /// The name of this process as a consumer, while its commands hold credentials; by default the program, the
    /// host and the process
    #[arg(long, value_name = "NAME", requires = "exec", value_parser = NonEmptyStringValueParser::new())]
    pub name: Option<String>,
    /// Report each new signed block of the audit log as a head event, for auditors; see `intcred audit verify`
    #[arg(long)]
    pub heads: bool,
    /// Serve /metrics for Prometheus, /healthz and /readyz over HTTP on this IP:PORT; port 0 picks a free
    /// port
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<String>,
}

const HOOKS: &str = "\
The command of --exec:
  The event is one line of JSON on standard input. Its fields are also in INTCRED_EVENT,
  INTCRED_ORG, INTCRED_KEY, INTCRED_REVISION and INTCRED_AT. The command's standard output
  goes to standard error, because standard output is for the events: read it, or redirect
  it to /dev/null. The command's environment has neither the connection settings (PG*) nor
  the variables of systemd.

  For each key, one command runs at a time, and events in the meantime collapse into the
  last. So act on the current state, and handle enabled like changed. A command that fails
  is retried with backoff: after half a second, one, two ... 30 at most, less up to a half
  at random. A newer event of the key replaces the retry. After the last retry, intcred
  reports the failure on standard error. The metric intcred_hook_failed_revision has the
  key until a later command for the key succeeds. /readyz reports only whether intcred
  follows the changes, not whether the commands succeed.

  With --with-value, the bytes after the first line are the credential, as read when the
  command starts, which may be of a later revision than the event:
    read -r event; umask 077; cat >token.new && mv token.new token
  For changed and enabled there is always a credential: if none can be read (removed or
  disabled by now, or never set), the command is skipped. For removed and disabled there
  is none. While the server is unreachable, the command waits.";

#[derive(Debug, Args)]
pub struct Actor {
    /// The actor for the audit log; by default, the name of the operating system's user
    #[arg(long = "actor", value_name = "NAME")]
    pub name: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Catalog {
    /// List the integrations with their rules
    List,
    /// Add an integration, or change the integration with this key; options not given stay as they are
    Add {
        /// The integration's key
        key: String,
        /// The name for people; defaults to the key
        #[arg(long, value_name = "NAME")]
        display_name: Option<String>,
        /// The rules for a value: a JSON object with minLength, maxLength, prefix, pattern, schema
        #[arg(long, value_name = "JSON")]
        rules: Option<String>,
        /// The URL where the vendor explains the credential
        #[arg(long, value_name = "URL")]
        docs_url: Option<String>,
        /// An example of a value; never a real credential
        #[arg(long, value_name = "TEXT")]
        example: Option<String>,
        #[command(flatten)]
        actor: Actor,
    },
    /// Remove an integration; refused while an org has a credential for it
    Remove {
        /// The integration's key
        key: String,
        #[command(flatten)]
        actor: Actor,
    },
    /// Enable an integration, for all orgs
    Enable {
        /// The integration's key
        key: String,
        #[command(flatten)]
        actor: Actor,
    },
    /// Set for how long the previous value of an integration is kept, for all orgs
    KeepPrevious {
        /// The integration's key
        key: String,
        /// The time, such as 1day or 12h; 0 keeps none
        #[arg(value_name = "TIME", value_parser = duration)]
        time: Duration,
        #[command(flatten)]
        actor: Actor,
    },
    /// Disable an integration, for all orgs: its credentials can be neither set nor read
    Disable {
        /// The integration's key
        key: String,
        #[command(flatten)]
        actor: Actor,
    },
}

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Print the newest signed block as JSON, to be kept outside of the database
    Head {
        /// Print each new block, a line each, until interrupted
        #[arg(long)]
        follow: bool,
    },
    /// Verify the audit log, or with --proof a proof; exit status 1 if anything is wrong
    ///
    /// Needs a role that may read the tables, such as a superuser. The checks run here, with public keys alone.
    /// Without --head, rows and blocks that were cut off at the end are not missed, nor is a log that was
    /// written anew.
    Verify {
        /// A head that was kept: the log must go on from there
        #[arg(long, value_name = "FILE")]
        head: Option<PathBuf>,
        /// Verify this proof, without a database; the key to trust is that of --head or --public-key
        #[arg(long, value_name = "FILE")]
        proof: Option<PathBuf>,
        /// The public key to trust, in hex
        #[arg(long, value_name = "HEX", requires = "proof", conflicts_with = "head")]
        public_key: Option<String>,
    },
    /// Print a proof as JSON that the org's row ID is in a signed block; it verifies without a database
    Prove {
        /// The id of the row
        id: i64,
    },
    /// Print the rows of the org that are in signed blocks, in the order of the blocks: one JSON object a line
    Export {
        /// Print new rows too, until interrupted
        #[arg(long)]
        follow: bool,
        /// Begin after this block, for example the block of the last line of an earlier export
        #[arg(long, value_name = "BLOCK", default_value_t = -1, allow_negative_numbers = true)]
        after: i64,
    },
    /// Delete the rows of all blocks that were sealed before TIME; the headers stay, and the call is audited
    ///
    /// Needs a superuser. Verify first: a row that was altered is gone with the others.
    Prune {
        /// The moment, such as 2026-01-31T00:00:00Z
        #[arg(value_name = "TIME")]
        before: String,
    },
    /// Show which role has read which credential last, and at which revision
    ///
    /// The server records reads from the update to this release on. Roles and keys that are gone stay listed.
    Reads {
        /// The integration's key; without it, all
        key: Option<String>,
        /// List the credentials that no role has read instead
        #[arg(long)]
        never: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Group {
    /// Sets and removes credentials, edits the catalog, cannot read a credential
    Admin,
    /// Reads credentials
    Reader,
    /// Reads the audit log
    Auditor,
    /// Lists the integrations, and nothing else
    Lister,
}

#[derive(Debug, Subcommand)]
pub enum Keyring {
    /// Create a keyring with one key
    Generate {
        /// The file, which must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Add a key, which only decrypts until `use`
    Add {
        /// The keyring, which is replaced atomically
        file: PathBuf,
    },
    /// Make a key the one that encrypts; refused while a server that the DSN names lacks it
    Use {
        /// The keyring, which is replaced atomically
        file: PathBuf,
        /// The id of the key
        id: String,
    },
    /// Reencrypt every credential of another key with the key that encrypts, in the database of the DSN
    ///
    /// May be interrupted: another run goes on with what is left. Exit status 1 if a credential cannot be
    /// decrypted.
    Reencrypt {
        /// The number of rows of a transaction
        #[arg(long, value_name = "ROWS", default_value_t = 1000, value_parser = value_parser!(i32).range(1..=100_000))]
        batch: i32,
    },
    /// Move a key that nothing needs to FILE.retired; refused while a row of any database needs it
    Retire {
        /// The keyring, which is replaced atomically
        file: PathBuf,
        /// The id of the key
        id: String,
    },
    /// Move a retired key back from FILE.retired, to decrypt what an older backup has
    Restore {
        /// The keyring, which is replaced atomically
        file: PathBuf,
        /// The id of the key
        id: String,
    },
    /// Show which keys encrypt, are needed, unneeded or missing; exit status 1 if one is missing
    Status {
        /// The keyring; without it, that of the first server of the DSN
        file: Option<PathBuf>,
    },
    /// Check which keys a dump needs; without DUMP, whether the server can decrypt every credential
    ///
    /// Exit status 1 if a key is missing, or a credential cannot be decrypted.
    Check {
        /// The dump, in any format of `pg_dump`, which is not restored; needs `pg_restore` unless it is plain SQL
        dump: Option<PathBuf>,
        /// Check whether this keyring decrypts the dump
        #[arg(long, value_name = "FILE", requires = "dump")]
        keyring: Option<PathBuf>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
