//! Which databases have maintenance to do, and which of them have a worker: in memory of a fixed size.
//!
//! A request gives a database a slot. The database keeps the slot until a worker has found nothing more to do.
//! Times are microseconds of a clock that never goes back, so that a corrected clock stops no maintenance.

/// How many databases may have work at once. A request beyond that is dropped, and the next one tries again.
pub const DATABASES: usize = 256;
/// How many jobs a slot has room for.
pub const JOBS: usize = 4;
/// How many workers run at once. Each takes one of `max_worker_processes`.
pub const WORKERS: usize = 3;

const SECOND: i64 = 1_000_000;
/// From a request to the launch, so that one worker serves the requests of a moment.
pub const DELAY: i64 = SECOND / 2;
/// How long a launched worker has to arrive.
const ARRIVAL: i64 = 30 * SECOND;
const LONGEST_BACKOFF: i64 = 300 * SECOND;

/// The board.
#[derive(Debug)]
pub struct Board {
    slots: [Slot; DATABASES],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Free,
    /// To be launched when `due`.
    Wanted,
    /// Expected until `due`.
    Launched,
    Running,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    database: u32,
    state: State,
    due: i64,
    process: i32,
    /// Whether a request came since the worker's last round began.
    is_requested: bool,
    worker: Backoff,
    jobs: [Backoff; JOBS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Backoff {
    failures: u32,
    until: i64,
}

impl Backoff {
    /// 1 s after the first failure, doubled with each, up to five minutes.
    fn fail(&mut self, now: i64) {
        self.failures = self.failures.saturating_add(1);
        let seconds = SECOND.saturating_mul(1 << (self.failures - 1).min(16));
        self.until = now + seconds.min(LONGEST_BACKOFF);
    }
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ended {
    /// By an error, a signal, or before it had connected.
    #[default]
    Early,
    /// With more to do, to make room for another database.
    WithMore,
    /// With nothing more to do.
    Idle,
}

impl Default for Board {
    #[expect(clippy::large_stack_arrays, reason = "made once, by the postmaster, whose stack has megabytes")]
    fn default() -> Self {
        Self { slots: [Slot::default(); DATABASES] }
    }
}

impl Board {
    /// Asks for a worker. Returns whether the launcher must look at the board.
    pub fn request(&mut self, database: u32, now: i64) -> bool {
        let Some(slot) = self.slot_or_new(database) else { return false };
        slot.is_requested = true;
        let due = slot.worker.until.max(now + DELAY);
        match slot.state {
            State::Wanted if due >= slot.due => false,
            State::Free | State::Wanted => {
                slot.state = State::Wanted;
                slot.due = due;
                true
            }
            State::Launched | State::Running => false,
        }
    }

    /// The database whose worker is to be launched now: the one that has waited longest.
    pub fn launch(&mut self, now: i64) -> Option<u32> {
        let late = |slot: &&mut Slot| slot.state == State::Launched && slot.due <= now;
        self.slots.iter_mut().filter(late).for_each(|slot| slot.retry(now));
        if self.workers() >= WORKERS {
            return None;
        }
        let due = self.slots.iter_mut().filter(|slot| slot.state == State::Wanted && slot.due <= now);
        due.min_by_key(|slot| slot.due).map(|slot| {
            slot.state = State::Launched;
            slot.due = now + ARRIVAL;
            slot.database
        })
    }

    /// Notes that a worker could not be launched. Returns whether it is the first time in a row.
    pub fn not_launched(&mut self, database: u32, now: i64) -> bool {
        self.slot(database).is_some_and(|slot| {
            slot.retry(now);
            slot.worker.failures == 1
        })
    }

    /// In how many microseconds `launch` may have something to return; `None` before a request or the end of a
    /// worker.
    #[must_use]
    pub fn wait(&self, now: i64) -> Option<i64> {
        let has_room = self.workers() < WORKERS;
        let counts = |slot: &&Slot| match slot.state {
            State::Wanted => has_room,
            State::Launched => true,
            State::Free | State::Running => false,
        };
        self.slots.iter().filter(counts).map(|slot| (slot.due - now).max(0)).min()
    }

    /// Forgets a database that was dropped.
    pub fn forget(&mut self, database: u32) {
        if let Some(slot) = self.slot(database) {
            *slot = Slot::default();
        }
    }

    /// Registers a worker; `false` if the database has one.
    pub fn arrive(&mut self, database: u32, process: i32) -> bool {
        let Some(slot) = self.slot_or_new(database) else { return false };
        let is_only = slot.state != State::Running;
        if is_only {
            slot.state = State::Running;
            slot.process = process;
        }
        is_only
    }

    /// Begins a round of a worker: requests from here on may have come too late for it.
    pub fn begin_round(&mut self, database: u32) {
        if let Some(slot) = self.slot(database) {
            slot.is_requested = false;
        }
    }

    /// Whether a job may run, as far as its last failure allows.
    #[must_use]
    pub fn may_run(&self, database: u32, job: usize, now: i64) -> bool {
        let slot = self.slots.iter().find(|slot| slot.is_of(database));
        slot.and_then(|slot| slot.jobs.get(job)).is_some_and(|backoff| backoff.until <= now)
    }

    /// Notes that a job ran.
    pub fn ran(&mut self, database: u32, job: usize) {
        if let Some(backoff) = self.slot(database).and_then(|slot| slot.jobs.get_mut(job)) {
            *backoff = Backoff::default();
        }
    }

    /// Notes that a job failed. Returns whether it is the first time in a row.
    pub fn failed(&mut self, database: u32, job: usize, now: i64) -> bool {
        self.slot(database).and_then(|slot| slot.jobs.get_mut(job)).is_some_and(|backoff| {
            backoff.fail(now);
            backoff.failures == 1
        })
    }

    /// Whether another database waits for one of the workers to end.
    #[must_use]
    pub fn is_contended(&self, now: i64) -> bool {
        let waits = |slot: &Slot| slot.state == State::Wanted && slot.due <= now;
        self.workers() >= WORKERS && self.slots.iter().any(waits)
    }

    /// Takes a worker off the board. Returns whether the launcher must look at the board.
    pub fn leave(&mut self, database: u32, process: i32, ended: Ended, now: i64) -> bool {
        let Some(slot) = self.slot(database).filter(|slot| slot.process == process) else { return false };
        if slot.state != State::Running {
            return false;
        }
        if ended == Ended::Early {
            slot.retry(now);
            return true;
        }
        slot.worker = Backoff::default();
        let retries = slot.jobs.iter().filter(|job| job.failures > 0).map(|job| job.until);
        let due = if ended == Ended::WithMore || slot.is_requested {
            // After those that wait.
            Some(now + DELAY)
        } else {
            retries.min()
        };
        match due {
            Some(due) => {
                slot.state = State::Wanted;
                slot.due = due;
            }
            None => *slot = Slot::default(),
        }
        true
    }

    fn workers(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot.state, State::Launched | State::Running)).count()
    }

    fn slot(&mut self, database: u32) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.is_of(database))
    }

    fn slot_or_new(&mut self, database: u32) -> Option<&mut Slot> {
        let its = self.slots.iter().position(|slot| slot.is_of(database));
        let place = its.or_else(|| self.slots.iter().position(|slot| slot.state == State::Free))?;
        let slot = self.slots.get_mut(place)?;
        slot.database = database;
        Some(slot)
    }
}

