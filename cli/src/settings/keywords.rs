//! The connection keywords of libpq, each with the variable that stands in for it.

use Support::{Ignored, Unsupported, Used};

/// What becomes of a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Support {
    /// It has its effect.
    Used,
    /// Without it the connection is as good; this client has no use for it.
    Ignored,
    /// Leaving it out unseen could weaken or change the connection, so it is an error.
    Unsupported,
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

pub(super) static KEYWORDS: [Keyword; 46] = [
    keyword("application_name", "PGAPPNAME", Used),
    keyword("channel_binding", "PGCHANNELBINDING", Used),
    keyword("connect_timeout", "PGCONNECT_TIMEOUT", Used),
    keyword("dbname", "PGDATABASE", Used),
    keyword("host", "PGHOST", Used),
    keyword("hostaddr", "PGHOSTADDR", Used),
    keyword("options", "PGOPTIONS", Used),
    keyword("passfile", "PGPASSFILE", Used),
    keyword("password", "PGPASSWORD", Used),
    keyword("port", "PGPORT", Used),
    keyword("service", "PGSERVICE", Used),
    keyword("sslcert", "PGSSLCERT", Used),
    keyword("sslkey", "PGSSLKEY", Used),
    keyword("sslmode", "PGSSLMODE", Used),
    keyword("sslrootcert", "PGSSLROOTCERT", Used),
    keyword("target_session_attrs", "PGTARGETSESSIONATTRS", Used),
    keyword("user", "PGUSER", Used),
    without_variable("fallback_application_name", Used),
    without_variable("keepalives", Used),
    without_variable("keepalives_count", Used),
    without_variable("keepalives_idle", Used),
    without_variable("keepalives_interval", Used),
    without_variable("tcp_user_timeout", Used),
    // The protocol of this client is always UTF-8, and there is no Kerberos in it.
    keyword("client_encoding", "PGCLIENTENCODING", Ignored),
    keyword("gssdelegation", "PGGSSDELEGATION", Ignored),
    keyword("gsslib", "PGGSSLIB", Ignored),
    keyword("krbsrvname", "PGKRBSRVNAME", Ignored),
    keyword("sslcompression", "PGSSLCOMPRESSION", Ignored),
    keyword("gssencmode", "PGGSSENCMODE", Ignored),
    without_variable("scram_client_key", Unsupported),
    without_variable("scram_server_key", Unsupported),
    keyword("load_balance_hosts", "PGLOADBALANCEHOSTS", Unsupported),
    keyword("max_protocol_version", "PGMAXPROTOCOLVERSION", Unsupported),
    keyword("min_protocol_version", "PGMINPROTOCOLVERSION", Unsupported),
    keyword("require_auth", "PGREQUIREAUTH", Unsupported),
    keyword("requirepeer", "PGREQUIREPEER", Unsupported),
    keyword("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", Unsupported),
    keyword("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", Unsupported),
    keyword("sslcertmode", "PGSSLCERTMODE", Unsupported),
    keyword("sslcrl", "PGSSLCRL", Unsupported),
    keyword("sslcrldir", "PGSSLCRLDIR", Unsupported),
    keyword("sslnegotiation", "PGSSLNEGOTIATION", Unsupported),
    keyword("sslsni", "PGSSLSNI", Unsupported),
    without_variable("replication", Unsupported),
    without_variable("sslpassword", Unsupported),
    without_variable("oauth_issuer", Unsupported),
];

pub(super) fn find(name: &str) -> Option<&'static Keyword> {
    KEYWORDS.iter().find(|keyword| keyword.name == name)
}
