//! How much time may be spent.

use std::{
    env,
    time::{Duration, Instant},
};

/// The whole measurement, or with `QUICK=1` the shortest that still says something.
pub struct Effort {
    /// Whether growth is measured, too, and what else takes long.
    pub full: bool,
    /// How often each side has its turn.
    pub rounds: usize,
    deadline: Instant,
}

impl Effort {
    /// As the environment says. The clock starts.
    pub fn from_environment() -> Self {
        let quick = env::var("QUICK").is_ok_and(|quick| !quick.is_empty() && quick != "0");
        let (full, rounds, minutes) = if quick { (false, 5, 3) } else { (true, 8, 15) };
        Self { full, rounds, deadline: Instant::now() + Duration::from_mins(minutes) }
    }

    /// How long a turn takes, in seconds. Many sessions need longer until each is past its first calls.
    pub fn seconds(&self, clients: u16) -> u16 {
        if self.full && clients > 1 { 2 } else { 1 }
    }

    /// What is left.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
