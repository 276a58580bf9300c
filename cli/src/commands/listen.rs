//! `intcred listen`

use crate::{context::Context, failure::Failure, output::Output};
use intcred::{WatchOptions, Watcher};
use std::pin::pin;
use tokio::signal::unix::{SignalKind, signal};

pub async fn run(context: &Context, initial: bool) -> Result<(), Failure> {
    let settings = context.settings()?;
    let options = WatchOptions { initial, ..WatchOptions::default() };
    let mut interrupted = signal(SignalKind::interrupt()).map_err(Failure::Start)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(Failure::Start)?;
    let mut stopped = pin!(async {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    });
    let mut watcher = tokio::select! {
        started = Watcher::start(&settings, options) => started?,
        () = &mut stopped => return Ok(()),
    };
    let result = tokio::select! {
        result = print_events(&mut watcher, context.output) => result,
        () = &mut stopped => Ok(()),
    };
    watcher.close().await;
    result
}

async fn print_events(watcher: &mut Watcher, output: Output) -> Result<(), Failure> {
    while let Some(event) = watcher.recv().await {
        output.line(&event)?;
    }
    Ok(())
}
