//! The consumers of each key, for the metrics: asked for now and then, as long as the role may ask.

use super::metrics::Metrics;
use intcred::{Client, Error, Lease, Settings, internal::Handovers};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

const PAUSE: Duration = Duration::from_secs(15);

/// Keeps the metrics of consumers and of the own lease current. Ends with the runtime.
pub async fn follow(settings: Settings, metrics: Metrics, handovers: Option<Arc<Handovers>>) {
    let mut client = None;
    loop {
        metrics.set_lease(&handovers.as_ref().map_or(Lease::Off, |handovers| handovers.lease()));
        // Without a session, or a right: the metrics are absent rather than wrong.
        if look(&settings, &mut client, &metrics).await.is_err() {
            client = None;
            metrics.clear_consumers();
        }
        sleep(PAUSE).await;
    }
}

async fn look(settings: &Settings, client: &mut Option<Client>, metrics: &Metrics) -> Result<(), Error> {
    let client = match client {
        Some(client) => client,
        None => client.insert(Client::connect(settings, |_| ()).await?),
    };
    let org = client.current_org().await?;
    metrics.set_consumers(&org, &client.consumers().await?);
    Ok(())
}
