//! The checks: a name, a query, and why it matters.
//!
//! A query returns rows of verdict (`ok`, `advice`, `problem`), what was found, the kind of the fix (`sql`, `reload`,
//! `restart`, `byHand`, or NULL), and the fix; no row is good news. What the role may not see, the query lets Postgres
//! refuse.

use super::finding::{Finding, Fix, Verdict};
use crate::{Error, session::column};
use tokio_postgres::Row;

pub(super) struct Check {
    pub name: &'static str,
    pub sql: &'static str,
    /// What there is to say when the query finds nothing.
    pub good: &'static str,
    pub why: &'static str,
}

macro_rules! check {
    ($name:literal, $good:literal, $why:literal) => {
        Check { name: $name, sql: include_str!(concat!("sql/", $name, ".sql")), good: $good, why: $why }
    };
}

pub(super) static CHECKS: &[Check] = &[
    check!(
        "extension",
        "the database has the extension, of the version that the server has",
        "Without its SQL nothing can be stored; with the SQL of another version, calls may fail."
    ),
    check!(
        "preload",
        "the library is preloaded",
        "Only a preloaded library can define its settings safely, redact the log, and encrypt."
    ),
    check!(
        "preload-order",
        "no other library comes after integration_credentials",
        "A library that is loaded later sees statements and log messages before they are redacted."
    ),
    check!(
        "keyring",
        "the keyring can be used",
        "Without a keyring that the server can use and others cannot read, nothing is encrypted, and every call fails."
    ),
    check!(
        "keyring-place",
        "the keyring does not lie in the data directory",
        "Whoever has both a backup and its keyring can read every credential."
    ),
    check!(
        "org",
        "the org of this database is set",
        "Rows belong to the org that they were written for. Without the setting it is the database's name, and whoever \
         may rename the database moves it to another org."
    ),
    check!(
        "org-grants",
        "only superusers choose the org of a session",
        "Who may set integration_credentials.org_slug acts for any org."
    ),
    check!(
        "public",
        "PUBLIC has no privilege in the schema",
        "Whatever PUBLIC may do, every role may do that can connect."
    ),
    check!(
        "tables",
        "no role but the owner touches a table",
        "The functions check, encrypt and audit; a grant on a table goes around them."
    ),
    check!(
        "definer-functions",
        "every definer function pins its search_path",
        "A function that runs as its owner must not find what a caller put in the way of its names."
    ),
    check!(
        "groups",
        "the group roles exist",
        "Admins set and never read, readers read: who can do both can read back what others have set."
    ),
    check!(
        "bypass",
        "nobody goes around the grants but the superuser that initdb made",
        "These see the keyring, the tables, other sessions' statements or the whole cluster, whatever is granted here."
    ),
    check!(
        "role-settings",
        "no setting of a role or of this database makes its sessions loud",
        "These are on in every session of theirs. The preloaded library redacts what they write, as far as it goes into \
         the log; what goes to the client alone, it cannot."
    ),
    check!(
        "logging",
        "no setting makes the server log statements",
        "The preloaded library redacts what these write. A server that is once started without it logs every value that \
         is not sealed."
    ),
    check!(
        "log-min-messages",
        "errors are logged, and so are redacted",
        "An error that is not logged is shown to no library: its text goes to the caller as it is."
    ),
    check!(
        "lc-messages",
        "the server's messages are in English",
        "Values are sought in the server's messages, and the messages that people and tools know by their words are the \
         English ones. Another language is one more thing to be right about."
    ),
    check!(
        "literals",
        "values in the text of a statement are refused",
        "A literal has passed through poolers, history files and the caller's own logs before the server sees it."
    ),
    check!(
        "publications",
        "no publication has the tables of the extension",
        "A subscriber receives the ciphertexts and the logs of all orgs; and where it has the extension too, both sides \
         write the same rows."
    ),
    check!(
        "tls",
        "nothing crosses a network unencrypted",
        "A value that is read, and one that is set without sealing it, crosses the network as it is."
    ),
    check!(
        "ids",
        "the logs have room for their next rows",
        "Logical replication brings rows and no sequences, so that a new row gets an id that is taken, and the call fails. \
         Mend it when the subscription is gone and before anybody writes."
    ),
    check!(
        "password-encryption",
        "new passwords are hashed with SCRAM",
        "An MD5 hash is enough to log in with, and soon guessed."
    ),
    check!(
        "passwords",
        "no stored password is hashed with MD5",
        "An MD5 hash is enough to log in with, and soon guessed."
    ),
];

impl Check {
    pub fn finding(&self, verdict: Verdict, found: String) -> Finding {
        Finding { check: self.name, verdict, found, why: self.why, fix: None }
    }

    pub fn read(&self, row: &Row) -> Result<Finding, Error> {
        let unexpected = |what: &str| Error::Unexpected(format!("check {} returned {what}", self.name));
        let verdict = match column(row, 0)? {
            "ok" => Verdict::Ok,
            "advice" => Verdict::Advice,
            "problem" => Verdict::Problem,
            other => return Err(unexpected(other)),
        };
        let fix = |text: String| {
            Ok(match column(row, 2)? {
                "sql" => Fix::Sql(text),
                "reload" => Fix::Reload(text),
                "restart" => Fix::Restart(text),
                "byHand" => Fix::ByHand(text),
                other => return Err(unexpected(other)),
            })
        };
        let fix = column::<Option<String>>(row, 3)?.map(fix).transpose()?;
        Ok(Finding { fix, ..self.finding(verdict, column(row, 1)?) })
    }
}
