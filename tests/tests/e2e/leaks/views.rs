//! What an operator sees: every view of the catalog and of `pg_stat_statements`.

use super::evidence::{Channel, Evidence};
use tests::Session;

/// Looks at all of them at once.
pub struct Views<'a> {
    operator: &'a Session,
    evidence: &'a Evidence,
    all: String,
}

impl<'a> Views<'a> {
    pub async fn new(operator: &'a Session, evidence: &'a Evidence) -> Self {
        // The time zones are hundreds of files, and a machine may have no NUMA, which is an error.
        let all = "SELECT string_agg(format('SELECT %L || v::text FROM %s v', relname || ' ', oid::regclass), ' UNION ALL ')
                   FROM pg_class
                   WHERE relkind = 'v' AND relname LIKE 'pg\\_%' AND relname NOT LIKE 'pg\\_timezone%'
                       AND relname NOT LIKE '%\\_numa'";
        let all = operator.query_one(all, &[]).await.unwrap().get(0);
        Self { operator, evidence, all }
    }

    /// Collects every row.
    pub async fn look(&self, channel: Channel) {
        for row in self.operator.query(&self.all, &[]).await.unwrap() {
            self.evidence.add(channel, row.get::<_, Option<String>>(0).unwrap_or_default());
        }
    }

    /// Empties `pg_stat_statements` for a role, having looked: who executes what was parsed before enters the text anew.
    pub async fn reset(&self, role: &str) {
        let seen =
            "SELECT 'pg_stat_statements ' || s FROM pg_stat_statements s WHERE userid = $1::text::regrole";
        for row in self.operator.query(seen, &[&role]).await.unwrap() {
            self.evidence.add(Channel::After, row.get::<_, String>(0));
        }
        let reset = "SELECT pg_stat_statements_reset($1::text::regrole, 0, 0)";
        self.operator.execute(reset, &[&role]).await.unwrap();
    }
}
