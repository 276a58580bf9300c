//! Who calls. Over stdio, the role of the connection settings; over HTTP, the role of the API key.

use super::{
    api_key::ApiKey,
    limits::{Allowance, Door, Failures},
    pepper::Pepper,
    pool::{LIFETIME, Lease, Login, Pool},
    refusal::Refusal,
    text::clean,
};
use intcred::{Error, Integration, Settings, internal::Identity};
use openssl::{memcmp, sha::sha256};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

/// The time limit of a call.
const CALL: Duration = Duration::from_secs(10);

pub struct Caller {
    /// For the log: the role of a key, or the user of this process.
    pub name: String,
    /// The user of this process, over stdio.
    user: Option<String>,
    pub allowance: Allowance,
    login: Login,
    pool: Arc<Pool>,
}

impl Caller {
    /// The one caller of stdio.
    pub fn of_process(settings: Settings, user: String, pool: Arc<Pool>) -> Self {
        Self {
            name: user.clone(),
            user: Some(user),
            allowance: Allowance::new(None),
            login: Login::of_process(settings),
            pool,
        }
    }

    pub async fn connect(&self) -> Result<Lease<'_>, Error> {
        self.pool.get(&self.login).await
    }

    /// Who asks, for the person who opens the link: the label of the key, or the user of this process.
    pub fn requested_by(&self, identity: &Identity) -> String {
        let of_key = || identity.label.as_deref().map(clean).filter(|label| !label.is_empty());
        self.user.clone().or_else(of_key).unwrap_or_else(|| self.name.clone())
    }

    /// The actor in the audit log. Nothing that a client says of itself.
    pub fn actor(&self, identity: &Identity) -> String {
        format!("mcp:{}", self.requested_by(identity)).chars().take(255).collect()
    }

    /// The integration, if the catalog has it.
    pub async fn find(&self, key: &str) -> Result<Option<Integration>, Error> {
        let connection = self.connect().await?;
        let found = connection.find_integration(key).await;
        connection.finish(found)
    }
}

/// Waits for the database, but not for ever.
pub async fn in_time<T>(call: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let late = || Refusal::unavailable(format!("the database gave no answer within {} s", CALL.as_secs()));
    timeout(CALL, call).await.unwrap_or_else(|_| Err(late()))
}

/// Why an API key is not served.
pub enum Denied {
    /// Unknown, wrong, expired, revoked: the same answer.
    Unauthorized,
    /// Too many failures of the address.
    TooMany,
    /// Too many requests of the key.
    Busy(Refusal),
    Unavailable,
}

/// The callers with an API key.
pub struct Callers {
    settings: Settings,
    pepper: Pepper,
    calls_a_second: u32,
    pool: Arc<Pool>,
    known: Mutex<HashMap<String, Known>>,
    failures: Failures,
}

/// A key that has logged in.
struct Known {
    hash: [u8; 32],
    logged_in_at: Instant,
    caller: Arc<Caller>,
}

impl Callers {
    pub fn new(settings: Settings, pepper: Pepper, calls_a_second: u32, pool: Arc<Pool>) -> Self {
        let (known, failures) = (Mutex::default(), Failures::default());
        Self { settings, pepper, calls_a_second, pool, known, failures }
    }

    /// The caller of an API key, if Postgres lets the key's role log in. A key that has logged in within the last minute
    /// needs no other login, as long as the session that it has is alive.
    /// Comes with a place among the requests of the key, which it has before anything of Postgres is used.
    pub async fn authenticate(
        &self,
        text: &str,
        address: IpAddr,
        door: Door,
    ) -> Result<(Arc<Caller>, OwnedSemaphorePermit), Denied> {
        let Some(key) = ApiKey::parse(text) else { return Err(self.fail(address)) };
        let hash = sha256(key.expose().as_bytes());
        let fresh = {
            let known = self.known();
            known
                .get(key.role())
                .map(|known| (memcmp::eq(&known.hash, &hash), known.is_fresh(), known.caller.clone()))
        };
        match fresh {
            // A role has one key.
            Some((false, ..)) => Err(self.fail(address)),
            Some((true, true, caller)) => {
                let place = caller.allowance.enter(door).map_err(Denied::Busy)?;
                let answer = caller.pool.get_checked(&caller.login).await;
                let answer = answer.and_then(|connection| connection.finish(Ok(())));
                self.decide(&answer, key.role(), address).map(|()| (caller, place))
            }
            // With what it has used of its limits.
            Some((true, false, caller)) => self.log_in(&key, hash, caller, address, door).await,
            None => {
                let password = self.pepper.password(&key).map_err(|_| Denied::Unavailable)?;
                let caller = Arc::new(Caller {
                    name: key.role().to_owned(),
                    user: None,
                    allowance: Allowance::new(Some(self.calls_a_second)),
                    login: Login::of_key(self.settings.clone(), key.role(), password),
                    pool: self.pool.clone(),
                });
                self.log_in(&key, hash, caller, address, door).await
            }
        }
    }

    async fn log_in(
        &self,
        key: &ApiKey,
        hash: [u8; 32],
        caller: Arc<Caller>,
        address: IpAddr,
        door: Door,
    ) -> Result<(Arc<Caller>, OwnedSemaphorePermit), Denied> {
        let place = caller.allowance.enter(door).map_err(Denied::Busy)?;
        if self.failures.are_too_many(address, Instant::now()) {
            return Err(Denied::TooMany);
        }
        let answer = self.pool.log_in(&caller.login).await;
        let answer = answer.and_then(|connection| connection.finish(Ok(())));
        self.decide(&answer, key.role(), address)?;
        let known = Known { hash, logged_in_at: Instant::now(), caller: caller.clone() };
        self.known().insert(key.role().to_owned(), known);
        Ok((caller, place))
    }

    fn decide(&self, answer: &Result<(), Error>, role: &str, address: IpAddr) -> Result<(), Denied> {
        match answer {
            Ok(()) => Ok(()),
            Err(Error::NotAuthorised { .. }) => {
                self.known().remove(role);
                Err(self.fail(address))
            }
            Err(_) => Err(Denied::Unavailable),
        }
    }

    fn fail(&self, address: IpAddr) -> Denied {
        let now = Instant::now();
        if self.failures.are_too_many(address, now) {
            return Denied::TooMany;
        }
        self.failures.record(address, now);
        Denied::Unauthorized
    }

    /// Closes connections whose time is over, and forgets keys that no longer count.
    pub fn purge(&self) {
        self.pool.purge();
        self.known().retain(|_, known| known.logged_in_at.elapsed() < 2 * LIFETIME);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_fresh(&self) -> bool {
        self.logged_in_at.elapsed() < LIFETIME
    }
}
