//! A fresh database with the extension, and its roles.

use crate::{Cluster, Session};
use std::{env, path::PathBuf, sync::atomic::Ordering};

/// The cluster's superuser.
pub const SUPERUSER: &str = "postgres";
/// A member of the group role of admins.
pub const ADMIN: &str = "alice_admin";
/// A member of the group role of readers.
pub const READER: &str = "rita_reader";
/// A member of the group role of auditors.
pub const AUDITOR: &str = "otto_auditor";
/// May log in, and nothing else.
pub const OUTSIDER: &str = "mallory";

/// A database of a cluster. It stays as long as the cluster does.
#[derive(Clone, Debug)]
pub struct Database {
    name: String,
    socket_dir: PathBuf,
    port: u16,
}

/// `sql/roles.sql`, as it was when the version was released.
fn roles(version: Option<&str>) -> &'static str {
    match version {
        None => include_str!("../../sql/roles.sql"),
        Some("0.1.0") => include_str!("roles--0.1.0.sql"),
        Some(version) => panic!("keep the sql/roles.sql of {version} here"),
    }
}

impl Cluster {
    /// Makes a database with the extension, the grants of `sql/roles.sql`, and the login roles. The version is this one, or
    /// the released one that `EXTENSION_VERSION` names.
    pub async fn database(&self) -> Database {
        self.database_at(env::var("EXTENSION_VERSION").ok().as_deref()).await
    }

    /// The same with the extension of a version.
    pub async fn database_at(&self, version: Option<&str>) -> Database {
        let database = self.empty_database().await;
        let superuser = database.superuser().await;
        let of_version = version.map(|version| format!(" VERSION '{version}'")).unwrap_or_default();
        let create = format!("CREATE EXTENSION integration_credentials{of_version}");
        superuser.batch_execute(&create).await.expect("the extension");

        let mut has_roles = self.has_roles.lock().await;
        superuser.batch_execute(roles(version)).await.expect("roles.sql");
        if !*has_roles {
            let logins = format!(
                "CREATE ROLE {ADMIN} LOGIN IN ROLE integration_credentials_admin;
                 CREATE ROLE {READER} LOGIN IN ROLE integration_credentials_reader;
                 CREATE ROLE {AUDITOR} LOGIN IN ROLE integration_credentials_auditor;
                 CREATE ROLE {OUTSIDER} LOGIN;"
            );
            superuser.batch_execute(&logins).await.expect("the login roles");
            *has_roles = true;
        }
        database
    }

    /// Makes a database with nothing in it, e.g. to restore a dump into.
    pub async fn empty_database(&self) -> Database {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let database = self.named_database(&format!("test_{number}"));
        let superuser = self.named_database("postgres").superuser().await;
        // Nobody is ever connected to this template, nor is autovacuum.
        let create = format!("CREATE DATABASE {} TEMPLATE template0", database.name);
        superuser.batch_execute(&create).await.expect("a database");
        database
    }

    /// A database that exists already, e.g. one restored by `pg_dump --create`.
    #[must_use]
    pub fn named_database(&self, name: &str) -> Database {
        Database { name: name.into(), socket_dir: self.dir.clone(), port: self.port }
    }
}

impl Database {
    /// Its name, which is its org too unless [`Self::set_org`] says otherwise.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How `role` connects, over the socket.
    #[must_use]
    pub fn dsn(&self, role: &str) -> String {
        let Self { name, socket_dir, port } = self;
        format!("host='{}' port={port} dbname={name} user={role}", socket_dir.display())
    }

    /// How `role` connects over TCP, to a cluster started with [`crate::Builder::tcp`].
    #[must_use]
    pub fn tcp_dsn(&self, role: &str) -> String {
        let Self { name, port, .. } = self;
        format!("host=127.0.0.1 port={port} dbname={name} user={role}")
    }

    /// The file of the socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket_dir.join(format!(".s.PGSQL.{}", self.port))
    }

    /// Connects as `role`.
    pub async fn connect(&self, role: &str) -> Session {
        Session::open(&self.dsn(role)).await
    }

    /// Connects as the superuser.
    pub async fn superuser(&self) -> Session {
        self.connect(SUPERUSER).await
    }

    /// Sets the org of the whole database, for sessions to come.
    pub async fn set_org(&self, org: &str) {
        self.alter("ALTER DATABASE %1$I SET integration_credentials.org_slug = %3$L", "", org).await;
    }

    /// Sets the org of a role in this database, for sessions to come.
    pub async fn set_role_org(&self, role: &str, org: &str) {
        let format = "ALTER ROLE %2$I IN DATABASE %1$I SET integration_credentials.org_slug = %3$L";
        self.alter(format, role, org).await;
    }

    /// ALTER takes no parameters, so Postgres itself quotes them.
    async fn alter(&self, format: &str, role: &str, org: &str) {
        let superuser = self.superuser().await;
        let quoted = superuser
            .query_one("SELECT format($1, $2::text, $3::text, $4::text)", &[&format, &self.name, &role, &org])
            .await
            .expect("format()");
        superuser.batch_execute(quoted.get(0)).await.expect("the org is set");
    }
}
