//! The connections of all callers. A connection belongs to one caller, and lives for a minute at most, because a login
//! that expires does not end the sessions that it has.

use super::log;
use intcred::{
    Client, Error, Secret, Settings,
    internal::{Identity, within},
};
use std::{
    mem,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// How long a connection lives, and how long a login counts.
pub const LIFETIME: Duration = Duration::from_mins(1);
const IDLE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);
const OF_A_CALLER: usize = 2;
const OF_ALL: usize = 32;
const LOGINS_AT_ONCE: usize = 4;

/// How a caller connects.
pub struct Login {
    settings: Settings,
    /// The role of an API key; `None` for the connection settings of this process.
    key: Option<KeyLogin>,
    connections: Semaphore,
}

struct KeyLogin {
    role: String,
    password: Secret,
}

impl Login {
    /// With the connection settings as they are.
    pub fn of_process(settings: Settings) -> Self {
        Self { settings, key: None, connections: Semaphore::new(OF_A_CALLER) }
    }

    /// As the role of an API key.
    pub fn of_key(settings: Settings, role: &str, password: Secret) -> Self {
        let key = KeyLogin { role: role.to_owned(), password };
        Self { settings, key: Some(key), connections: Semaphore::new(OF_A_CALLER) }
    }

    fn role(&self) -> &str {
        self.key.as_ref().map_or("", |key| &key.role)
    }

    async fn connect(&self) -> Result<(Client, Identity), Error> {
        let Some(KeyLogin { role, password }) = &self.key else {
            let client = Client::connect(&self.settings, |_| ()).await?;
            let identity = client.identity().await?;
            return Ok((client, identity));
        };
        // Where `pg_hba.conf` asks for no password, any key would do.
        match Client::connect(&self.settings.with_login(role, None), |_| ()).await {
            Err(Error::NotAuthorised { .. }) => {}
            Err(error) => return Err(error),
            Ok(_) => return Err(refused("pg_hba.conf lets it in without a password; ask for scram-sha-256")),
        }
        let client = Client::connect(&self.settings.with_login(role, Some(password)), |_| ()).await?;
        let identity = client.identity().await?;
        if identity.role != *role {
            return Err(refused("a pooler logs in as another role"));
        }
        if !identity.org_is_of_role {
            return Err(refused("its org is not a setting of the role"));
        }
        Ok((client, identity))
    }
}

/// The login is right, and the key must not be served all the same. The reason is for the log.
fn refused(reason: &str) -> Error {
    Error::Unexpected(reason.to_owned())
}

pub struct Pool {
    idle: Mutex<Vec<Connection>>,
    places: Arc<Semaphore>,
    logins: Semaphore,
}

struct Connection {
    client: Client,
    identity: Identity,
    /// The role that logged in; empty for this process's own.
    role: String,
    born: Instant,
    idle_since: Instant,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn is_over(&self, now: Instant) -> bool {
        self.client.is_closed() || now >= self.born + LIFETIME || now >= self.idle_since + IDLE
    }
}

impl Pool {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            idle: Mutex::default(),
            places: Arc::new(Semaphore::new(OF_ALL)),
            logins: Semaphore::new(LOGINS_AT_ONCE),
        })
    }

    /// A connection of the caller: one that is there, or a new one.
    pub async fn get<'a>(&'a self, login: &'a Login) -> Result<Lease<'a>, Error> {
        let slot = slot(login).await?;
        let connection = match self.take(login.role()) {
            Some(connection) => connection,
            None => self.open(login).await?,
        };
        Ok(Lease { pool: self, connection, _slot: slot })
    }

    /// The same, after a round trip: a session that the server has ended is not used.
    pub async fn get_checked<'a>(&'a self, login: &'a Login) -> Result<Lease<'a>, Error> {
        let slot = slot(login).await?;
        while let Some(connection) = self.take(login.role()) {
            if within(CONNECT, connection.client.ping()).await.is_ok_and(|answer| answer.is_ok()) {
                return Ok(Lease { pool: self, connection, _slot: slot });
            }
        }
        Ok(Lease { pool: self, connection: self.open(login).await?, _slot: slot })
    }

    /// The same, by a new login.
    pub async fn log_in<'a>(&'a self, login: &'a Login) -> Result<Lease<'a>, Error> {
        let slot = slot(login).await?;
        Ok(Lease { pool: self, connection: self.open(login).await?, _slot: slot })
    }

    async fn open(&self, login: &Login) -> Result<Connection, Error> {
        let busy =
            || Error::Connect { target: String::new(), reason: "all connections are in use".to_owned() };
        let opening = async {
            let _turn = self.logins.acquire().await.map_err(|_| busy())?;
            let place = self.place().ok_or_else(busy)?;
            // On the heap, because the state of TLS makes it large.
            let (client, identity) = Box::pin(login.connect()).await?;
            let now = Instant::now();
            let role = login.role().to_owned();
            Ok(Connection { client, identity, role, born: now, idle_since: now, _place: place })
        };
        let opened = within(CONNECT, opening).await.map_err(Error::from).flatten();
        if let Err(error) = &opened
            && !matches!(error, Error::NotAuthorised { .. })
        {
            log::problem(login.role(), &error.to_string());
        }
        opened
    }

    /// A place for a connection, if need be that of the one that is idle longest.
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.purge();
        let place = || self.places.clone().try_acquire_owned().ok();
        place().or_else(|| {
            let mut idle = self.idle();
            let longest = (0..idle.len()).min_by_key(|&index| idle[index].idle_since)?;
            drop(idle.swap_remove(longest));
            drop(idle);
            place()
        })
    }

    fn take(&self, role: &str) -> Option<Connection> {
        self.purge();
        let mut idle = self.idle();
        let found = idle.iter().rposition(|connection| connection.role == role)?;
        Some(idle.swap_remove(found))
    }

    /// Closes the connections whose time is over.
    pub fn purge(&self) {
        let now = Instant::now();
        let mut idle = self.idle();
        let kept = mem::take(&mut *idle).into_iter().filter(|connection| !connection.is_over(now)).collect();
        *idle = kept;
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn slot(login: &Login) -> Result<SemaphorePermit<'_>, Error> {
    // The semaphore is never closed.
    login.connections.acquire().await.map_err(|_| refused("the login is closed"))
}

/// A connection in use. Dropped, it is closed: whoever gave up waiting does not know what it still does.
pub struct Lease<'a> {
    pool: &'a Pool,
    connection: Connection,
    _slot: SemaphorePermit<'a>,
}

impl Lease<'_> {
    pub fn identity(&self) -> &Identity {
        &self.connection.identity
    }

    /// Gives the connection back after a call.
    pub fn finish<T>(self, answer: Result<T, Error>) -> Result<T, Error> {
        let Self { pool, mut connection, _slot } = self;
        if !matches!(answer, Err(Error::Disconnected { .. })) {
            connection.idle_since = Instant::now();
            pool.idle().push(connection);
        }
        answer
    }
}

impl Deref for Lease<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.connection.client
    }
}
