//! `intcred keyring reencrypt`

use crate::{cli_error::CliError, context::Context, output::table};
use intcred::{Client, Error, Reencrypted, Unreadable};
use std::{
    io::{IsTerminal, Write as _, stderr},
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval};

const REFRESH: Duration = Duration::from_millis(250);
const BAR: usize = 30;

pub async fn run(context: &Context, batch: i32) -> Result<(), CliError> {
    let client = context.connect().await?;
    let result = if stderr().is_terminal() {
        with_bar(context, &client, batch).await?
    } else {
        client.reencrypt(batch).await?
    };
    client.close().await;
    context.output.print(&result, human)?;
    if result.unreadable == 0 {
        return Ok(());
    }
    Err(CliError::Keys {
        what: format!("{} credential(s) cannot be decrypted, and stay as they are", result.unreadable),
        remedy: "`intcred keyring check` names them all, and why. Put the key back, or set the credentials again.",
    })
}

/// Shows the progress, which a second connection reads, on the terminal.
async fn with_bar(context: &Context, client: &Client, batch: i32) -> Result<Reencrypted, CliError> {
    let (pid, observer) = (client.backend_pid().await?, context.connect().await?);
    let observe = async {
        let mut ticks = interval(REFRESH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Ok(runs) = observer.reencrypt_progress().await else {
                return std::future::pending::<()>().await;
            };
            if let Some(run) = runs.iter().find(|run| run.pid == pid) {
                show(&bar(run.done, run.total));
            }
        }
    };
    let result: Result<_, Error> = tokio::select! {
        result = client.reencrypt(batch) => result,
        () = observe => Err(Error::Unexpected("the progress has ended".to_owned())),
    };
    show("");
    observer.close().await;
    Ok(result?)
}

/// Replaces the line. An error is ignored: the run goes on without a reader.
fn show(line: &str) {
    let _ = write!(stderr(), "\r\x1b[K{line}");
}

fn bar(done: i64, total: i64) -> String {
    let total = total.max(done).max(1);
    let part = |of: usize| usize::try_from(i128::from(done) * of as i128 / i128::from(total)).unwrap_or(0);
    let filled = part(BAR);
    format!("[{}{}] {:>3} %  {done} of {total} rows", "#".repeat(filled), "-".repeat(BAR - filled), part(100))
}

fn human(result: &Reencrypted) -> String {
    let line = format!("{} row(s) reencrypted with key {}", result.rows, result.key_id);
    if result.named.is_empty() { line } else { format!("{line}\n{}", unreadable(&result.named)) }
}

/// A table of ciphertexts that cannot be decrypted.
pub fn unreadable(rows: &[Unreadable]) -> String {
    let rows = rows.iter().map(|row| {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        [row.org.clone(), row.key.clone(), row.which.clone(), or_none(&row.key_id), or_none(&row.error)]
    });
    table(["ORG", "KEY", "WHICH", "NEEDS KEY", "ERROR"], rows)
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn bar_fills_and_never_overflows() {
        assert_eq!(bar(0, 0), format!("[{}]   0 %  0 of 1 rows", "-".repeat(30)));
        assert_eq!(bar(500, 1000), format!("[{}{}]  50 %  500 of 1000 rows", "#".repeat(15), "-".repeat(15)));
        assert_eq!(bar(1001, 1000), format!("[{}] 100 %  1001 of 1001 rows", "#".repeat(30)));
    }
}