impl Slot {
    fn is_of(&self, database: u32) -> bool {
        self.state != State::Free && self.database == database
    }

    fn retry(&mut self, now: i64) {
        self.worker.fail(now);
        self.state = State::Wanted;
        self.due = self.worker.until;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Box<Board> {
        Box::default()
    }

    #[test]
    fn a_request_is_launched_after_a_while_and_once() {
        let mut board = board();
        assert_eq!((board.launch(0), board.wait(0)), (None, None));
        assert!(board.request(7, 0));
        assert!(!board.request(7, 10));
        assert_eq!((board.launch(0), board.wait(0)), (None, Some(DELAY)));
        assert_eq!(board.launch(DELAY), Some(7));
        assert_eq!(board.launch(DELAY), None);
        assert!(!board.request(7, DELAY));
        assert!(board.arrive(7, 1));
        assert!(!board.arrive(7, 2));
        assert_eq!(board.wait(DELAY), None);
        board.begin_round(7);
        assert!(!board.leave(7, 2, Ended::Idle, DELAY));
        assert!(board.leave(7, 1, Ended::Idle, DELAY));
        assert_eq!((board.launch(i64::MAX / 2), board.wait(0)), (None, None));
    }

    #[test]
    fn a_request_during_the_last_round_is_not_lost() {
        let mut board = board();
        board.request(7, 0);
        board.launch(DELAY);
        board.arrive(7, 1);
        board.begin_round(7);
        assert!(!board.request(7, DELAY));
        assert!(board.leave(7, 1, Ended::Idle, SECOND));
        assert_eq!(board.launch(SECOND + DELAY), Some(7));
    }

    #[test]
    fn a_worker_that_fails_comes_back_ever_later() {
        let mut board = board();
        let mut now = 0;
        board.request(7, now);
        let mut waits = Vec::new();
        for _ in 0..20 {
            now += board.wait(now).unwrap();
            assert_eq!(board.launch(now), Some(7));
            board.arrive(7, 1);
            assert!(board.leave(7, 1, Ended::Early, now));
            // A request does not hurry a worker that cannot connect.
            board.request(7, now);
            waits.push(board.wait(now).unwrap() / SECOND);
        }
        assert_eq!(waits[..4], [1, 2, 4, 8]);
        assert_eq!(waits.last(), Some(&300));
        // One that does not arrive counts as failed, and so does one that cannot be launched.
        now += board.wait(now).unwrap();
        assert_eq!(board.launch(now), Some(7));
        assert_eq!(board.launch(now + ARRIVAL), None);
        assert_eq!(board.wait(now + ARRIVAL), Some(300 * SECOND));
        now += ARRIVAL + 300 * SECOND;
        assert_eq!(board.launch(now), Some(7));
        assert!(!board.not_launched(7, now));
        assert_eq!(board.wait(now), Some(300 * SECOND));
    }

    #[test]
    fn a_job_that_fails_waits_alone() {
        let mut board = board();
        board.request(7, 0);
        board.launch(DELAY);
        board.arrive(7, 1);
        board.begin_round(7);
        assert!(board.failed(7, 0, 0));
        assert!(!board.may_run(7, 0, 0) && board.may_run(7, 1, 0) && board.may_run(7, 0, SECOND));
        assert!(!board.may_run(7, JOBS, SECOND));
        assert!(!board.failed(7, 0, SECOND));
        assert!(board.leave(7, 1, Ended::Idle, SECOND));
        assert_eq!(board.wait(SECOND), Some(2 * SECOND));
        // Work of another job is done at once, and the failure is kept.
        assert!(board.request(7, SECOND));
        assert_eq!(board.wait(SECOND), Some(DELAY));
        board.launch(SECOND + DELAY);
        board.arrive(7, 2);
        assert!(!board.may_run(7, 0, SECOND + DELAY));
        board.begin_round(7);
        board.ran(7, 0);
        assert!(board.leave(7, 2, Ended::Idle, 2 * SECOND));
        assert_eq!(board.wait(2 * SECOND), None);
    }

    #[test]
    fn workers_are_few_and_databases_take_turns() {
        let mut board = board();
        for database in 1..=5 {
            board.request(database, i64::from(database));
        }
        let launched: Vec<_> = std::iter::from_fn(|| board.launch(SECOND)).collect();
        assert_eq!(launched, [1, 2, 3]);
        assert!(board.is_contended(SECOND));
        assert!(launched.iter().all(|&database| board.arrive(database, 1)));
        assert_eq!(board.wait(SECOND), None);
        for database in launched {
            assert!(board.leave(database, 1, Ended::WithMore, SECOND));
            board.launch(SECOND).into_iter().for_each(|next| assert!(next > 3 && board.arrive(next, 1)));
        }
        assert!(!board.is_contended(SECOND));
        assert_eq!(board.launch(2 * SECOND), Some(1));
    }

    #[test]
    fn a_full_board_drops_requests_until_there_is_room() {
        let mut board = board();
        let all = u32::try_from(DATABASES).unwrap();
        assert!((1..=all).all(|database| board.request(database, 0)));
        assert!(!board.request(all + 1, 0) && !board.arrive(all + 1, 1));
        board.forget(1);
        assert!(board.request(all + 1, 0));
        assert!(!board.leave(1, 1, Ended::Idle, 0) && !board.failed(1, 0, 0) && !board.not_launched(1, 0));
    }
}
