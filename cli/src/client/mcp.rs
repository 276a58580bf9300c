//! What only the MCP server asks: who the session is, what it may do, and answers in pages.

use super::Client;
use crate::{
    AuditEntry, Description, Error, Integration,
    session::column,
    transaction::{READ, READ_PINNED},
};
use tokio_postgres::types::{ToSql, Type};

/// Who a session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The session role.
    pub role: String,
    /// The org.
    pub org: String,
    /// Whether the org is a setting of the role. An org of the database's could be somebody else's.
    pub org_is_of_role: bool,
    /// The comment on the role.
    pub label: Option<String>,
}

/// What a session may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Whether the session may execute each of the functions that were asked for.
    pub functions: Vec<bool>,
    /// Whether the session may read the audit log.
    pub audit_log: bool,
    /// Whether the role is a member of the group that may give a value in the clear.
    pub values: bool,
}

/// A part of the list of integrations.
#[derive(Clone, Copy, Debug)]
pub struct IntegrationPage<'a> {
    /// Only these keys.
    pub keys: Option<&'a [String]>,
    /// Only keys after this one.
    pub after: Option<&'a str>,
    /// At most so many.
    pub limit: u32,
}

impl Client {
    /// Who the session is.
    pub async fn identity(&self) -> Result<Identity, Error> {
        // As current_org(), which a role without any grant may not call.
        let sql = "SELECT session_user::pg_catalog.text, \
                       coalesce(NULLIF(pg_catalog.current_setting('integration_credentials.org_slug', true), ''), \
                                pg_catalog.current_database()::pg_catalog.text), \
                       coalesce((SELECT s.source IN ('user', 'database user') FROM pg_catalog.pg_settings AS s \
                                 WHERE s.name = 'integration_credentials.org_slug'), false), \
                       pg_catalog.shobj_description(r.oid, 'pg_authid') \
                   FROM pg_catalog.pg_roles AS r WHERE r.rolname = session_user";
        let row = self.0.row(READ_PINNED, sql, &[]).await?;
        Ok(Identity {
            role: column(&row, 0)?,
            org: column(&row, 1)?,
            org_is_of_role: column(&row, 2)?,
            label: column(&row, 3)?,
        })
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// One round trip, which fails if the server has ended the session.
    pub async fn ping(&self) -> Result<(), Error> {
        self.0.script("").await
    }

    /// What the session may do. The functions are signatures, such as `integration_credentials.sealing_key()`.
    pub async fn rights(&self, functions: &[&str]) -> Result<Rights, Error> {
        // A role without USAGE on the schema may not even resolve the names.
        let sql = "SELECT pg_catalog.array_agg(coalesce(CASE WHEN u.usage THEN pg_catalog.has_function_privilege(\
                           pg_catalog.to_regprocedure(f.signature)::pg_catalog.oid, 'EXECUTE') END, false) \
                           ORDER BY f.position), \
                       coalesce((SELECT pg_catalog.has_table_privilege(c.oid, 'SELECT') FROM pg_catalog.pg_class AS c \
                           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
                           WHERE u.usage AND n.nspname = 'integration_credentials' AND c.relname = 'audit_log'), false), \
                       coalesce((SELECT pg_catalog.pg_has_role(r.oid, pg_catalog.to_regrole(\
                               'integration_credentials_mcp_values')::pg_catalog.oid, 'MEMBER') \
                           FROM pg_catalog.pg_roles AS r WHERE r.rolname = session_user AND NOT r.rolsuper), false) \
                   FROM (SELECT pg_catalog.has_schema_privilege('integration_credentials', 'USAGE')) AS u (usage), \
                       pg_catalog.unnest($1) WITH ORDINALITY AS f (signature, position) \
                   GROUP BY u.usage";
        let row = self.0.row(READ_PINNED, sql, &[(&functions, Type::TEXT_ARRAY)]).await?;
        Ok(Rights { functions: column(&row, 0)?, audit_log: column(&row, 1)?, values: column(&row, 2)? })
    }

    /// A page of the integrations, in the order of the keys.
    pub async fn list_page(&self, page: IntegrationPage<'_>) -> Result<Vec<Integration>, Error> {
        let IntegrationPage { keys, after, limit } = page;
        let limit = i64::from(limit);
        let sql = "SELECT l.* FROM integration_credentials.list_integrations() AS l \
                   WHERE $1 IS NULL OR l.key OPERATOR(pg_catalog.>) $1 ORDER BY l.key USING OPERATOR(pg_catalog.<) \
                   LIMIT $2";
        let of_keys = "SELECT l.* FROM integration_credentials.list_integrations($3) AS l \
                   WHERE $1 IS NULL OR l.key OPERATOR(pg_catalog.>) $1 ORDER BY l.key USING OPERATOR(pg_catalog.<) \
                   LIMIT $2";
        let mut arguments: Vec<(&(dyn ToSql + Sync), Type)> =
            vec![(&after, Type::TEXT), (&limit, Type::INT8)];
        let rows = match &keys {
            None => self.0.rows(READ, sql, &arguments).await?,
            Some(keys) => {
                arguments.push((keys, Type::TEXT_ARRAY));
                self.0.rows(READ, of_keys, &arguments).await?
            }
        };
        rows.iter().map(|row| Integration::from_row(row, 0)).collect()
    }

    /// The integration of a key, if the catalog has it.
    pub async fn find_integration(&self, key: &str) -> Result<Option<Integration>, Error> {
        let keys = [key.to_owned()];
        let page = IntegrationPage { keys: Some(&keys), after: None, limit: 1 };
        Ok(self.list_page(page).await?.pop())
    }

    /// Rules, documents and examples of these integrations.
    pub async fn describe_keys(&self, keys: &[&str]) -> Result<Vec<Description>, Error> {
        let sql = "SELECT d.* FROM integration_credentials.describe_integrations() AS d \
                   WHERE d.key OPERATOR(pg_catalog.=) ANY ($1)";
        let rows = self.0.rows(READ, sql, &[(&keys, Type::TEXT_ARRAY)]).await?;
        rows.iter().map(Description::from_row).collect()
    }

    /// At most `limit` rows of the org's audit log before the row `before`, newest first.
    pub async fn audit_page(&self, limit: u32, before: Option<i64>) -> Result<Vec<AuditEntry>, Error> {
        let sql = "SELECT a.id, a.org_slug, a.actor, a.session_role, a.acting_role, a.action, a.target_type, \
                       a.target_id, a.metadata, a.created_at \
                   FROM integration_credentials.audit_log AS a \
                   WHERE $2 IS NULL OR a.id OPERATOR(pg_catalog.<) $2 ORDER BY a.id DESC LIMIT $1";
        let limit = i64::from(limit);
        let rows = self.0.rows(READ, sql, &[(&limit, Type::INT8), (&before, Type::INT8)]).await?;
        rows.iter().map(|row| AuditEntry::from_row(row, 0)).collect()
    }
}
