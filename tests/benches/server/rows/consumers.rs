//! Leases: what a renewal takes, and what the renewals of many consumers cost everybody else.

use super::{GET, SET, calls, reads};
use crate::{
    comparison::{Comparison, compare},
    effort::Effort,
    pgbench::Pgbench,
    rounds::Estimate,
    side::{Renewals, Side, Statement},
    table::{Figure, MARGIN, Row, Target, judge},
};
use tests::{Cluster, Database, READER};

/// How many consumers there are, and how many keys each holds.
pub const CONSUMERS: u32 = 1000;
const KEYS: u32 = 50;

/// Renews the leases of all consumers; `$1` is what each holds.
const RENEW: &str = "SELECT count(integration_credentials.report_held_revisions(
        ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'bench', h.held, '5 min'))
    FROM (SELECT $1::text::jsonb AS held OFFSET 0) h, generate_series(1, 1000) n";

/// What a consumer holds, as JSON.
pub fn held() -> String {
    let keys: Vec<_> = (1..=KEYS).map(|key| format!("\"{key}\": [1, 1]")).collect();
    format!("{{{}}}", keys.join(", "))
}

/// Inside the server, in a loop in one statement.
pub async fn renewal(effort: &Effort, cluster: &Cluster, database: &Database) -> Vec<Row> {
    let side = Side::Statement(Statement {
        cluster,
        session: database.connect(READER).await,
        sql: RENEW.into(),
        parameter: Some(held()),
        calls: CONSUMERS,
    });
    let mut times = Vec::new();
    for _ in 0..effort.rounds {
        times.push(1e9 / side.measure(effort.seconds()).await.rate);
    }
    let figure = Figure::Nanoseconds;
    vec![Row {
        measure: "lease renewal of 50 keys, inside the server".into(),
        baseline: "-".into(),
        figure,
        target: Some(Target::AtMost(100_000.0)),
        outcome: judge(Estimate::of(&times), figure, MARGIN),
        sides: None,
    }]
}

/// Beside consumers that renew every 15 s.
pub async fn renewals(effort: &Effort, cluster: &Cluster, database: &Database) -> Vec<Row> {
    let mut rows = Vec::new();
    for (measure, side) in [
        ("get, 8 clients, beside 1,000 consumers", reads(cluster, database, GET)),
        ("set, 8 clients, beside 1,000 consumers", calls(cluster, database, SET)),
    ] {
        let side = Pgbench { clients: 8, ..side };
        let sides = [Side::Beside(side.clone(), Renewals { database }), Side::Pgbench(side)];
        let comparison = Comparison::of(measure, "without them", [0, 1]).at_least(0.97).within(0.03);
        rows.extend(compare(effort, &sides, vec![comparison]).await);
    }
    rows
}
