//! The page of stdio: on 127.0.0.1, at a free port, for the user of this process only. It is there from the first link on.

use super::{
    super::{
        callers::Caller,
        entry::Entries,
        http::{connection, gate::Names, routes},
    },
    peer,
};
use std::{
    net::Ipv4Addr,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{OnceCell, Semaphore},
    time::sleep,
};

const CONNECTIONS: usize = 16;

#[derive(Default)]
pub struct Listener {
    url: OnceCell<String>,
    serves: OnceLock<(Weak<Caller>, Weak<Entries>)>,
}

impl Listener {
    /// Says whose page it is.
    pub fn prepare(&self, caller: &Arc<Caller>, entries: &Arc<Entries>) {
        // Called once, before any link.
        let _ = self.serves.set((Arc::downgrade(caller), Arc::downgrade(entries)));
    }

    /// The URL of the page. `None` where nobody could tell whose browser it is, or no port is free.
    pub async fn url(&self) -> Option<String> {
        if !peer::IS_KNOWN {
            return None;
        }
        self.url.get_or_try_init(|| self.listen()).await.ok().cloned()
    }

    async fn listen(&self) -> Result<String, ()> {
        let (caller, entries) = self.serves.get().ok_or(())?;
        let (caller, entries) = (caller.upgrade().ok_or(())?, entries.upgrade().ok_or(())?);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(drop)?;
        let own = listener.local_addr().map_err(drop)?;
        let url = format!("http://{own}");
        let site = Arc::new(routes::Site::loopback(caller, entries, Names::only(&url).ok_or(())?));
        tokio::spawn(async move {
            let places = Arc::new(Semaphore::new(CONNECTIONS));
            // The semaphore is never closed.
            while let Ok(place) = places.clone().acquire_owned().await {
                let Ok((stream, address)) = listener.accept().await else {
                    sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let site = site.clone();
                tokio::spawn(async move {
                    // Another user of this machine gets no byte.
                    if peer::is_own_user(address, own) {
                        connection::serve(stream, site, address.ip()).await;
                    }
                    drop(place);
                });
            }
        });
        Ok(url)
    }
}
