//! The term of a lease: from before a report is sent to before the server counts the lease as over. Pure.

use super::clock::Moment;
use std::time::Duration;

/// The clocks of two machines differ in rate: a lease is used for a hundredth less, and for the few
/// milliseconds less by which a coarse clock is late.
const RATE: u32 = 100;
const LATE: Duration = Duration::from_millis(10);

/// The lease, as the consumer counts it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Term {
    until: Option<Moment>,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// Values may be used until then.
    Until(Moment),
    /// The lease was over before the answer came, so that the server may have called a rotation converged
    /// without this consumer. It must report again, and read the revisions after that.
    TooLate,
}

impl Term {
    /// Whether the lease runs.
    pub fn is_running(self, now: Moment) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// The report that was sent then has been committed, for a lease of this length. `is_resumption` is
    /// whether it was sent without a running lease, with all keys doubted.
    pub fn answer(&mut self, sent: Moment, lease: Duration, is_resumption: bool, now: Moment) -> Answered {
        let until = sent + usable(lease);
        if now >= until || !is_resumption && !self.is_running(now) {
            self.until = None;
            return Answered::TooLate;
        }
        self.until = Some(until);
        Answered::Until(until)
    }
}

/// For how long a lease is used.
fn usable(lease: Duration) -> Duration {
    lease.saturating_sub(lease / RATE).saturating_sub(LATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_counts_from_before_the_report() {
        let mut term = Term::default();
        let Answered::Until(until) = term.answer(s(10), s(100), true, s(50)) else { panic!() };
        assert!(until < s(109) && until > s(108));
        assert!(term.is_running(s(108)) && !term.is_running(s(109)));
        assert!(matches!(term.answer(s(60), s(100), false, s(61)), Answered::Until(_)));
        assert!(term.is_running(s(158)));
    }

    #[test]
    fn an_answer_after_the_end_is_too_late() {
        let mut term = Term::default();
        term.answer(s(0), s(100), true, s(1));
        // The server may have counted the first lease as over before it got the renewal.
        assert_eq!(term.answer(s(90), s(100), false, s(120)), Answered::TooLate);
        assert!(!term.is_running(s(120)));
        assert_eq!(term.answer(s(120), s(100), false, s(121)), Answered::TooLate);
        assert!(matches!(term.answer(s(120), s(100), true, s(121)), Answered::Until(_)));
        // Later than the lease itself.
        assert_eq!(Term::default().answer(s(0), s(100), true, s(100)), Answered::TooLate);
    }
}
