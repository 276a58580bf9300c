//! The arguments, and the texts of the help, the man page and the completions.

use crate::{cli_error::CliError, exit_status::ExitStatus, output::Color};
use clap::{
    Args, Parser, Subcommand, ValueEnum, builder::NonEmptyStringValueParser, error::ErrorKind, value_parser,
};
use clap_complete::Shell;
use std::path::PathBuf;

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
    Set {
        /// The integration's key
        key: String,
        /// Read the value from this file, byte for byte; - is standard input, the default where it is no
        /// terminal; the newline after a single line on standard input is stripped
        #[arg(long, value_name = "PATH")]
        value_file: Option<PathBuf>,
        /// Do not strip the newline after a single line on standard input, and accept a byte order mark
        #[arg(long)]
        exact: bool,
        /// Send the value as a bound parameter instead of sealed; a server that logs parameters may log the
        /// value
        #[arg(long)]
        plain: bool,
        #[command(flatten)]
        actor: Actor,
    },
    /// Print a credential, byte for byte; on a terminal, with a newline
    Get {
        /// The integration's key
        key: String,
    },
    /// List the integrations, and whether each has a credential
    List,
    /// Show one integration, without its credential
    Show {
        /// The integration's key
        key: String,
    },
    /// Remove a credential
    Remove {
        /// The integration's key
        key: String,
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
    /// Create or extend the keyring file, whose keys the server encrypts with
    #[command(subcommand)]
    Keyring(Keyring),
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
}

#[derive(Debug, Subcommand)]
pub enum Keyring {
    /// Create a keyring with one key
    Generate {
        /// The file, which must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Add a key, which encrypts from then on; the older keys stay, to decrypt
    Add {
        /// The keyring, which is replaced atomically
        file: PathBuf,
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
