//! The heads of the audit log: the newest signed block, looked for every second.

use intcred::{Client, Error, Head, Settings, Timestamp};
use serde::Serialize;
use std::time::Duration;
use tokio::{sync::mpsc, time::sleep};

const POLL: Duration = Duration::from_secs(1);

/// As JSON, a head with two members more.
#[derive(Serialize)]
#[serde(tag = "event", rename = "head")]
pub struct Notice {
    #[serde(flatten)]
    head: Head,
    at: Timestamp,
}

/// Follows the heads until the receiver is dropped. The first look must succeed; later ones are repeated. Of the
/// blocks that are signed while the receiver is full, the last is reported.
pub async fn follow(settings: &Settings) -> Result<mpsc::Receiver<Notice>, Error> {
    let mut client = None;
    let mut found = look(settings, &mut client).await?;
    let (sender, receiver) = mpsc::channel(1);
    let settings = settings.clone();
    tokio::spawn(async move {
        let mut last = None;
        loop {
            if found != last {
                last.clone_from(&found);
                if let Some(head) = found.take()
                    && sender.send(Notice { head, at: Timestamp::now() }).await.is_err()
                {
                    return;
                }
            }
            sleep(POLL).await;
            found = look(&settings, &mut client).await.unwrap_or_else(|_| {
                client = None;
                last.clone()
            });
        }
    });
    Ok(receiver)
}

async fn look(settings: &Settings, client: &mut Option<Client>) -> Result<Option<Head>, Error> {
    let client = match client {
        Some(client) => client,
        None => client.insert(Client::connect(settings, |_| ()).await?),
    };
    client.audit_head().await
}
