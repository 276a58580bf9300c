//! Changes, one after the other, by admins who try again until it is done.

use crate::scene::{Scene, is_fickle};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_postgres::{Client, NoTls};

const ADMINS: u32 = 4;
/// Longer than any call takes that gets an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Admins at work.
pub struct Load {
    progress: Arc<Progress>,
    admins: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Progress {
    done: AtomicUsize,
    is_over: AtomicBool,
}

impl Load {
    /// Starts admins who change all keys in turn, with a pause after each change. An admin whose session ends opens
    /// another by the DSN. Each key has one of them.
    pub fn start(scene: &Scene, dsn: &str, pause: Duration, mut random: fastrand::Rng) -> Self {
        let progress = Arc::<Progress>::default();
        let admins = (0..ADMINS)
            .map(|number| {
                let keys = scene.keys.iter().skip(number as usize).step_by(ADMINS as usize);
                let admin = Admin { dsn: dsn.to_owned(), session: None, random: random.fork() };
                tokio::spawn(admin.work(keys.cloned().collect(), pause, progress.clone()))
            })
            .collect();
        Self { progress, admins }
    }

    /// The pause with which so many changes take so long, at least.
    pub fn pause_for(changes: u32, time: Duration) -> Duration {
        time * ADMINS / changes
    }

    /// How many changes were made so far.
    pub fn done(&self) -> usize {
        self.progress.done.load(Ordering::Relaxed)
    }

    /// Waits until so many more changes are made.
    pub async fn go_on(&self, changes: usize) {
        let goal = self.done() + changes;
        while self.done() < goal {
            assert!(!self.admins.iter().any(JoinHandle::is_finished), "an admin has failed");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends it once the last change is made, and says how many there were.
    pub async fn finish(self) -> usize {
        self.progress.is_over.store(true, Ordering::Relaxed);
        for admin in self.admins {
            admin.await.unwrap();
        }
        self.progress.done.load(Ordering::Relaxed)
    }
}

struct Admin {
    dsn: String,
    session: Option<Client>,
    random: fastrand::Rng,
}

impl Admin {
    async fn work(mut self, keys: Vec<String>, pause: Duration, progress: Arc<Progress>) {
        for key in keys.iter().cycle() {
            if progress.is_over.load(Ordering::Relaxed) {
                return;
            }
            let operation = match self.random.u8(..4) {
                0 if is_fickle(key) => "remove",
                1 if is_fickle(key) => "disable",
                _ => "set",
            };
            while !self.change(key, operation).await {
                self.session = None;
                sleep(Duration::from_millis(20)).await;
            }
            progress.done.fetch_add(1, Ordering::Relaxed);
            sleep(pause).await;
        }
    }

    /// Tells whether it is done for sure. If it is not, trying again makes one change more at the most.
    async fn change(&mut self, key: &str, operation: &str) -> bool {
        let Ok(Some(session)) = timeout(PATIENCE, self.session()).await else { return false };
        match timeout(PATIENCE, session.execute("SELECT change($1, $2)", &[&key, &operation])).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                // 57P01 to 57P03: the server, or this session of it, is being ended.
                let refusal = error.as_db_error().map(|error| error.code().code());
                assert!(refusal.is_none_or(|code| code.starts_with("57P0")), "{operation} {key}: {error:?}");
                false
            }
            Err(_) => false,
        }
    }

    async fn session(&mut self) -> Option<&Client> {
        if self.session.is_none() {
            let (client, connection) = tokio_postgres::connect(&self.dsn, NoTls).await.ok()?;
            tokio::spawn(connection);
            self.session = Some(client);
        }
        self.session.as_ref()
    }
}
