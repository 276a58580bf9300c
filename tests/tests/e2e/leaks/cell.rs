//! A cell of the matrix, and how its call is made.

use super::{
    call::Call,
    caller::{Caller, Failed},
    outcomes::{End, Outcome},
    ways::{Step, Way},
};
use integration_credentials_core::seal::{self, SealingKey, Terms};
use std::time::{SystemTime, UNIX_EPOCH};
use tests::{Canary, Database};

/// One way to call with one outcome, and a secret of its own.
pub struct Cell {
    pub way: Way,
    pub outcome: Outcome,
    pub canary: Canary,
    /// Who calls, and the org. No other cell has it: `pg_stat_statements` keeps a statement of each shape and role once,
    /// so that of two cells with one role only the first would be seen.
    pub role: String,
}

impl Cell {
    /// A cell, unless the value never gets to the server in it.
    pub fn new(way: Way, outcome: Outcome, number: usize) -> Option<Self> {
        let role = format!("cell_{number}");
        outcome.can_be_of(&way).then(|| Self { way, outcome, canary: Canary::new(), role })
    }

    pub fn name(&self) -> String {
        format!("{} / {}", self.way.name, self.outcome.name)
    }

    /// Makes the call. `between` is done after each step that another one follows.
    pub async fn call(
        &self,
        database: &Database,
        to: &SealingKey,
        between: impl AsyncFn(),
    ) -> (Caller, Result<(), Failed>) {
        let mut caller = Caller::new(database, &self.role).await;
        let terms = Terms { org: &self.role, key: self.outcome.key, role: &self.role };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let sealed = seal::seal(to, terms, now, self.canary.as_str()).unwrap();
        let call = Call {
            spelling: self.way.spelling,
            quote: self.way.quote,
            fault: self.outcome.fault,
            key: self.outcome.key,
            value: self.canary.as_str(),
            sealed: &sealed,
        };
        let mut steps = (self.way.steps)(&call);
        let last = steps.pop();
        let before = self.outcome.before.iter().map(|sql| Step::Try(sql));
        let mut steps = steps.into_iter().chain(before).chain(last).peekable();
        while let Some(step) = steps.next() {
            if let Err(error) = caller.take(step, &call).await {
                return (caller, Err(error));
            }
            if steps.peek().is_some() {
                between().await;
            }
        }
        (caller, Ok(()))
    }

    /// Whether the call ended as it should.
    pub fn expects(&self, ended: &Result<(), Failed>) -> bool {
        match ended {
            Ok(()) => self.outcome.sqlstates.is_empty() && self.outcome.end != End::Killed,
            Err(Failed::Lost) => matches!(self.outcome.end, End::Killed | End::Terminated),
            Err(Failed::Refused(sqlstate)) => self.outcome.sqlstates.contains(&sqlstate.as_str()),
        }
    }
}
