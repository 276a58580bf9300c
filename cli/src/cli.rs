//! The arguments. What is said here is the help, the man page and the completions.

use crate::{cli_error::CliError, exit_status::ExitStatus, output::Color};
use clap::{
    Args, Parser, Subcommand, ValueEnum, builder::NonEmptyStringValueParser, error::ErrorKind, value_parser,
};
use clap_complete::Shell;
use std::path::PathBuf;

/// Credentials of third-party integrations, kept inside Postgres.
///
/// A credential is never given as an argument or an environment variable, where other processes could see it: `set` asks
/// for it on the terminal, or reads it from standard input or a file.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_long_help = after_help())]
pub struct Cli {
    /// Connect to this postgresql:// URI or "host=... dbname=..."; what it leaves open comes from the PG* environment
    /// variables, the service file and ~/.pgpass, as with psql
    #[arg(long, global = true, value_name = "DSN")]
    pub dsn: Option<String>,
    /// Print results as JSON instead of tables
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colour; auto heeds the terminal and the environment
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    #[command(subcommand)]
    pub command: Command,
}

fn after_help() -> String {
    format!("{}\n\nResults go to standard output and everything else to standard error.", ExitStatus::table())
}

/// Parses the arguments. Help, version, and what is missing are clap's business and end the process.
pub fn parse() -> Result<Cli, CliError> {
    Cli::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand => error.exit(),
        // Clap would show what was given; here it could be a credential, on its way into a log.
        kind => CliError::usage(
            kind.as_str().unwrap_or("the arguments are not as expected"),
            "see --help, and note that a value is never an argument: use standard input or --value-file",
        ),
    })
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set or rotate a credential
    Set {
        /// The integration
        key: String,
        /// Read the value from this file, byte for byte; - is standard input, the default unless it is a terminal, of
        /// which a single line loses its newline
        #[arg(long, value_name = "PATH")]
        value_file: Option<PathBuf>,
        /// Keep the newline of a single line on standard input, which is otherwise stripped, and a byte order mark at
        /// the start, which is otherwise refused
        #[arg(long)]
        exact: bool,
        /// Send the value as a bound parameter instead of sealing it first; a server that logs parameters logs it
        #[arg(long)]
        plain: bool,
        #[command(flatten)]
        actor: Actor,
    },
    /// Print a credential: byte for byte, and with a newline on a terminal
    Get {
        /// The integration
        key: String,
    },
    /// List the integrations, and which of them have a credential
    List,
    /// Show all about one integration, except its credential
    Show {
        /// The integration
        key: String,
    },
    /// Remove a credential
    Remove {
        /// The integration
        key: String,
        #[command(flatten)]
        actor: Actor,
    },
    /// See and edit what can be configured
    #[command(subcommand)]
    Catalog(Catalog),
    /// Show the audit log, newest first
    Audit {
        /// How many rows
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    /// Follow the changes: one JSON object a line, through every reconnect
    ///
    /// The events are synced (with the number of keys), changed, removed, enabled, disabled, disconnected and
    /// reconnected. SIGINT and SIGTERM end it with exit status 0, once the hooks that are due have run, for which they
    /// have as long as --exec-timeout; a second signal ends it at once. Under systemd it says when it is ready, and
    /// answers the watchdog.
    #[command(after_long_help = HOOKS)]
    Listen(Listen),
    /// Make the group roles and their grants; with ROLE, make it a member of one too
    Grant {
        /// The role to be a member
        #[arg(requires = "to")]
        role: Option<String>,
        /// Which group it joins
        #[arg(long, value_name = "GROUP", requires = "role")]
        to: Option<Group>,
    },
    /// Examine the server's settings, grants and version for what could let a secret out
    ///
    /// Exit status 1 when there is a problem. What the role may not see is reported as unknown, and is none: a superuser
    /// sees everything.
    Doctor {
        /// Run the statements that mend problems of roles, databases and grants, after showing them; needs a superuser
        #[arg(long)]
        fix: bool,
        /// Do not ask before running them
        #[arg(long, requires = "fix")]
        yes: bool,
    },
    /// Make the keyring file that the server encrypts with
    #[command(subcommand)]
    Keyring(Keyring),
    /// Print shell completions
    Completions {
        /// For which shell
        shell: Shell,
    },
    /// Print the man page, or that of a command, e.g. `intcred man catalog add`
    Man {
        /// Which command
        command: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub struct Listen {
    /// Begin with a changed event for each credential that is there
    #[arg(long)]
    pub initial: bool,
    /// Run this command, by `sh -c`, for each change: changed, removed, enabled, disabled; see below
    #[arg(long, value_name = "CMD", value_parser = NonEmptyStringValueParser::new())]
    pub exec: Option<String>,
    /// Give the command the credential too, on its standard input, below the line with the event
    #[arg(long, requires = "exec")]
    pub with_value: bool,
    /// How many commands may run at once
    #[arg(long, value_name = "N", default_value_t = 4, requires = "exec", value_parser = value_parser!(u16).range(1..))]
    pub exec_concurrency: u16,
    /// How long a command may take; then its process group gets SIGTERM, and SIGKILL two seconds later
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "exec", value_parser = value_parser!(u32).range(1..))]
    pub exec_timeout: u32,
    /// How often a command that failed is run again for the same change
    #[arg(long, value_name = "N", default_value_t = 3, requires = "exec")]
    pub exec_retries: u32,
    /// Serve /metrics for Prometheus, /healthz and /readyz over HTTP on this IP:PORT; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<String>,
}

