//! What a consumer has promised to the server, key by key. Pure: no network and no clock.
//!
//! A report names, for each key, the oldest revision that is still held, and the newest that is known. From
//! the moment that the report is sent, the consumer accepts no older value than that newest one. A value of a
//! key is accepted only once a report with that key is committed, and the key's revision was read after that
//! commit: a verdict from before the commit, which did not know of this consumer, is about that revision or
//! an older one.

use std::{collections::BTreeMap, sync::Arc};

/// By key, the oldest revision that is held and the newest that is known.
pub(crate) type Held = BTreeMap<Arc<str>, [i64; 2]>;

/// What is reported, and the keys whose revision must be read after the report is committed.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub number: u64,
    pub held: Held,
    pub unconfirmed: Vec<Arc<str>>,
}

#[derive(Default)]
pub(crate) struct Promises {
    by_key: BTreeMap<Arc<str>, Promise>,
    /// Of the last report that was begun.
    number: u64,
    /// As the server last confirmed it.
    confirmed: Option<Held>,
}

#[derive(Default)]
struct Promise {
    /// No older value is accepted.
    floor: i64,
    is_confirmed: bool,
    /// Only a later report can confirm the promise.
    doubted_in: u64,
}

impl Promises {
    /// Promises to report the key. Returns the number of a report, of which any later one confirms the
    /// promise: the next, or one that is under way.
    pub fn want(&mut self, key: &Arc<str>) -> u64 {
        match self.by_key.get(key) {
            Some(promise) if promise.is_confirmed => self.number,
            Some(promise) => promise.doubted_in,
            None => {
                let promise = Promise { doubted_in: self.number, ..Promise::default() };
                self.by_key.insert(key.clone(), promise);
                self.number
            }
        }
    }

    /// Accepts no value of the key until a later report is confirmed: the database has gone back.
    pub fn doubt(&mut self, key: &str) {
        if let Some(promise) = self.by_key.get_mut(key) {
            *promise = Promise { doubted_in: self.number, ..Promise::default() };
        }
    }

    /// Doubts every key: the lease has run out, or another server may answer.
    pub fn doubt_all(&mut self) {
        for promise in self.by_key.values_mut() {
            *promise = Promise { doubted_in: self.number, ..Promise::default() };
        }
        self.confirmed = None;
    }

    /// Of the last report.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// No longer reports the key.
    pub fn forget(&mut self, key: &str) {
        self.by_key.remove(key);
    }

    pub fn is_confirmed(&self, key: &str) -> bool {
        self.by_key.get(key).is_some_and(|promise| promise.is_confirmed)
    }

    /// The oldest revision of which a value is accepted; `None` while no value is.
    pub fn floor(&self, key: &str) -> Option<i64> {
        self.by_key.get(key).filter(|promise| promise.is_confirmed).map(|promise| promise.floor)
    }

    /// Makes a report. `held` returns the oldest revision that is held, where one is, and the newest that is
    /// known.
    pub fn begin(&mut self, held: impl Fn(&str) -> (Option<i64>, i64)) -> Report {
        self.number += 1;
        let mut report = Report { number: self.number, held: Held::new(), unconfirmed: Vec::new() };
        for (key, promise) in &mut self.by_key {
            let [oldest, newest] = Self::of(promise, held(key));
            promise.floor = newest;
            report.held.insert(key.clone(), [oldest, newest]);
            if !promise.is_confirmed {
                report.unconfirmed.push(key.clone());
            }
        }
        report
    }

    fn of(promise: &Promise, (oldest, newest): (Option<i64>, i64)) -> [i64; 2] {
        let newest = newest.max(promise.floor);
        [oldest.unwrap_or(newest).min(newest), newest]
    }

    /// Whether a report would say more than the last that was confirmed.
    pub fn has_news(&self, held: impl Fn(&str) -> (Option<i64>, i64)) -> bool {
        let Some(confirmed) = &self.confirmed else { return true };
        confirmed.len() != self.by_key.len()
            || self.by_key.iter().any(|(key, promise)| {
                !promise.is_confirmed || confirmed.get(key) != Some(&Self::of(promise, held(key)))
            })
    }

    /// The report is committed, and `current` was read after that.
    pub fn confirm(&mut self, report: &Report, current: &BTreeMap<String, i64>) {
        for key in &report.unconfirmed {
            if let Some(promise) =
                self.by_key.get_mut(key).filter(|promise| report.number > promise.doubted_in)
            {
                promise.is_confirmed = true;
                promise.floor = promise.floor.max(current.get(&**key).copied().unwrap_or_default());
            }
        }
        self.confirmed = Some(report.held.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current(revision: i64) -> BTreeMap<String, i64> {
        [("k".to_owned(), revision)].into()
    }

    /// Promises in which `k` is confirmed at this revision.
    fn confirmed(revision: i64) -> Promises {
        let mut promises = Promises::default();
        promises.want(&"k".into());
        let report = promises.begin(|_| (None, 0));
        promises.confirm(&report, &current(revision));
        promises
    }

    #[test]
    fn a_key_is_used_once_its_report_is_confirmed() {
        let mut promises = Promises::default();
        let early = promises.begin(|_| (None, 0));
        assert_eq!(promises.want(&"k".into()), early.number);
        // The answer to a report without the key says nothing of it.
        promises.confirm(&early, &current(9));
        assert_eq!(promises.floor("k"), None);
        let report = promises.begin(|_| (None, 3));
        // Who asks now waits for that one.
        assert_eq!(promises.want(&"k".into()), early.number);
        assert_eq!((report.held["k"], report.unconfirmed.len()), ([3, 3], 1));
        assert_eq!(promises.floor("k"), None);
        promises.confirm(&report, &current(5));
        assert_eq!(promises.floor("k"), Some(5));
        // The floor is news for the server.
        assert!(promises.has_news(|_| (None, 3)));
        let report = promises.begin(|_| (None, 3));
        assert_eq!((report.held["k"], report.unconfirmed.len()), ([5, 5], 0));
        promises.confirm(&report, &BTreeMap::new());
        assert!(!promises.has_news(|_| (None, 3)) && promises.has_news(|_| (None, 6)));
    }

    #[test]
    fn what_is_reported_as_newest_is_the_floor_from_the_sending_on() {
        let mut promises = confirmed(5);
        let report = promises.begin(|_| (Some(5), 6));
        assert_eq!(report.held["k"], [5, 6]);
        assert_eq!(promises.floor("k"), Some(6));
        let report = promises.begin(|_| (None, 6));
        assert_eq!(report.held["k"], [6, 6]);
    }

    #[test]
    fn a_doubted_key_needs_a_later_report() {
        let mut promises = confirmed(5);
        let in_flight = promises.begin(|_| (None, 5));
        promises.doubt("k");
        promises.confirm(&in_flight, &current(5));
        assert_eq!(promises.floor("k"), None);
        let report = promises.begin(|_| (None, 4));
        assert_eq!(report.held["k"], [4, 4]);
        promises.confirm(&report, &current(4));
        assert_eq!(promises.floor("k"), Some(4));
        promises.doubt_all();
        assert!(promises.floor("k").is_none() && promises.has_news(|_| (None, 4)));
    }
}
