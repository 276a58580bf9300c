//! A server with some keys, and the ways to it.

use crate::proxy::Proxy;
use deadpool_postgres::{Manager, Pool, Runtime};
use std::{path::PathBuf, time::Duration};
use tests::{ADMIN, Cluster, Database, READER, Session};
use tokio_postgres::NoTls;

/// How many of the keys, one in so many, are removed and disabled now and then; the others are only rotated.
const FICKLE: usize = 5;

pub struct Scene {
    pub cluster: Cluster,
    pub database: Database,
    pub keys: Vec<String>,
}

impl Scene {
    /// A cluster of its own, and a database with so many keys, each at revision 1.
    pub async fn new(keys: usize) -> Self {
        Self::with(keys, &[]).await
    }

    /// The same with more settings.
    pub async fn with(keys: usize, settings: &[(&str, &str)]) -> Self {
        let cluster =
            settings.iter().fold(Cluster::builder(), |cluster, (name, value)| cluster.setting(name, value));
        let cluster = cluster
            // Nothing that is tested here loses what the kernel has.
            .setting("fsync", "off")
            .setting("max_connections", "150")
            // For so long, who connects during a shutdown and then falls silent holds it up.
            .setting("authentication_timeout", "1s")
            .start();
        let database = cluster.database().await;
        let superuser = database.superuser().await;
        superuser.batch_execute(include_str!("scene.sql")).await.unwrap();
        let keys: Vec<_> = (0..keys).map(|number| format!("key-{number:03}")).collect();
        let register = "SELECT integration_credentials.admin_register_integration(key, key, 'scene')
                        FROM unnest($1::text[]) AS key";
        superuser.execute(register, &[&keys]).await.unwrap();
        superuser
            .execute("SELECT change(key, 'set') FROM unnest($1::text[]) AS key", &[&keys])
            .await
            .unwrap();
        Self { cluster, database, keys }
    }

    /// How readers get there.
    pub fn reader(&self) -> String {
        self.database.dsn(READER)
    }

    /// How admins get there.
    pub fn admin(&self) -> String {
        self.database.dsn(ADMIN)
    }

    pub async fn superuser(&self) -> Session {
        self.database.superuser().await
    }

    /// A way that can be broken.
    pub async fn proxy(&self) -> Proxy {
        Proxy::start(self.socket()).await
    }

    /// How readers get there over a proxy. There is no other host in it, which a pool would try first.
    pub fn over(&self, proxy: &Proxy) -> String {
        let (name, port) = (self.database.name(), proxy.port());
        format!("host=127.0.0.1 port={port} dbname={name} user={READER} sslmode=disable connect_timeout=1")
    }

    fn socket(&self) -> PathBuf {
        self.cluster.dir().join(format!(".s.PGSQL.{}", self.cluster.port()))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.cluster.log());
        }
    }
}

/// Whether the key may be removed and disabled at any time.
pub fn is_fickle(key: &str) -> bool {
    let number: usize = key.trim_start_matches("key-").parse().unwrap();
    number.is_multiple_of(FICKLE)
}

/// A pool of four connections.
pub fn pool(dsn: &str) -> Pool {
    pool_of(dsn, 4)
}

pub fn pool_of(dsn: &str, connections: usize) -> Pool {
    let manager = Manager::new(dsn.parse().unwrap(), NoTls);
    let wait = Some(Duration::from_secs(2));
    Pool::builder(manager)
        .max_size(connections)
        .runtime(Runtime::Tokio1)
        .wait_timeout(wait)
        .create_timeout(wait)
        .build()
        .unwrap()
}
