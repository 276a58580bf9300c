//! The checks: a name, a query, and the reason.
//!
//! A query returns rows of verdict (`ok`, `advice`, `problem`), finding, kind of the fix (`sql`, `reload`,
//! `restart`, `byHand`, or NULL) and fix; no row means ok. Where the role lacks a privilege, Postgres refuses
//! the query.

use super::finding::{Finding, Fix, Verdict};
use crate::{Error, session::column};
use tokio_postgres::Row;

pub(super) struct Check {
    pub name: &'static str,
    pub sql: &'static str,
    /// The finding if the query returns no row.
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
        "Without the extension, nothing can be stored; with the SQL of another version, calls may fail."
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
        "the keyring is outside the data directory",
        "A backup together with its keyring reveals every credential."
    ),
    check!(
        "missing-keys",
        "the keyring has every key that the credentials need",
        "A credential whose key is missing cannot be read, and is lost if no copy of the key is left."
    ),
    check!(
        "unneeded-keys",
        "the keyring has no key that nothing needs",
        "A key that is retired cannot leak. `intcred keyring retire` moves it to an archive, because older backups need it."
    ),
    check!(
        "org",
        "the org of this database is set",
        "Unset, the org is the name of the database. Renaming or copying the database then changes the org, and \
         credentials are not found until org_slug is set to the old name."
    ),
    check!(
        "org-grants",
        "only superusers choose the org of a session",
        "A role that may set integration_credentials.org_slug acts for any org."
    ),
    check!(
        "public",
        "PUBLIC has no privilege in the schema",
        "Every role that can connect has the privileges of PUBLIC."
    ),
    check!(
        "tables",
        "no role but the owner touches a table",
        "The functions check, encrypt and audit; a grant on a table bypasses them."
    ),
    check!(
        "definer-functions",
        "every definer function pins its search_path",
        "A function that runs as its owner must not resolve a name to an object of the caller."
    ),
    check!(
        "groups",
        "the group roles exist",
        "Admins set and cannot read, readers read. A role that can do both reads the credentials that others set."
    ),
    check!(
        "bypass",
        "no role but the superuser of initdb bypasses the grants",
        "These roles read the keyring, the tables, other sessions' statements or the whole cluster, whatever the grants."
    ),
    check!(
        "role-settings",
        "no setting of a role or of this database makes its sessions log statements",
        "These settings apply to each of their sessions. The preloaded library redacts the log, but not the messages that \
         go only to the client."
    ),
    check!(
        "logging",
        "no setting makes the server log statements",
        "The preloaded library redacts what these settings log. Started once without the library, the server logs every \
         value that is not sealed."
    ),
    check!(
        "log-min-messages",
        "errors are logged, and therefore redacted",
        "A library sees an error only if the error is logged. Otherwise the error goes to the caller unredacted."
    ),
    check!(
        "lc-messages",
        "the server's messages are in English",
        "The library redacts values in the server's messages, and is tested with the English ones. Log tools also match \
         English messages."
    ),
    check!(
        "literals",
        "values in the text of a statement are refused",
        "A literal passes through poolers, history files and the client's logs before the server can redact it."
    ),
    check!(
        "expiry",
        "no credential expires within a week",
        "The vendor refuses a credential that has expired."
    ),
    check!(
        "rotations",
        "no rotation waits for longer than a day",
        "While a consumer has the old value, it cannot be revoked."
    ),
    check!(
        "publications",
        "no publication has the tables of the extension",
        "A subscriber gets the ciphertexts and the logs of all orgs. If the subscriber has the extension too, both sides \
         write the same rows."
    ),
    check!(
        "tls",
        "nothing crosses a network unencrypted",
        "A value that is read, or set without sealing, crosses the network in plain text."
    ),
    check!(
        "ids",
        "the logs have room for their next rows",
        "Logical replication copies rows and no sequences, so a new row gets an id that is taken, and the call fails. Run \
         the fix after dropping the subscription, and before the first write."
    ),
    check!(
        "audit",
        "the audit log is in signed blocks",
        "The server signs within seconds of a change, if it has a keyring and a free worker. Until then, nothing proves a \
         row. After a restore, the server signs from the next change on."
    ),
    check!(
        "password-encryption",
        "new passwords are hashed with SCRAM",
        "An MD5 hash suffices to log in, and is fast to crack."
    ),
    check!(
        "passwords",
        "no stored password is hashed with MD5",
        "An MD5 hash suffices to log in, and is fast to crack."
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
