//! The first call of a session, which a session of a pooler in transaction mode or of a serverless client may have no
//! second of.

use super::PLPGSQL;
use crate::{
    comparison::{Comparison, compare},
    effort::Effort,
    side::{First, Side},
    stage,
    table::Row,
};
use tests::{ADMIN, Cluster, Database, READER};

/// A set, and a get.
pub async fn first(effort: &Effort, cluster: &Cluster, database: &Database) -> Vec<Row> {
    let mut rows = Vec::new();
    for (measure, role, value, functions) in [
        (
            "first set of a session",
            ADMIN,
            Some(stage::value(64)),
            [
                "SELECT integration_credentials.admin_set_integration_credentials($1, $2, 'bench')",
                "SELECT plain.set_credential($1, $2, 'bench')",
            ],
        ),
        (
            "first get of a session",
            READER,
            None,
            [
                "SELECT integration_credentials.get_integration_credentials($1)",
                "SELECT plain.get_credential($1)",
            ],
        ),
    ] {
        let sides =
            functions.map(|sql| Side::First(First { cluster, database, role, sql, value: value.clone() }));
        rows.extend(
            compare(effort, &sides, vec![Comparison::of(measure, PLPGSQL, [0, 1]).at_least(1.0)]).await,
        );
    }
    rows
}
