//! How much a caller may do: at once, in a second, in a minute. And how many failures an address may have.

use super::refusal::Refusal;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests of a caller at once.
const CALLS_AT_ONCE: usize = 8;
const PAGES_AT_ONCE: usize = 4;
const WRITES_A_MINUTE: u32 = 60;
/// Failed logins of an address in [`FAILURE_WINDOW`].
const FAILURES: u32 = 5;
const FAILURE_WINDOW: Duration = Duration::from_mins(1);
/// Addresses that are remembered.
const ADDRESSES: usize = 10_000;

/// What a caller has left.
pub struct Allowance {
    calls_at_once: Arc<Semaphore>,
    pages_at_once: Arc<Semaphore>,
    calls: Option<Bucket>,
    writes: Bucket,
}

/// What a request is for.
#[derive(Clone, Copy)]
pub enum Door {
    Tools,
    /// The page has places of its own: a person must get in while calls wait for just that.
    Page,
}

impl Allowance {
    /// `calls_a_second` is `None` where only one person calls, over stdio.
    pub fn new(calls_a_second: Option<u32>) -> Self {
        Self {
            calls_at_once: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
            pages_at_once: Arc::new(Semaphore::new(PAGES_AT_ONCE)),
            calls: calls_a_second.map(|calls| Bucket::new(calls, Duration::from_secs(1))),
            writes: Bucket::new(WRITES_A_MINUTE, Duration::from_mins(1)),
        }
    }

    /// Takes a place.
    pub fn enter(&self, door: Door) -> Result<OwnedSemaphorePermit, Refusal> {
        let (places, count) = match door {
            Door::Tools => (&self.calls_at_once, CALLS_AT_ONCE),
            Door::Page => (&self.pages_at_once, PAGES_AT_ONCE),
        };
        let busy = |_| Refusal::rate_limited(format!("{count} calls of this caller are running"));
        places.clone().try_acquire_owned().map_err(busy)
    }

    /// Takes a call of this second.
    pub fn begin(&self) -> Result<(), Refusal> {
        match &self.calls {
            Some(calls) if !calls.take(Instant::now()) => {
                Err(Refusal::rate_limited(format!("{} calls a second are allowed", calls.size)))
            }
            _ => Ok(()),
        }
    }

    /// Takes a write of this minute.
    pub fn begin_write(&self) -> Result<(), Refusal> {
        if self.writes.take(Instant::now()) {
            return Ok(());
        }
        Err(Refusal::rate_limited(format!("{WRITES_A_MINUTE} changes a minute are allowed")))
    }
}

/// A token bucket.
struct Bucket {
    size: u32,
    /// Of one token.
    interval: Duration,
    /// When the bucket is full again.
    full_at: Mutex<Instant>,
}

impl Bucket {
    fn new(size: u32, time: Duration) -> Self {
        Self { size, interval: time / size.max(1), full_at: Mutex::new(Instant::now()) }
    }

    fn take(&self, now: Instant) -> bool {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (*full_at).max(now) + self.interval;
        let fits = next <= now + self.interval * self.size;
        if fits {
            *full_at = next;
        }
        fits
    }
}

/// The failed logins of the last minute, by address.
#[derive(Default)]
pub struct Failures(Mutex<HashMap<IpAddr, (Instant, u32)>>);

impl Failures {
    /// Whether the address has failed too often.
    pub fn are_too_many(&self, address: IpAddr, now: Instant) -> bool {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = failures.get(&network(address)).filter(|(since, _)| now < *since + FAILURE_WINDOW);
        recent.is_some_and(|(_, count)| *count >= FAILURES)
    }

    pub fn record(&self, address: IpAddr, now: Instant) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= ADDRESSES {
            failures.retain(|_, (since, _)| now < *since + FAILURE_WINDOW);
            // From so many addresses, a limit for each is of no use.
            if failures.len() >= ADDRESSES {
                failures.clear();
            }
        }
        let (since, count) = failures.entry(network(address)).or_insert((now, 0));
        if now >= *since + FAILURE_WINDOW {
            (*since, *count) = (now, 0);
        }
        *count += 1;
    }
}

/// The address itself, or of IPv6 the network of a subscriber, which has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_size_at_once_and_then_as_time_goes_by() {
        let bucket = Bucket::new(20, Duration::from_secs(1));
        let start = Instant::now() + Duration::from_secs(1);
        let taken = |now| (0..100).filter(|_| bucket.take(now)).count();
        assert_eq!(taken(start), 20);
        assert_eq!(taken(start + Duration::from_millis(100)), 2);
        assert_eq!(taken(start + Duration::from_secs(10)), 20);
    }

    #[test]
    fn five_failures_of_a_network_in_a_minute_are_too_many() {
        let failures = Failures::default();
        let start = Instant::now();
        let [first, neighbour, other] =
            ["2001:db8::1", "2001:db8::2", "192.0.2.1"].map(|text| text.parse().unwrap());
        for number in 0..5 {
            assert!(!failures.are_too_many(first, start), "{number}");
            failures.record(first, start);
        }
        assert!(failures.are_too_many(first, start) && failures.are_too_many(neighbour, start));
        assert!(!failures.are_too_many(other, start));
        assert!(!failures.are_too_many(first, start + FAILURE_WINDOW));
        failures.record(first, start + FAILURE_WINDOW);
        assert!(!failures.are_too_many(first, start + FAILURE_WINDOW), "a new minute has begun");
    }

    #[test]
    fn failures_of_any_number_of_addresses_take_bounded_memory() {
        let failures = Failures::default();
        for number in 0..3 * ADDRESSES {
            let number = u32::try_from(number).unwrap();
            failures.record(std::net::Ipv4Addr::from_bits(number).into(), Instant::now());
        }
        assert!(failures.0.lock().unwrap().len() <= ADDRESSES);
    }
}
