//! The events on standard output, written by a thread of their own: a reader that stalls must not keep the daemon from
//! heeding signals, finishing its hooks and answering its watchdog.

use crate::{cli_error::CliError, output::Output};
use intcred::Event;
use std::{future::pending, thread, time::Duration};
use tokio::{
    sync::{
        mpsc::{self, Permit},
        oneshot,
    },
    time::timeout,
};

/// How far the daemon runs ahead of its reader. Then it takes no more events, and changes collapse in the database.
const BACKLOG: usize = 64;
/// How long the reader may take for the last lines.
const FAREWELL: Duration = Duration::from_secs(1);

pub struct Lines {
    queue: mpsc::Sender<Event>,
    written: oneshot::Receiver<Result<(), CliError>>,
}

impl Lines {
    pub fn start(output: Output) -> Self {
        let (queue, mut events) = mpsc::channel(BACKLOG);
        let (ended, written) = oneshot::channel();
        // Not a task: the runtime would wait for a write that never returns.
        thread::spawn(move || {
            let mut result = Ok(());
            while result.is_ok()
                && let Some(event) = events.blocking_recv()
            {
                result = output.line(&event);
            }
            // It fails if the reader took too long, and nobody waits any more.
            drop(ended.send(result));
        });
        Self { queue, written }
    }

    /// Waits for room for one event. Safe to cancel.
    pub async fn room(&self) -> Permit<'_, Event> {
        match self.queue.reserve().await {
            Ok(room) => room,
            Err(_) => pending().await,
        }
    }

    /// Waits until no more can be written. Safe to cancel.
    pub async fn closed(&self) {
        self.queue.closed().await;
    }

    /// Waits until all of it is written, as far as the reader reads. Fails with what made it end, if anything did.
    pub async fn finish(self) -> Result<(), CliError> {
        drop(self.queue);
        match timeout(FAREWELL, self.written).await {
            Ok(Ok(result)) => result,
            _ => Ok(()),
        }
    }
}
