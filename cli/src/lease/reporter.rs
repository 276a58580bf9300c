//! The task that reports: when a key is first used, when an old value is no longer held, and in time before
//! the lease runs out.

use super::{
    Lease,
    clock::Moment,
    consumer::ConsumerId,
    exchange::{self, Answer},
    permit::Permit,
    primary::Primary,
    promises::Report,
    term::{Answered, Term},
};
use crate::{Error, backoff::Backoff, deadline::within, session::Session};
use integration_credentials_core::error::ErrorCode;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

/// Between two reports that nobody waits for.
const PAUSE: Duration = Duration::from_millis(2);
/// After a report that failed.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// A lease is renewed so many times before it could run out.
const RENEWALS: u32 = 3;
/// For the last report.
const END: Duration = Duration::from_secs(1);
/// An id whose last report has no answer is ended later. Beyond so many, the leases of the oldest run out by
/// themselves.
const MAX_LEFT: usize = 16;

/// Who holds values, and keeps the promises of a report.
pub(crate) trait Holder: Send + Sync + 'static {
    /// Makes a report. From now on, the holder keeps to it.
    fn begin(&self) -> Report;
    /// The report is committed, and `current` was read after that. If the lease had run out, nothing older
    /// than these is used again.
    fn confirm(&self, report: &Report, current: &BTreeMap<String, i64>, is_resumption: bool);
    /// Accepts no value until a later report is confirmed.
    fn doubt_all(&self);
    /// There is a lease to keep to, or there is none.
    fn set_leased(&self, is_leased: bool);
    /// Whether a report would say more than the last.
    fn has_news(&self) -> bool;
}

/// How the reporter works.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub name: String,
    /// The lease to ask for.
    pub lease: Duration,
    /// How often to report at least.
    pub interval: Duration,
    /// For the answer to a report.
    pub timeout: Duration,
}

pub(crate) struct Reporter {
    permit: Arc<Permit>,
    state: watch::Receiver<State>,
    stop: watch::Sender<bool>,
}

/// The lease of whoever forgets to end it is ended.
impl Drop for Reporter {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What came of the last report.
#[derive(Clone)]
struct State {
    /// The number of the report.
    number: u64,
    lease: Lease,
    failure: Option<Error>,
}

impl Reporter {
    pub fn start(holder: Arc<impl Holder>, permit: Arc<Permit>, primary: Primary, terms: Terms) -> Self {
        let first = Lease::Lapsed { reason: "nothing is reported yet".to_owned() };
        let (states, state) = watch::channel(State { number: 0, lease: first, failure: None });
        let (stop, stopped) = watch::channel(false);
        let granted = terms.lease;
        let work = Work {
            holder,
            permit: permit.clone(),
            primary,
            terms,
            states,
            term: Term::default(),
            granted,
            ids: Vec::new(),
            left: Vec::new(),
            session: None,
            is_leased: None,
        };
        tokio::spawn(work.run(stopped));
        Self { permit, state, stop }
    }

    /// The state of the lease.
    pub fn lease(&self) -> Lease {
        let lease = self.state.borrow().lease.clone();
        if matches!(lease, Lease::Running) && !self.permit.is_running() {
            return Lease::Lapsed { reason: "no answer in time".to_owned() };
        }
        lease
    }

    /// Whether the lease runs, or there is none to keep to.
    #[cfg(feature = "cli")]
    pub fn is_running(&self) -> bool {
        self.permit.is_running()
    }

    /// There may be something to report.
    pub fn wake(&self) {
        self.permit.wake.notify_one();
    }

    /// Waits for the outcome of a report after the one of this number.
    pub async fn report_after(&self, number: u64) -> Result<(), Error> {
        self.wake();
        let mut state = self.state.clone();
        match state.wait_for(|state| state.number > number).await {
            Ok(state) => state.failure.clone().map_or(Ok(()), Err),
            Err(_) => Err(Error::LeaseOver { reason: "the cache is closed".to_owned() }),
        }
    }

