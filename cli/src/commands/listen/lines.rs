//! The events on standard output, written by a thread of their own: a reader that stalls must not delay
//! signals, hooks and the watchdog.

use super::{expiry::Notice, heads};
use crate::{cli_error::CliError, output::Output};
use intcred::Event;
use serde::Serialize;
use std::{future::pending, thread, time::Duration};
use tokio::{
    sync::{
        mpsc::{self, Permit},
        oneshot,
    },
    time::timeout,
};

/// The events queued for a slow reader. Beyond, further changes collapse in the watcher.
const BACKLOG: usize = 64;
/// How long the reader may take for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// What a line reports.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Line {
    Event(Event),
    Notice(Notice),
    Head(Box<heads::Notice>),
}

pub struct Lines {
    queue: mpsc::Sender<Line>,
    written: oneshot::Receiver<Result<(), CliError>>,
}

impl Lines {
    pub fn start(output: Output) -> Self {
        let (queue, mut events) = mpsc::channel(BACKLOG);
        let (ended, written) = oneshot::channel();
        // No task, because the runtime would wait for a write that never returns.
        thread::spawn(move || {
            let mut result = Ok(());
            while result.is_ok()
                && let Some(event) = events.blocking_recv()
            {
                result = output.line(&event);
            }
            // Fails if `finish` gave up waiting for the reader.
            drop(ended.send(result));
        });
        Self { queue, written }
    }

    /// Waits for a place in the queue. Safe to cancel.
    pub async fn reserve(&self) -> Permit<'_, Line> {
        match self.queue.reserve().await {
            Ok(room) => room,
            Err(_) => pending().await,
        }
    }

    /// Waits until the reader is gone. Safe to cancel.
    pub async fn closed(&self) {
        self.queue.closed().await;
    }

    /// Waits until the queued events are written, for at most a second. Returns the error that ended the
    /// output.
    pub async fn finish(self) -> Result<(), CliError> {
        drop(self.queue);
        match timeout(FLUSH_TIMEOUT, self.written).await {
            Ok(Ok(result)) => result,
            _ => Ok(()),
        }
    }
}
