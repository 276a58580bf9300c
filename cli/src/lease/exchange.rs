//! The statements of a report.

use super::{consumer::ConsumerId, promises::Report};
use crate::{
    Error,
    session::{Session, column},
    transaction::{READ, WRITE},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use tokio_postgres::types::{ToSql, Type};

/// Never for longer than the server grants. The answer of the function is not used: the function runs before its own
/// commit.
const REPORT: &str = "\
    SELECT integration_credentials.report_held_revisions($1::pg_catalog.uuid, $2, $3, t.lease), \
        pg_catalog.date_part('epoch', t.lease) \
    FROM (SELECT LEAST(pg_catalog.make_interval(secs => $4), \
        pg_catalog.current_setting('integration_credentials.max_lease', true)::pg_catalog.interval)) AS t (lease)";
const CURRENT: &str =
    "SELECT l.key, l.revision FROM integration_credentials.list_integrations($1) AS l";

/// The answer to a report that is committed.
pub(super) struct Answer {
    pub lease: Duration,
    /// Of the unconfirmed keys: their revisions, read after the commit.
    pub current: BTreeMap<String, i64>,
}

/// Reports and, in the same round trip and in a transaction of its own, reads the revisions of the unconfirmed keys.
/// Neither is retried, because a report that is retried would be committed after the reading.
pub(super) async fn report(
    session: &Session,
    (id, name): (ConsumerId, &str),
    report: &Report,
    asked: Duration,
) -> Result<Answer, Error> {
    let (id, seconds) = (id.to_string(), asked.as_secs_f64());
    let held = report.held.iter().map(|(key, range)| (key.to_string(), json!(range)));
    let held = Value::Object(held.collect());
    let arguments: [(&(dyn ToSql + Sync), Type); 4] =
        [(&id, Type::TEXT), (&name, Type::TEXT), (&held, Type::JSONB), (&seconds, Type::FLOAT8)];
    let keys: Vec<&str> = report.unconfirmed.iter().map(|key| &**key).collect();
    let keys: [(&(dyn ToSql + Sync), Type); 1] = [(&keys, Type::TEXT_ARRAY)];
    let committing = session.rows_once(WRITE, REPORT, &arguments);
    let (committed, current) = if report.unconfirmed.is_empty() {
        (committing.await?, Vec::new())
    } else {
        let (committed, current) =
            tokio::join!(biased; committing, session.rows_once(READ, CURRENT, &keys));
        (committed?, current?)
    };
    let row = committed
        .first()
        .ok_or_else(|| Error::Unexpected("report_held_revisions() returned no row".to_owned()))?;
    let lease = Duration::try_from_secs_f64(column(row, 1)?)
        .map_err(|_| Error::Unexpected("the lease is no length of time".to_owned()))?;
    let current = current
        .iter()
        .map(|row| Ok((column(row, 0)?, column(row, 1)?)))
        .collect::<Result<_, Error>>()?;
    Ok(Answer { lease, current })
}

/// Ends the lease of an id.
pub(super) async fn end(session: &Session, id: ConsumerId, name: &str) -> Result<(), Error> {
    let nothing = Report { number: 0, held: BTreeMap::new(), unconfirmed: Vec::new() };
    report(session, (id, name), &nothing, Duration::ZERO).await.map(drop)
}
