//! Set and get against what may grow: keys, audit rows, clients, listeners, values.

use crate::{effort::Effort, pgbench::Pgbench, rows, stage};
use std::time::Duration;
use tests::{Cluster, Database};

/// What grows.
#[derive(Clone, Copy)]
pub enum Axis {
    Clients,
    IdleListeners,
    ValueBytes,
    AuditRows,
    Keys,
}

/// A curve for set and one for get.
pub struct Growth {
    pub axis: Axis,
    pub points: Vec<Point>,
}

/// Calls in a second at one size of what grows.
pub struct Point {
    pub size: u32,
    pub set: f64,
    pub get: f64,
}

/// How long each of both is measured at each size, in seconds.
const SECONDS: u16 = 2;

/// What the longest curve takes: for a million keys, most of it is making them.
const LONGEST: Duration = Duration::from_mins(1);

/// All curves that there is time for.
pub async fn growth(effort: &Effort, cluster: &Cluster, database: &Database) -> Vec<Growth> {
    let mut all = Vec::new();
    for axis in [Axis::Clients, Axis::IdleListeners, Axis::ValueBytes, Axis::AuditRows, Axis::Keys] {
        if effort.remaining() < LONGEST {
            eprintln!("no time is left for growth in {}", axis.name());
            continue;
        }
        let mut points = Vec::new();
        for &size in axis.sizes() {
            points.push(axis.point(cluster, database, size).await);
        }
        all.push(Growth { axis, points });
    }
    all
}

impl Axis {
    pub fn name(self) -> &'static str {
        match self {
            Axis::Clients => "clients",
            Axis::IdleListeners => "idle listeners",
            Axis::ValueBytes => "bytes of a value",
            Axis::AuditRows => "audit rows",
            Axis::Keys => "keys",
        }
    }

    fn sizes(self) -> &'static [u32] {
        match self {
            Axis::Clients => &[1, 2, 4, 8, 16, 32, 64],
            Axis::IdleListeners => &[0, 1, 10, 100, 500],
            Axis::ValueBytes => &[16, 64, 256, 1024, 4096, 8000],
            Axis::AuditRows => &[0, 10_000, 100_000, 1_000_000],
            Axis::Keys => &[1, 100, 10_000, 1_000_000],
        }
    }

    /// Durable commits, one client, 10,000 keys and 64 bytes, unless it is that which grows.
    async fn point(self, cluster: &Cluster, database: &Database, size: u32) -> Point {
        let small = || u16::try_from(size).expect("of these there are few");
        match self {
            Axis::Clients => {
                let clients = small();
                measure(cluster, database, size, |calls| Pgbench { clients, ..calls }).await
            }
            Axis::IdleListeners => {
                let _listeners = stage::idle_listeners(database, small()).await;
                measure(cluster, database, size, |calls| calls).await
            }
            Axis::ValueBytes => {
                // Few keys, so that each has a value of that size when it is read.
                let value_bytes = small().into();
                measure(cluster, database, size, |calls| Pgbench { value_bytes, keys: 100, ..calls }).await
            }
            Axis::AuditRows => {
                let database = stage::database(cluster, stage::KEYS).await;
                stage::fill(&database, stage::KEYS).await;
                stage::age(&database, size).await;
                measure(cluster, &database, size, |calls| calls).await
            }
            Axis::Keys => {
                let database = stage::database(cluster, size).await;
                // Only these are ever called; the others make the tables and their indexes as large as they should be.
                let called = size.min(stage::KEYS);
                stage::fill(&database, called).await;
                stage::pad(&database, called + 1, size).await;
                measure(cluster, &database, size, |calls| Pgbench { keys: called, ..calls }).await
            }
        }
    }
}

async fn measure<'a>(
    cluster: &'a Cluster,
    database: &'a Database,
    size: u32,
    change: impl Fn(Pgbench<'a>) -> Pgbench<'a>,
) -> Point {
    let (_, set) = change(rows::calls(cluster, database, rows::SET)).run(SECONDS).await;
    let (_, get) = change(rows::reads(cluster, database, rows::GET)).run(SECONDS).await;
    Point { size, set, get }
}