    /// Uses nothing more, and waits until the server is told, for at most a second.
    pub async fn close(&self) {
        self.stop();
        let mut state = self.state.clone();
        // Closed at the end of the task.
        while state.changed().await.is_ok() {}
    }

    /// As [`Self::close`], without waiting.
    pub fn stop(&self) {
        self.permit.end();
        self.stop.send_replace(true);
    }
}

struct Work<H> {
    holder: Arc<H>,
    permit: Arc<Permit>,
    primary: Primary,
    terms: Terms,
    states: watch::Sender<State>,
    term: Term,
    /// The lease that the server last granted.
    granted: Duration,
    /// One for each part of a report; none until the next report, after one without an answer. A key may move
    /// from part to part, because all are reported in one transaction.
    ids: Vec<ConsumerId>,
    /// The ids that were left, and when their leases are over at the latest.
    left: Vec<(Vec<ConsumerId>, Moment)>,
    session: Option<Arc<Session>>,
    /// Whether the server grants leases; `None` until known.
    is_leased: Option<bool>,
}

impl<H: Holder> Work<H> {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        tokio::select! {
            () = self.report_forever() => {}
            // Fails when the reporter is dropped.
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        self.permit.end();
        // The lease runs out by itself where the server cannot be told.
        let _ = timeout(END, self.end()).await;
    }

    async fn report_forever(&mut self) {
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        loop {
            let began = Instant::now();
            let is_resumption = !self.term.is_running(self.permit.now());
            let next = match self.report().await {
                Ok(Answered::Until(_)) => {
                    backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
                    began + self.interval()
                }
                Ok(Answered::TooLate) if !is_resumption => continue,
                // Asked again now and then: the extension may be updated, and the role granted.
                Err(_) if self.is_leased == Some(false) => began + self.terms.interval,
                Ok(Answered::TooLate) | Err(_) => Instant::now() + backoff.next_delay(),
            };
            self.wait_until(next, if self.term.is_running(self.permit.now()) { PAUSE } else { FIRST_DELAY })
                .await;
        }
    }

    fn interval(&self) -> Duration {
        self.terms.interval.min(self.granted / RENEWALS)
    }

    /// Waits until the next report is due, there is news, or another connection.
    async fn wait_until(&mut self, due: Instant, pause: Duration) {
        let pause = Instant::now() + pause;
        let wake = async {
            loop {
                self.permit.wake.notified().await;
                if self.is_leased != Some(false) && self.holder.has_news() {
                    return;
                }
            }
        };
        tokio::select! {
            () = sleep_until(due) => {}
            () = wake => sleep_until(pause.min(due)).await,
            () = self.primary.changed() => {}
        }
    }

    async fn report(&mut self) -> Result<Answered, Error> {
        let outcome = self.try_report().await;
        let lease = match &outcome {
            Ok((_, Answered::Until(_))) => Lease::Running,
            Ok((_, Answered::TooLate)) => Lease::Lapsed { reason: "the answer came too late".to_owned() },
            Err((_, error)) if self.is_leased == Some(false) => {
                Lease::Unsupported { reason: error.to_string() }
            }
            // The server counts on it, and values are used.
            Err(_) if self.term.is_running(self.permit.now()) => Lease::Running,
            Err((_, error)) => Lease::Lapsed { reason: error.to_string() },
        };
        let (number, failure) = match &outcome {
            Ok((number, Answered::Until(_))) => (*number, None),
            // Whoever waits is answered by the next report.
            Ok((number, Answered::TooLate)) => (number - 1, None),
            Err((number, error)) => (*number, (self.is_leased != Some(false)).then(|| error.clone())),
        };
        self.states.send_replace(State { number, lease, failure });
        outcome.map(|(_, answered)| answered).map_err(|(_, error)| error)
    }

