//! The group roles. The extension does not create them, because roles belong to the whole cluster.

use crate::{
    Client, Error,
    session::column,
    transaction::{READ, WRITE},
};
use tokio_postgres::types::Type;

/// A group role. Members get its grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// May set and remove credentials and edit the catalog; may not read a credential.
    Admin,
    /// May read credentials.
    Reader,
    /// May read the audit log.
    Auditor,
    /// May list the integrations, and nothing else.
    Lister,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Admin, Self::Reader, Self::Auditor, Self::Lister];

    /// The name of the role.
    #[must_use]
    pub const fn role(self) -> &'static str {
        match self {
            Self::Admin => "integration_credentials_admin",
            Self::Reader => "integration_credentials_reader",
            Self::Auditor => "integration_credentials_auditor",
            Self::Lister => "integration_credentials_lister",
        }
    }
}

impl Client {
    /// Creates the group roles and their grants, by `sql/roles.sql`. Needs a superuser. Idempotent.
    pub async fn create_group_roles(&self) -> Result<(), Error> {
        let made = self.0.script(include_str!("../../sql/roles.sql")).await;
        if made.is_err() {
            // The script begins a transaction. An error here would only hide that of the script.
            let _ = self.0.script("ROLLBACK").await;
        }
        made
    }

    /// Makes `role` a member of the group. Idempotent.
    pub async fn grant_membership(&self, role: &str, group: Group) -> Result<(), Error> {
        // GRANT takes no parameters, so the server quotes the names.
        let sql = "SELECT pg_catalog.format('GRANT %I TO %I', $1, $2)";
        let row = self.0.row(READ, sql, &[(&group.role(), Type::TEXT), (&role, Type::TEXT)]).await?;
        self.0.batch(WRITE, &column::<String>(&row, 0)?).await
    }
}
