//! The login roles of API keys: one role for each key, so that Postgres authenticates and authorises it.

use crate::{
    Client, Error, Timestamp,
    grants::Group,
    session::{Argument, column},
    transaction::{READ_PINNED, WRITE_PINNED},
};
use serde::Serialize;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

/// Whose password is an API key. For `pg_hba.conf`.
const MCP: &str = "integration_credentials_mcp";
/// Whose calls may give a value in the clear.
const VALUES: &str = "integration_credentials_mcp_values";

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Sets and removes credentials.
    Admin,
    /// Lists the integrations.
    User,
}

impl Scope {
    const fn group(self) -> &'static str {
        match self {
            Self::Admin => Group::Admin.role(),
            Self::User => Group::Lister.role(),
        }
    }
}

/// A role to make.
#[derive(Clone, Debug)]
pub struct NewLoginKey<'a> {
    /// The name of the role.
    pub role: &'a str,
    /// The SCRAM verifier of its password.
    pub verifier: &'a str,
    /// The org that it acts for.
    pub org: &'a str,
    /// What it may do.
    pub scope: Scope,
    /// The name for people.
    pub label: &'a str,
    /// Until when it may log in.
    pub valid_until: Option<Timestamp>,
    /// Whether its calls may give a value in the clear.
    pub values: bool,
}

/// The role of a key, in this database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginKey {
    /// The name of the role.
    pub id: String,
    /// The name for people.
    pub label: Option<String>,
    /// The org that it acts for in this database.
    pub org: Option<String>,
    /// Its groups.
    pub groups: Vec<String>,
    /// Until when it may log in.
    pub valid_until: Option<Timestamp>,
    /// Whether it was revoked.
    pub is_revoked: bool,
}

impl LoginKey {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: column(row, 0)?,
            label: column(row, 1)?,
            org: column(row, 2)?,
            groups: column(row, 3)?,
            valid_until: column(row, 4)?,
            is_revoked: column(row, 5)?,
        })
    }
}

impl Client {
    /// Makes the role of a key. Needs a superuser, and the group roles.
    pub async fn add_login_key(&self, key: &NewLoginKey<'_>) -> Result<(), Error> {
        let NewLoginKey { role, verifier, org, scope, label, valid_until, values } = key;
        // CREATE ROLE takes no parameters, so the server quotes.
        let sql = "SELECT pg_catalog.format('CREATE ROLE %1$I LOGIN CONNECTION LIMIT 8 PASSWORD %2$L VALID UNTIL %3$L; \
                       GRANT %4$I, %5$I TO %1$I; \
                       ALTER ROLE %1$I IN DATABASE %6$I SET integration_credentials.org_slug = %7$L; \
                       COMMENT ON ROLE %1$I IS %8$L', \
                       $1, $2, $3, $4, $5, pg_catalog.current_database(), $6, $7)";
        let until = valid_until.map_or_else(|| "infinity".to_owned(), |moment| moment.to_string());
        let scope = scope.group();
        let texts: [&str; 7] = [role, verifier, &until, MCP, scope, org, label];
        let arguments: Vec<Argument<'_>> =
            texts.iter().map(|text| (text as &(dyn ToSql + Sync), Type::TEXT)).collect();
        let mut script: String = column(&self.0.row(READ_PINNED, sql, &arguments).await?, 0)?;
        if *values {
            let sql = "SELECT pg_catalog.format('; GRANT %I TO %I', $1, $2)";
            let arguments: [Argument<'_>; 2] = [(&VALUES as _, Type::TEXT), (role as _, Type::TEXT)];
            script.push_str(&column::<String>(&self.0.row(READ_PINNED, sql, &arguments).await?, 0)?);
        }
        self.0.batch(WRITE_PINNED, &script).await
    }

    /// The roles of keys, with what they may do in this database.
    pub async fn login_keys(&self) -> Result<Vec<LoginKey>, Error> {
        let sql = "SELECT r.rolname::text, pg_catalog.shobj_description(r.oid, 'pg_authid'), \
                       (SELECT pg_catalog.substr(e, 34) FROM pg_catalog.pg_db_role_setting AS s, pg_catalog.unnest(s.setconfig) AS e \
                        WHERE s.setrole = r.oid AND e LIKE 'integration\\_credentials.org\\_slug=%' \
                          AND s.setdatabase = (SELECT d.oid FROM pg_catalog.pg_database AS d \
                                               WHERE d.datname = pg_catalog.current_database())), \
                       ARRAY(SELECT g.rolname::text FROM pg_catalog.pg_auth_members AS m \
                             JOIN pg_catalog.pg_roles AS g ON g.oid = m.roleid \
                             WHERE m.member = r.oid ORDER BY 1), \
                       NULLIF(r.rolvaliduntil, 'infinity'), NOT r.rolcanlogin \
                   FROM pg_catalog.pg_roles AS r \
                   WHERE r.rolname LIKE 'icred\\_%' AND (NOT r.rolcanlogin OR EXISTS (\
                       SELECT FROM pg_catalog.pg_auth_members AS m WHERE m.member = r.oid \
                         AND m.roleid = pg_catalog.to_regrole('integration_credentials_mcp')::oid)) \
                   ORDER BY r.rolname";
        self.0.rows(READ_PINNED, sql, &[]).await?.iter().map(LoginKey::from_row).collect()
    }

    /// Takes a key's rights and its login, and ends its sessions. Returns whether there is such a key.
    pub async fn revoke_login_key(&self, role: &str) -> Result<bool, Error> {
        let sql = "SELECT pg_catalog.concat_ws('; ', pg_catalog.format('ALTER ROLE %I NOLOGIN PASSWORD NULL', r.rolname), \
                       (SELECT pg_catalog.string_agg(pg_catalog.format('REVOKE %I FROM %I', g.rolname, r.rolname), '; ') \
                        FROM pg_catalog.pg_auth_members AS m JOIN pg_catalog.pg_roles AS g ON g.oid = m.roleid \
                        WHERE m.member = r.oid)) \
                   FROM pg_catalog.pg_roles AS r WHERE r.rolname = $1 AND r.rolname LIKE 'icred\\_%'";
        let rows = self.0.rows(READ_PINNED, sql, &[(&role, Type::TEXT)]).await?;
        let Some(row) = rows.first() else { return Ok(false) };
        self.0.batch(WRITE_PINNED, &column::<String>(row, 0)?).await?;
        // After the commit, so that no session begins in between. Waits until each has ended.
        let sql = "SELECT pg_catalog.pg_terminate_backend(a.pid, 5000) FROM pg_catalog.pg_stat_activity AS a \
                   WHERE a.usename = $1";
        self.0.rows(READ_PINNED, sql, &[(&role, Type::NAME)]).await?;
        Ok(true)
    }
}
