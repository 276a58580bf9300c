//! The values that a process has handed to others: to a command, or to a file that a command writes. They are
//! held until the next value is handed over with success.

use super::{Clock, Holder, Lease, Permit, Primary, Promises, Report, Reporter, Terms, name};
use crate::{Error, Settings, WatchOptions, Watcher, deadline::within};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The lease to ask for.
const LEASE: Duration = Duration::from_mins(5);

/// What was handed over, and its lease.
pub struct Handovers {
    book: Arc<Book>,
    reporter: Reporter,
    timeout: Duration,
}

#[derive(Default)]
struct Book(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    by_key: HashMap<String, Handed>,
    promises: Promises,
    is_leased: bool,
}

#[derive(Clone, Copy, Default)]
struct Handed {
    /// The oldest revision that may still be in use; 0 if unknown.
    oldest: Option<i64>,
    newest: i64,
}

impl Handovers {
    /// Begins to report. What an earlier process has handed over is taken for the values at the start, or
    /// `is_unknown`, where it will be replaced at once.
    #[must_use]
    pub fn start(
        watcher: &Watcher,
        settings: &Settings,
        given_name: Option<String>,
        is_unknown: bool,
    ) -> Self {
        let WatchOptions { heartbeat, timeout, .. } = WatchOptions::default();
        let mut entries = Entries { is_leased: true, ..Entries::default() };
        for (key, state) in watcher.snapshot().iter().filter(|(_, state)| state.has_credentials) {
            entries.promises.want(&key.into());
            let oldest = Some(if is_unknown { 0 } else { state.revision });
            entries.by_key.insert(key.to_owned(), Handed { oldest, newest: state.revision });
        }
        let book = Arc::new(Book(Mutex::new(entries)));
        let primary = Primary::new(settings.clone(), watcher.access(), timeout);
        let terms = Terms { name: name(given_name), lease: LEASE, interval: heartbeat, timeout };
        let permit = Arc::new(Permit::new(Clock::default()));
        let reporter = Reporter::start(book.clone(), permit, primary, terms);
        Self { book, reporter, timeout }
    }

    /// Waits until the server knows that the key is used.
    ///
    /// # Errors
    /// That of the report.
    pub async fn report(&self, key: &str) -> Result<(), Error> {
        let number = {
            let mut entries = self.book.entries();
            let number = entries.promises.want(&key.into());
            if !entries.is_leased || entries.promises.is_confirmed(key) && self.reporter.is_running() {
                return Ok(());
            }
            number
        };
        within(self.timeout, self.reporter.report_after(number)).await?
    }

    /// Before a value that was read after [`Self::report`] is handed over.
    ///
    /// # Errors
    /// [`Error::Behind`] if a later revision is known, so that this one must not be used any more.
    pub fn begin_value(&self, key: &str, revision: i64) -> Result<(), Error> {
        let known = {
            let entries = self.book.entries();
            entries.promises.floor(key).filter(|_| entries.is_leased).unwrap_or_default()
        };
        if revision < known {
            return Err(Error::Behind { key: key.to_owned(), found: revision, known });
        }
        self.begin(key, revision);
        Ok(())
    }

    /// Before a notice of this revision is handed over, whose receiver reads the value.
    pub fn begin(&self, key: &str, revision: i64) {
        let mut entries = self.book.entries();
        entries.promises.want(&key.into());
        let handed = entries.by_key.entry(key.to_owned()).or_default();
        handed.oldest = Some(handed.oldest.map_or(revision, |oldest| oldest.min(revision)));
        handed.newest = handed.newest.max(revision);
        drop(entries);
        self.reporter.wake();
    }

    /// After a value was handed over, or the notice that there is none.
    pub fn succeed(&self, key: &str, revision: Option<i64>) {
        self.book.entries().by_key.entry(key.to_owned()).or_default().oldest = revision;
        self.reporter.wake();
    }

    /// Whether there is a lease.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.reporter.lease()
    }

    /// Ends the lease, and waits for at most a second.
    pub async fn close(&self) {
        self.reporter.close().await;
    }
}

impl Book {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handed {
    fn held(by_key: &HashMap<String, Self>, key: &str) -> (Option<i64>, i64) {
        let Self { oldest, newest } = by_key.get(key).copied().unwrap_or_default();
        (oldest, newest)
    }
}

impl Holder for Book {
    fn begin(&self) -> Report {
        let Entries { by_key, promises, .. } = &mut *self.entries();
        promises.begin(|key| Handed::held(by_key, key))
    }

    /// A value that is out cannot be called back: while the lease is over, whoever got it may use it.
    fn confirm(&self, report: &Report, current: &BTreeMap<String, i64>, _: bool) {
        self.entries().promises.confirm(report, current);
    }

    fn doubt_all(&self) {
        self.entries().promises.doubt_all();
    }

    fn set_leased(&self, is_leased: bool) {
        self.entries().is_leased = is_leased;
    }

    fn has_news(&self) -> bool {
        let Entries { by_key, promises, .. } = &*self.entries();
        promises.has_news(|key| Handed::held(by_key, key))
    }
}
