//! A database with functions of somebody's own in it, to be validators and sync handlers.

use crate::helpers::calls::{ANY, register, set};
use integration_credentials_core::error::ErrorCode;
use serde_json::{Value, json};
use tests::{ADMIN, Canary, Cluster, Database, Session, assert_error};
use tokio::time::{Duration, sleep, timeout};
use tokio_postgres::{Error, types::ToSql};

/// A database with the integration [`ANY`] and a schema `app` for somebody's functions.
pub struct Fixture {
    pub database: Database,
    pub superuser: Session,
    pub admin: Session,
    /// The owner of `app`, with no other right. Named after the database, as roles are the whole cluster's.
    pub owner: String,
}

impl Fixture {
    pub async fn new() -> Self {
        Self::within(Cluster::shared()).await
    }

    pub async fn within(cluster: &Cluster) -> Self {
        let database = cluster.database().await;
        let (superuser, admin) = (database.superuser().await, database.connect(ADMIN).await);
        let owner = format!("{}_owner", database.name());
        let script = format!("CREATE ROLE {owner}; CREATE SCHEMA app AUTHORIZATION {owner}");
        superuser.batch_execute(&script).await.unwrap();
        register(&admin, ANY, json!({})).await.unwrap();
        Self { database, superuser, admin, owner }
    }

    /// With a validator for [`ANY`].
    pub async fn with_validator(body: &str) -> Self {
        let fixture = Self::new().await;
        fixture.validator(body).await;
        fixture
    }

    /// Runs a script as the owner of `app`.
    pub async fn as_owner(&self, script: &str) {
        let script = format!("SET ROLE {}; {script}; RESET ROLE", self.owner);
        self.superuser.batch_execute(&script).await.unwrap_or_else(|error| panic!("{script}: {error:?}"));
    }

    /// Makes these PL/pgSQL statements the validator of [`ANY`].
    pub async fn validator(&self, body: &str) {
        self.as_owner(&format!("CREATE OR REPLACE FUNCTION {}", plpgsql(CHECK, body))).await;
        self.register("validator", &[&ANY, &"app.check(text)"]).await.unwrap();
    }

    /// `register_validator` or `register_sync_handler`, as the superuser.
    pub async fn register(&self, what: &str, arguments: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
        let numbers: Vec<_> = (1..=arguments.len()).map(|number| format!("${number}")).collect();
        let statement = format!("SELECT integration_credentials.register_{what}({})", numbers.join(", "));
        self.superuser.execute(&statement, arguments).await
    }

    /// Everything that a call can change, as text.
    pub async fn state(&self) -> String {
        let rows =
            |table| format!("SELECT '{table} ' || t::text AS row FROM integration_credentials.{table} t");
        let tables = [
            "configured_integrations",
            "aggregator_credentials",
            "webapp_org_admin_audit_log",
            "tool_metering",
        ];
        let statement = format!(
            "SELECT coalesce(string_agg(row, ' ' ORDER BY row), '') FROM ({}) t",
            tables.map(rows).join(" UNION ALL ")
        );
        self.superuser.query_one(&statement, &[]).await.unwrap().get(0)
    }

    /// The metadata of the audit rows of an action.
    pub async fn audited(&self, action: &str) -> Vec<Value> {
        let statement = "SELECT metadata FROM integration_credentials.webapp_org_admin_audit_log
                         WHERE action = $1 ORDER BY id";
        let rows = self.superuser.query(statement, &[&action]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// A session that hears of every change, and of an earlier change that the worker has still to send.
    pub async fn listener(&self) -> Session {
        let listener = self.database.superuser().await;
        listener.batch_execute("LISTEN integration_credentials; LISTEN app").await.unwrap();
        listener
    }

    /// The session of a role that acts for `org`.
    pub async fn connect_as(&self, role: &str, org: &str) -> Session {
        self.database.set_role_org(role, org).await;
        self.database.connect(role).await
    }

    /// A set call that is cancelled in a function that sleeps.
    pub async fn set_and_cancel(&self, value: &str) -> Result<Value, Error> {
        let pid = self.admin.pid().await;
        let cancel = async {
            until(&self.superuser, ASLEEP).await;
            // Signals once, and before it returns. A cancel by the protocol does neither.
            self.superuser.execute("SELECT pg_cancel_backend($1)", &[&pid]).await.unwrap();
        };
        tokio::join!(set(&self.admin, ANY, value), cancel).0
    }

    /// Refused, and nothing is changed or shown.
    pub async fn assert_refused(&self, canary: &Canary) -> String {
        let before = self.state().await;
        let error = assert_error(set(&self.admin, ANY, canary.as_str()).await, ErrorCode::InvalidCredentials);
        assert_eq!(self.state().await, before);
        canary.assert_absent(&error);
        error.message().to_owned()
    }
}

/// The declaration of a validator.
pub const CHECK: &str = "app.check(value text) RETURNS text";

/// A function of PL/pgSQL.
pub fn plpgsql(declaration: &str, body: &str) -> String {
    format!("{declaration} LANGUAGE plpgsql AS $body$ BEGIN {body}; END $body$")
}

/// So many payloads, and what comes right after them. What the worker sends comes a while after its commit.
pub async fn heard(listener: &mut Session, expected: usize) -> Vec<String> {
    let mut notifications = Vec::new();
    while notifications.len() < expected {
        notifications.push(listener.next_notification().await);
    }
    // What was sent before this statement is here when it returns.
    listener.batch_execute("SELECT pg_sleep(0.2)").await.unwrap();
    notifications.extend(listener.notifications());
    notifications.iter().map(|notification| notification.payload().to_owned()).collect()
}

/// A session of the database waits for a lock.
pub const WAITING: &str =
    "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// A session of the database is in `pg_sleep`.
pub const ASLEEP: &str =
    "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";

/// Waits until a query has a row.
pub async fn until(session: &Session, query: &str) {
    let wait = async {
        while session.query(query, &[]).await.unwrap().is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| panic!("waited in vain: {query}"));
}

/// The SQLSTATE of a call that failed.
#[track_caller]
pub fn sqlstate<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().code().expect("an answer of the server").code().to_owned()
}

/// The server's log does not show it either.
#[track_caller]
pub fn assert_unlogged(canary: &Canary) {
    assert!(canary.find(Cluster::shared().log().as_bytes()).is_empty());
}

/// A database of the shared cluster, and an admin in it.
pub async fn admin() -> (Database, Session) {
    let database = Cluster::shared().database().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    (database, admin)
}