const HOOKS: &str = "\
The command of --exec:
  It gets the event as one line of JSON on standard input, and as INTCRED_EVENT,
  INTCRED_ORG, INTCRED_KEY, INTCRED_REVISION and INTCRED_AT. What it prints goes to
  standard error, as standard output is for the events (which somebody has to read, if
  only /dev/null). It does not get the settings of the connection (PG*), nor what systemd
  told this process.

  For one key one command runs at a time, and what changes meanwhile collapses into the
  last event: act on how things are now, and take enabled for changed. A command that
  fails is run again, after half a second, one, two ... 30 at most, less some at random;
  a newer event of the key takes its place. After the last retry that is told on standard
  error, the metric intcred_hook_failed_revision has the key until a command for it
  succeeds, and the next event is awaited. /readyz says no more than whether the changes
  are followed.

  With --with-value the bytes after the first line are the credential, as it is when the
  command starts, which may be later than the revision of the event:
    read -r event; umask 077; cat >token.new && mv token.new token
  With changed and enabled there always is one: where there is none to be read (removed
  or disabled by now, or never set), the command is not run. With removed and disabled
  there never is one. While the server can't be reached, the command waits for it.";

#[derive(Debug, Args)]
pub struct Actor {
    /// Who does it, for the audit log; your user name by default
    #[arg(long = "actor", value_name = "NAME")]
    pub name: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Catalog {
    /// List the entries with their rules
    List,
    /// Add an entry, or replace the one with the same key
    Add {
        /// What the integration is called by
        key: String,
        /// What people call it; a new entry has its key for a name
        #[arg(long, value_name = "NAME")]
        display_name: Option<String>,
        /// What is demanded of a value: a JSON object of minLength, maxLength, prefix, pattern, schema
        #[arg(long, value_name = "JSON")]
        rules: Option<String>,
        /// Where its vendor explains the credential
        #[arg(long, value_name = "URL")]
        docs_url: Option<String>,
        /// The form of a value; never a real one
        #[arg(long, value_name = "TEXT")]
        example: Option<String>,
        #[command(flatten)]
        actor: Actor,
    },
    /// Take an entry out; refused while an org has a credential for it
    Remove {
        /// The integration
        key: String,
        #[command(flatten)]
        actor: Actor,
    },
    /// Allow setting and reading again
    Enable {
        /// The integration
        key: String,
        #[command(flatten)]
        actor: Actor,
    },
    /// Forbid setting and reading for now
    Disable {
        /// The integration
        key: String,
        #[command(flatten)]
        actor: Actor,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Group {
    /// Sets and removes credentials, edits the catalog, never reads a value
    Admin,
    /// Reads values
    Reader,
    /// Reads the audit log
    Auditor,
}

#[derive(Debug, Subcommand)]
pub enum Keyring {
    /// Make a new keyring with one key
    Generate {
        /// The file, which must not exist yet
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Add a new key for writing; the old ones stay, for reading
    Add {
        /// The keyring, which is replaced at once
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