    /// Returns the number of the report, too.
    async fn try_report(&mut self) -> Result<(u64, Answered), (u64, Error)> {
        let is_resumption = !self.term.is_running(self.permit.now());
        if is_resumption {
            self.holder.doubt_all();
        }
        let session = self.primary.session().await;
        // Another session may be of another server, to which some commits were lost.
        if let Ok(session) = &session
            && !self.session.as_ref().is_some_and(|before| Arc::ptr_eq(before, session))
        {
            self.session = Some(session.clone());
            self.holder.doubt_all();
        }
        let report = self.holder.begin();
        let number = report.number;
        let outcome = match session {
            Ok(session) => self.exchange(&session, &report, is_resumption).await,
            Err(error) => Err(error),
        };
        outcome.map(|answered| (number, answered)).map_err(|error| {
            self.take_failure(&error);
            (number, error)
        })
    }

    async fn exchange(
        &mut self,
        session: &Arc<Session>,
        report: &Report,
        is_resumption: bool,
    ) -> Result<Answered, Error> {
        let mut parts = exchange::parts(&report.held);
        while self.ids.len() < parts.len() {
            self.ids.push(ConsumerId::new()?);
        }
        // A report had more parts before.
        parts.resize_with(self.ids.len(), || Value::Object(Map::new()));
        let who = (&*self.ids, self.terms.name.as_str());
        let sent = self.permit.now();
        let reporting = exchange::report(session, who, &parts, &report.unconfirmed, self.terms.lease);
        let answer = within(self.terms.timeout, reporting).await;
        let Answer { lease, current } = match answer.unwrap_or_else(|late| Err(late.into())) {
            Ok(answer) => answer,
            Err(error) => {
                if !is_answer(&error) {
                    // This report may arrive later than the next.
                    self.leave(sent);
                    session.abort();
                }
                return Err(error);
            }
        };
        self.granted = lease;
        let answered = self.term.answer(sent, lease, is_resumption, self.permit.now());
        if let Answered::Until(until) = answered {
            if self.is_leased != Some(true) {
                self.is_leased = Some(true);
                self.holder.set_leased(true);
            }
            // First what may not be used again, then until when the rest may.
            self.holder.confirm(report, &current, is_resumption);
            self.permit.run_until(until);
            self.end_left(session).await;
        }
        Ok(answered)
    }

    /// Goes on with other ids. The leases of these are ended once the next have one.
    fn leave(&mut self, now: Moment) {
        let ids = std::mem::take(&mut self.ids);
        self.left.retain(|(_, over)| *over > now);
        if self.left.len() == MAX_LEFT {
            self.left.remove(0);
        }
        self.left.push((ids, now + self.terms.lease * 2));
    }

    async fn end_left(&mut self, session: &Session) {
        while let Some((ids, _)) = self.left.pop() {
            let ending = exchange::end(session, &ids, &self.terms.name);
            if !matches!(within(self.terms.timeout, ending).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// Where the server grants no leases, values are used without. Not once there was a lease: the server
    /// will forget it.
    fn take_failure(&mut self, error: &Error) {
        let is_unsupported = matches!(error, Error::ExtensionMissing { .. })
            || error.code() == Some(ErrorCode::ForbiddenAdminScope)
            || self.primary.is_unreachable();
        if self.is_leased.is_none() && is_unsupported {
            self.is_leased = Some(false);
            self.holder.set_leased(false);
            self.permit.free();
        }
    }

    async fn end(&mut self) {
        let Some(session) = self.session.clone() else { return };
        if !session.is_closed() && !self.ids.is_empty() {
            // The lease runs out by itself.
            let _ = exchange::end(&session, &self.ids, &self.terms.name).await;
            self.end_left(&session).await;
        }
    }
}

/// Whether the server has answered, so that nothing of the report is under way.
fn is_answer(error: &Error) -> bool {
    matches!(error, Error::Refused { .. } | Error::Database { .. } | Error::ExtensionMissing { .. })
}
