//! The connection keywords of libpq, from PostgreSQL 15 to 18, with their environment variables.

use Support::{Harmless, OnlyAt, Used};

/// How this client treats a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Support {
    /// The keyword has its effect.
    Used,
    /// The keyword has no effect here, and no value of it weakens the connection.
    Harmless,
    /// Only an empty value or one of these is accepted. Another value needs support that this client lacks,
    /// and is an error.
    OnlyAt(&'static [&'static str]),
}

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
    // The older sslmode: 1 is require. Stands before sslmode, so that sslmode overrides it.
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
    // This client always uses UTF-8 and has no Kerberos, and OpenSSL no longer compresses.
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
