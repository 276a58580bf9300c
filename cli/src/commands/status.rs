//! `intcred status`

use crate::{cli_error::CliError, context::Context, output::table, time::short};
use intcred::{Behind, Convergence, RotationState, RotationStatus, Timestamp};
use std::time::SystemTime;

/// The names that a line has room for.
const NAMES: usize = 3;

pub async fn run(context: &Context, key: Option<&str>) -> Result<(), CliError> {
    let client = context.connect().await?;
    let rows = client.rotation_status(key).await?;
    client.close().await;
    context.output.print(&rows, |rows| {
        let rows = rows.iter().map(|row| {
            [
                row.key.clone(),
                row.revision.to_string(),
                state(row),
                verdict(row),
                row.consumers.map_or_else(String::new, |consumers| consumers.to_string()),
                names(&row.behind).unwrap_or_default(),
            ]
        });
        table(["KEY", "REVISION", "STATE", "VERDICT", "CONSUMERS", "BEHIND"], rows)
    })
}

fn state(row: &RotationStatus) -> String {
    match (row.state, row.previous_until, &row.pending_actor) {
        (RotationState::Steady, ..) => "steady".to_owned(),
        (RotationState::Removed, None, _) => "removed".to_owned(),
        (RotationState::Removed, Some(until), _) => format!("removed, kept for {}", time_left(until)),
        (RotationState::Staged, _, None) => "staged".to_owned(),
        (RotationState::Staged, _, Some(actor)) => format!("staged by {actor}"),
        (RotationState::Rotating, None, _) => "rotating".to_owned(),
        (RotationState::Rotating, Some(until), _) => {
            format!("rotating, old value kept for {}", time_left(until))
        }
    }
}

fn time_left(Timestamp(until): Timestamp) -> String {
    short(until.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Whether every consumer uses the current value, in words.
pub fn verdict(row: &RotationStatus) -> String {
    match row.verdict {
        Convergence::Converged => "no one uses an older value".to_owned(),
        Convergence::Waiting => format!("{} may use an older value", row.behind.len()),
        Convergence::Unknown => format!("unknown: {}", row.reason.as_deref().unwrap_or("no reason given")),
    }
}

/// The first few who are behind; `None` if there is no one.
pub fn names(behind: &[Behind]) -> Option<String> {
    if behind.is_empty() {
        return None;
    }
    let first: Vec<_> = behind.iter().take(NAMES).map(Behind::name).collect();
    let more = match behind.len().saturating_sub(NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(first.join(", ") + &more)
}
