//! The calls, as a client makes them: with bound parameters.

use base64::{Engine, engine::general_purpose::STANDARD};
use integration_credentials_core::seal::{self, SealingKey, Terms};
use serde_json::Value;
use tests::Session;
use tokio_postgres::{Error, types::ToSql};

/// An integration that takes any value.
pub const ANY: &str = "any";

/// `admin_set_integration_credentials`
pub async fn set(session: &Session, key: &str, value: &str) -> Result<Value, Error> {
    set_raw(session, Some(key), Some(value), Some("actor")).await
}

/// The same, with what only a test would pass.
pub async fn set_raw(
    session: &Session,
    key: Option<&str>,
    value: Option<&str>,
    actor: Option<&str>,
) -> Result<Value, Error> {
    call(session, "admin_set_integration_credentials($1, $2, $3)", &[&key, &value, &actor]).await
}

/// `admin_remove_integration_credentials`
pub async fn remove(session: &Session, key: &str) -> Result<Value, Error> {
    call(session, "admin_remove_integration_credentials($1, 'actor')", &[&key]).await
}

/// `admin_set_integration_enabled`
pub async fn enable(session: &Session, key: &str, enabled: bool) -> Result<Value, Error> {
    call(session, "admin_set_integration_enabled($1, $2, 'actor')", &[&key, &enabled]).await
}

/// `admin_register_integration`
pub async fn register(session: &Session, key: &str, rules: Value) -> Result<Value, Error> {
    call(session, "admin_register_integration($1, $1, 'actor', $2)", &[&key, &rules]).await
}

/// `get_integration_credentials`
pub async fn get(session: &Session, key: &str) -> Result<String, Error> {
    let statement = "SELECT integration_credentials.get_integration_credentials($1)";
    session.query_one(statement, &[&key]).await.map(|row| row.get(0))
}

async fn call(
    session: &Session,
    function: &str,
    parameters: &[&(dyn ToSql + std::marker::Sync)],
) -> Result<Value, Error> {
    let statement = format!("SELECT integration_credentials.{function}");
    session.query_one(&statement, parameters).await.map(|row| row.get(0))
}

/// The revision of a key in the session's org, as `list_integrations` shows it.
pub async fn revision(session: &Session, key: &str) -> i64 {
    let statement = "SELECT revision FROM integration_credentials.list_integrations() WHERE key = $1";
    session.query_one(statement, &[&key]).await.expect("the key is in the catalog").get(0)
}

/// How many rows a table of the extension has, as the superuser sees it.
pub async fn count(superuser: &Session, table: &str) -> i64 {
    let statement = format!("SELECT count(*) FROM integration_credentials.{table}");
    superuser.query_one(&statement, &[]).await.expect("a table").get(0)
}

/// What `sealing_key()` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealTo {
    pub key: SealingKey,
    pub org: String,
    pub role: String,
    pub issued_at: u64,
}

impl SealTo {
    pub async fn ask(session: &Session) -> Self {
        let row = session.query_one("SELECT integration_credentials.sealing_key()", &[]).await.unwrap();
        Self::parse(&row.get(0))
    }

    pub fn parse(answer: &Value) -> Self {
        assert_eq!(answer["form"], 2);
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        let public = STANDARD.decode(text("publicKey")).unwrap().try_into().unwrap();
        let key = SealingKey { id: text("keyId"), public };
        Self { key, org: text("org"), role: text("role"), issued_at: answer["issuedAt"].as_u64().unwrap() }
    }

    pub fn seal(&self, key: &str, value: &str) -> Vec<u8> {
        let terms = Terms { org: &self.org, key, role: &self.role };
        seal::seal(&self.key, terms, self.issued_at, value).unwrap()
    }
}

/// `admin_set_integration_credentials_sealed`
pub async fn set_sealed(session: &Session, key: &str, sealed: &[u8]) -> Result<Value, Error> {
    call(session, "admin_set_integration_credentials_sealed($1, $2, 'actor')", &[&key, &sealed]).await
}

/// `record_tool_failure` of a set call
pub async fn record_failure(
    session: &Session,
    outcome: &str,
    parameters: &str,
) -> Result<(), tokio_postgres::Error> {
    let statement = "SELECT integration_credentials.record_tool_failure(
        'admin_set_integration_credentials', $1, $2, 1.5)";
    session.execute(statement, &[&outcome, &parameters]).await.map(drop)
}

/// The call as a statement.
pub const GET: &str = "SELECT integration_credentials.get_integration_credentials($1)";

/// The call as a statement.
pub const SET: &str =
    "SELECT integration_credentials.admin_set_integration_credentials($1, 'new-value', 'actor')";

/// The call as a statement.
pub const GET_ALL: &str = "SELECT key FROM integration_credentials.get_all_integration_credentials()";

/// The call as a statement.
pub const GET_WITH_REVISION: &str =
    "SELECT value FROM integration_credentials.get_integration_credentials_with_revision($1)";

/// The call as a statement.
pub const GET_AGGREGATOR: &str = "SELECT integration_credentials.get_aggregator_credentials($1)";

/// The call as a statement.
pub const GET_IN_ALL: &str =
    "SELECT FROM integration_credentials.get_all_integration_credentials() WHERE key = $1";

/// The SQLSTATE that a read of the key meets.
pub async fn refusal(session: &Session) -> Option<String> {
    get(session, ANY).await.err().map(|error| error.code().unwrap().code().to_owned())
}
