//! The connection keywords of libpq, from PostgreSQL 15 to 18, each with the variable that stands in for it.

use Support::{Harmless, OnlyAt, Used};

/// What becomes of a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Support {
    /// It has its effect.
    Used,
    /// Whatever it says, this client has no use for it, and the connection is as good.
    Harmless,
    /// It may be empty or one of these, which ask for nothing that this client lacks. Another value would be left out
    /// unseen, and is an error.
    OnlyAt(&'static [&'static str]),
}

/// A keyword, its environment variable, and what becomes of it.
pub(super) struct Keyword {
    pub name: &'static str,
    pub variable: Option<&'static str>,
    pub support: Support,
}

const fn keyword(name: &'static str, variable: &'static str, support: Support) -> Keyword {
    Keyword { name, variable: Some(variable), support }
}

const fn without_variable(name: &'static str, support: Support) -> Keyword {
    Keyword { name, variable: None, support }
}

pub(super) static KEYWORDS: [Keyword; 52] = [
    keyword("application_name", "PGAPPNAME", Used),
    keyword("channel_binding", "PGCHANNELBINDING", Used),
    keyword("connect_timeout", "PGCONNECT_TIMEOUT", Used),
    keyword("dbname", "PGDATABASE", Used),
    keyword("host", "PGHOST", Used),
    keyword("hostaddr", "PGHOSTADDR", Used),
    keyword("load_balance_hosts", "PGLOADBALANCEHOSTS", Used),
    keyword("options", "PGOPTIONS", Used),
    keyword("passfile", "PGPASSFILE", Used),
    keyword("password", "PGPASSWORD", Used),
    keyword("port", "PGPORT", Used),
    keyword("requirepeer", "PGREQUIREPEER", Used),
    // What sslmode was before it had more than two values: 1 is require. Before it here, so that the newer one wins.
    keyword("requiressl", "PGREQUIRESSL", Used),
    keyword("service", "PGSERVICE", Used),
    keyword("servicefile", "PGSERVICEFILE", Used),
    keyword("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", Used),
    keyword("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", Used),
    keyword("sslcert", "PGSSLCERT", Used),
    keyword("sslcertmode", "PGSSLCERTMODE", Used),
    keyword("sslcrl", "PGSSLCRL", Used),
    keyword("sslcrldir", "PGSSLCRLDIR", Used),
    keyword("sslkey", "PGSSLKEY", Used),
    keyword("sslmode", "PGSSLMODE", Used),
    keyword("sslnegotiation", "PGSSLNEGOTIATION", Used),
    keyword("sslrootcert", "PGSSLROOTCERT", Used),
    keyword("sslsni", "PGSSLSNI", Used),
    keyword("target_session_attrs", "PGTARGETSESSIONATTRS", Used),
    keyword("user", "PGUSER", Used),
    without_variable("fallback_application_name", Used),
    without_variable("keepalives", Used),
    without_variable("keepalives_count", Used),
    without_variable("keepalives_idle", Used),
    without_variable("keepalives_interval", Used),
    without_variable("sslpassword", Used),
    without_variable("tcp_user_timeout", Used),
    // The protocol of this client is always UTF-8, nobody's OpenSSL compresses, and there is no Kerberos in it.
    keyword("client_encoding", "PGCLIENTENCODING", Harmless),
    keyword("gssdelegation", "PGGSSDELEGATION", Harmless),
    keyword("gsslib", "PGGSSLIB", Harmless),
    keyword("krbsrvname", "PGKRBSRVNAME", Harmless),
    keyword("sslcompression", "PGSSLCOMPRESSION", Harmless),
    keyword("gssencmode", "PGGSSENCMODE", OnlyAt(&["disable", "prefer"])),
    keyword("max_protocol_version", "PGMAXPROTOCOLVERSION", OnlyAt(&["3.0", "3.2", "latest"])),
    keyword("min_protocol_version", "PGMINPROTOCOLVERSION", OnlyAt(&["3.0"])),
    keyword("require_auth", "PGREQUIREAUTH", OnlyAt(&[])),
    without_variable("replication", OnlyAt(&["false", "off", "no", "0"])),
    keyword("sslkeylogfile", "PGSSLKEYLOGFILE", OnlyAt(&[])),
    without_variable("scram_client_key", OnlyAt(&[])),
    without_variable("scram_server_key", OnlyAt(&[])),
    without_variable("oauth_issuer", OnlyAt(&[])),
    without_variable("oauth_client_id", OnlyAt(&[])),
    without_variable("oauth_client_secret", OnlyAt(&[])),
    without_variable("oauth_scope", OnlyAt(&[])),
];

pub(super) fn find(name: &str) -> Option<&'static Keyword> {
    KEYWORDS.iter().find(|keyword| keyword.name == name)
}
