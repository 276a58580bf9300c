//! The statements of a report.

use super::{consumer::ConsumerId, promises::Held};
use crate::{
    Error,
    session::{Session, column},
    transaction::{READ, WRITE},
};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio_postgres::types::{ToSql, Type};

/// Never for longer than the server grants. A row for each id, in one transaction. The answer of the function
/// is not used: the function runs before its own commit.
const REPORT: &str = "\
    SELECT integration_credentials.report_held_revisions(r.id::pg_catalog.uuid, $2, r.held, t.lease), \
        pg_catalog.date_part('epoch', t.lease) \
    FROM (SELECT LEAST(pg_catalog.make_interval(secs => $4), \
            pg_catalog.current_setting('integration_credentials.max_lease', true)::pg_catalog.interval)) AS t (lease) \
        CROSS JOIN ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($3)) AS r (id, held)";
const CURRENT: &str = "SELECT l.key, l.revision FROM integration_credentials.list_integrations($1) AS l";

/// The answer to a report that is committed.
pub(super) struct Answer {
    pub lease: Duration,
    /// Of the unconfirmed keys: their revisions, read after the commit.
    pub current: BTreeMap<String, i64>,
}

/// Reports each part under an id and, in the same round trip and in a transaction of its own, reads the
/// revisions of the unconfirmed keys. Neither is retried, because a report that is retried would be committed
/// after the reading.
pub(super) async fn report(
    session: &Session,
    (ids, name): (&[ConsumerId], &str),
    parts: &[Value],
    unconfirmed: &[Arc<str>],
    asked: Duration,
) -> Result<Answer, Error> {
    let seconds = asked.as_secs_f64();
    let ids: Vec<_> = ids.iter().map(ConsumerId::to_string).collect();
    let arguments: [(&(dyn ToSql + Sync), Type); 4] = [
        (&ids, Type::TEXT_ARRAY),
        (&name, Type::TEXT),
        (&parts, Type::JSONB_ARRAY),
        (&seconds, Type::FLOAT8),
    ];
    let keys: Vec<&str> = unconfirmed.iter().map(|key| &**key).collect();
    let keys: [(&(dyn ToSql + Sync), Type); 1] = [(&keys, Type::TEXT_ARRAY)];
    let types = arguments.each_ref().map(|(_, of_type)| of_type.clone());
    let reporting = session.planned(REPORT, &types).await?;
    let reading = session.planned(CURRENT, &[Type::TEXT_ARRAY]).await?;
    let committing = session.rows_once(WRITE, reporting, &arguments);
    let (committed, current) = if unconfirmed.is_empty() {
        (committing.await?, Vec::new())
    } else {
        let (committed, current) = tokio::join!(biased; committing, session.rows_once(READ, reading, &keys));
        (committed?, current?)
    };
    let row = committed
        .first()
        .ok_or_else(|| Error::Unexpected("report_held_revisions() returned no row".to_owned()))?;
    let lease = Duration::try_from_secs_f64(column(row, 1)?)
        .map_err(|_| Error::Unexpected("the lease is no length of time".to_owned()))?;
    let current =
        current.iter().map(|row| Ok((column(row, 0)?, column(row, 1)?))).collect::<Result<_, Error>>()?;
    Ok(Answer { lease, current })
}

/// Ends the leases of these ids.
pub(super) async fn end(session: &Session, ids: &[ConsumerId], name: &str) -> Result<(), Error> {
    let parts = vec![json!({}); ids.len()];
    report(session, (ids, name), &parts, &[], Duration::ZERO).await.map(drop)
}

/// What is held, in parts that the server accepts. It refuses more than 60 KiB.
pub(super) fn parts(held: &Held) -> Vec<Value> {
    const LIMIT: usize = 48 << 10;
    /// Of a key with its two numbers, without the text of the key. A character may be written as six.
    const OVERHEAD: usize = 64;
    let (mut parts, mut part, mut size) = (Vec::new(), Map::new(), 0);
    for (key, range) in held {
        let more = OVERHEAD + key.len() * if key.is_ascii() { 1 } else { 6 };
        if size + more > LIMIT && !part.is_empty() {
            parts.push(Value::Object(std::mem::take(&mut part)));
            size = 0;
        }
        size += more;
        part.insert(key.to_string(), json!(range));
    }
    parts.push(Value::Object(part));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_many_keys_has_parts() {
        assert_eq!(parts(&Held::new()), [json!({})]);
        let held: Held = (0..10_000).map(|number| (format!("key {number}").into(), [1, 2])).collect();
        let parts = parts(&held);
        assert!(parts.len() > 5 && parts.iter().all(|part| part.to_string().len() < 50_000));
        let keys: usize = parts.iter().map(|part| part.as_object().unwrap().len()).sum();
        assert_eq!(keys, held.len());
    }
}
