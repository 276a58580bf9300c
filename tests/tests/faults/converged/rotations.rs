//! Changes of all keys at random: sets, promotions and rollbacks, by an admin who goes on whatever happens.

use fastrand::Rng;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tests::{ADMIN, Database};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_postgres::{Client, NoTls};

/// Between two changes of a key, about: so long that most rotations have the time to converge.
const PERIOD: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(5);
const SET: &str = "SELECT integration_credentials.admin_set_integration_credentials($1, $2, 'rotations')";
const STAGE: &str = "SELECT integration_credentials.admin_set_integration_credentials($1, $2, 'rotations', '{\"stage\": true}')";
const PROMOTE: &str = "SELECT integration_credentials.admin_promote_integration_credentials($1, 'rotations')";
const ROLLBACK: &str =
    "SELECT integration_credentials.admin_rollback_integration_credentials($1, 'rotations')";

pub struct Rotations {
    done: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Rotations {
    pub fn start(database: &Database, keys: &[String], random: Rng) -> Self {
        let done = Arc::<AtomicUsize>::default();
        let admin = Admin { dsn: database.dsn(ADMIN), session: None, random };
        Self { done: done.clone(), task: tokio::spawn(admin.rotate(keys.to_vec(), done)) }
    }

    pub fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }
}

impl Drop for Rotations {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Admin {
    dsn: String,
    session: Option<Client>,
    random: Rng,
}

impl Admin {
    async fn rotate(mut self, keys: Vec<String>, done: Arc<AtomicUsize>) {
        let pause = PERIOD / u32::try_from(keys.len()).unwrap();
        loop {
            let key = self.random.choice(&keys).unwrap().clone();
            let change = self.random.u8(..4);
            if let Ok(Some(())) = timeout(PATIENCE, self.change(&key, change)).await {
                done.fetch_add(1, Ordering::Relaxed);
            } else {
                self.session = None;
                sleep(Duration::from_millis(20)).await;
            }
            sleep(pause.mul_f64(self.random.f64() * 2.0)).await;
        }
    }

    async fn change(&mut self, key: &str, change: u8) -> Option<()> {
        if self.session.is_none() {
            let (client, connection) = tokio_postgres::connect(&self.dsn, NoTls).await.ok()?;
            tokio::spawn(connection);
            self.session = Some(client);
        }
        let session = self.session.as_ref()?;
        let value = format!("value {}", self.random.u32(..));
        let changed = match change {
            0 => {
                session.execute(STAGE, &[&key, &value]).await.ok()?;
                session.execute(PROMOTE, &[&key]).await
            }
            1 => session.execute(ROLLBACK, &[&key]).await,
            _ => session.execute(SET, &[&key, &value]).await,
        };
        changed.ok().map(drop)
    }
}
