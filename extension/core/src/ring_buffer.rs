//! A queue of payloads for databases, in memory of a fixed size.
//!
//! A transaction appends its entries before it commits, so that nothing can fail afterwards. Transactions
//! that change one credential wait for each other, so their entries are in commit order. An entry is sent
//! after its transaction has committed.

/// The capacity in bytes: some thousands of ordinary payloads.
pub const CAPACITY: usize = 256 * 1024;

/// The header of a payload: the state of its transaction, its database, and its length.
const HEADER: usize = size_of::<u8>() + size_of::<u32>() + size_of::<u16>();

const UNDECIDED: u8 = 0;
const COMMITTED: u8 = 1;
const ABORTED: u8 = 2;

/// The queue. Positions only grow; their remainder is the place in memory.
#[derive(Debug)]
#[repr(C)]
pub struct RingBuffer {
    read: u64,
    written: u64,
    bytes: [u8; CAPACITY],
}

/// The entries of a transaction.
#[derive(Clone, Copy, Debug)]
#[must_use = "entries that are never settled block all later entries"]
pub struct Entries {
    start: u64,
    end: u64,
}

/// Payloads from the front of the queue, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Each payload and its database.
    pub payloads: Vec<(u32, Vec<u8>)>,
    start: u64,
    end: u64,
}

impl Batch {
    /// Whether the batch takes nothing off the queue. A batch of aborted payloads takes some off, but sends
    /// none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

impl Default for RingBuffer {
    #[expect(clippy::large_stack_arrays, reason = "made once, by the postmaster, whose stack has megabytes")]
    fn default() -> Self {
        Self { read: 0, written: 0, bytes: [0; CAPACITY] }
    }
}

impl RingBuffer {
    /// Appends the payloads of a transaction that is about to commit; `None` without room for all of them.
    pub fn append<'a>(
        &mut self,
        database: u32,
        payloads: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Option<Entries> {
        let needed: usize = payloads.clone().map(|payload| HEADER + payload.len()).sum();
        if self.len() + needed > CAPACITY || payloads.clone().any(|payload| payload.len() > u16::MAX.into()) {
            return None;
        }
        let start = self.written;
        for payload in payloads {
            self.write(&[UNDECIDED]);
            self.write(&database.to_ne_bytes());
            self.write(&u16::try_from(payload.len()).ok()?.to_ne_bytes());
            self.write(payload);
        }
        Some(Entries { start, end: self.written })
    }

    /// Marks entries as committed or aborted. Returns whether they are at the front, so that the worker must
    /// wake: it finds later entries by itself.
    pub fn settle(&mut self, entries: Entries, is_committed: bool) -> bool {
        let mut position = entries.start;
        while position < entries.end {
            let (at, _) = split(position, 1);
            self.bytes[at.start] = if is_committed { COMMITTED } else { ABORTED };
            let (_, _, length) = self.read_header(&mut position);
            position += u64::from(length);
        }
        entries.start == self.read
    }

    /// Whether the queue is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.read == self.written
    }

    /// Copies the committed payloads from the front up to the first undecided entry, about `limit` bytes.
    /// They stay in the queue until `done`.
    #[must_use]
    pub fn front(&self, limit: usize) -> Batch {
        let mut batch = Batch { payloads: Vec::new(), start: self.read, end: self.read };
        let stop = self.written.min(self.read + (limit as u64));
        while batch.end < stop {
            let mut position = batch.end;
            let (state, database, length) = self.read_header(&mut position);
            if state == UNDECIDED {
                break;
            }
            let mut payload = vec![0; length.into()];
            self.read_at(&mut position, &mut payload);
            if state == COMMITTED {
                batch.payloads.push((database, payload));
            }
            batch.end = position;
        }
        batch
    }

    /// Takes a batch off the front.
    pub fn done(&mut self, batch: &Batch) {
        self.read = self.read.max(batch.end).min(self.written);
    }

    fn len(&self) -> usize {
        usize::try_from(self.written - self.read).unwrap_or(CAPACITY)
    }

    fn write(&mut self, bytes: &[u8]) {
        let (first, second) = split(self.written, bytes.len());
        self.bytes[first.clone()].copy_from_slice(&bytes[..first.len()]);
        self.bytes[..second].copy_from_slice(&bytes[first.len()..]);
        self.written += bytes.len() as u64;
    }

    fn read_at(&self, position: &mut u64, bytes: &mut [u8]) {
        let (first, second) = split(*position, bytes.len());
        let (front, back) = bytes.split_at_mut(first.len());
        front.copy_from_slice(&self.bytes[first]);
        back.copy_from_slice(&self.bytes[..second]);
        *position += (front.len() + back.len()) as u64;
    }

    fn read_array<const N: usize>(&self, position: &mut u64) -> [u8; N] {
        let mut array = [0; N];
        self.read_at(position, &mut array);
        array
    }

    fn read_header(&self, position: &mut u64) -> (u8, u32, u16) {
        let [state] = self.read_array(position);
        let database = u32::from_ne_bytes(self.read_array(position));
        (state, database, u16::from_ne_bytes(self.read_array(position)))
    }
}

/// The place of `length` bytes: a range up to the end of the memory, and how many bytes continue at its
/// beginning.
fn split(position: u64, length: usize) -> (std::ops::Range<usize>, usize) {
    let start = usize::try_from(position % (CAPACITY as u64)).unwrap_or_default();
    let first = length.min(CAPACITY - start);
    (start..start + first, length - first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter::once;

    fn ring() -> Box<RingBuffer> {
        Box::default()
    }

    fn append(ring: &mut RingBuffer, database: u32, payload: &[u8]) -> Option<Entries> {
        ring.append(database, once(payload))
    }

    fn push(ring: &mut RingBuffer, database: u32, payload: &[u8]) -> bool {
        let entries = append(ring, database, payload);
        entries.map(|entries| ring.settle(entries, true)).is_some()
    }

    #[test]
    fn payloads_come_out_as_they_went_in_and_stay_until_done() {
        let mut ring = ring();
        assert_eq!(ring.front(CAPACITY).payloads, []);
        assert!(push(&mut ring, 5, b"one") && push(&mut ring, 7, b"") && push(&mut ring, 5, b"three"));
        let expected = [(5, b"one".to_vec()), (7, b"".to_vec()), (5, b"three".to_vec())];
        let batch = ring.front(CAPACITY);
        assert_eq!(batch.payloads, expected);
        assert_eq!(ring.front(CAPACITY), batch);
        assert!(push(&mut ring, 5, b"four"));
        ring.done(&batch);
        assert_eq!(ring.front(CAPACITY).payloads, [(5, b"four".to_vec())]);
        assert_eq!(ring.front(1).payloads.len(), 1);
    }

    #[test]
    fn nothing_overtakes_what_is_undecided_and_what_is_aborted_is_gone() {
        let mut ring = ring();
        let two: [&[u8]; 2] = [b"one", b"two"];
        let first = ring.append(5, two.into_iter()).unwrap();
        let second = append(&mut ring, 5, b"three").unwrap();
        let third = append(&mut ring, 7, b"four").unwrap();
        assert!(!ring.settle(third, true));
        assert_eq!(ring.front(CAPACITY).payloads, []);
        assert!(ring.settle(first, true));
        let expected = [(5, b"one".to_vec()), (5, b"two".to_vec())];
        let batch = ring.front(CAPACITY);
        assert_eq!(batch.payloads, expected);
        ring.done(&batch);
        assert_eq!(ring.front(CAPACITY).payloads, []);
        assert!(ring.settle(second, false));
        let batch = ring.front(CAPACITY);
        assert_eq!(batch.payloads, [(7, b"four".to_vec())]);
        ring.done(&batch);
        assert!(ring.is_empty());
    }

    #[test]
    fn what_is_aborted_is_taken_off_with_nothing_to_send() {
        let mut ring = ring();
        let entries = append(&mut ring, 5, b"one").unwrap();
        ring.settle(entries, false);
        assert!(!ring.is_empty());
        let batch = ring.front(CAPACITY);
        assert_eq!(batch.payloads, []);
        assert!(!batch.is_empty());
        ring.done(&batch);
        assert!(ring.is_empty() && ring.front(CAPACITY).is_empty());
    }

    #[test]
    fn it_is_full_when_it_is_full_and_takes_all_of_a_transaction_or_nothing() {
        let mut ring = ring();
        let payload = [7_u8; 1000];
        let fitting = CAPACITY / (HEADER + payload.len());
        for number in 1..fitting {
            assert!(push(&mut ring, 1, &payload), "{number}");
        }
        assert!(ring.append(1, [&payload[..]; 2].into_iter()).is_none());
        assert!(push(&mut ring, 1, &payload));
        assert!(append(&mut ring, 1, &payload).is_none());
        assert_eq!(ring.front(CAPACITY).payloads.len(), fitting);
        ring.done(&ring.front(CAPACITY));
        assert!(push(&mut ring, 1, &payload));
        assert!(append(&mut ring, 1, &vec![0; 65_536]).is_none());
        assert!(push(&mut ring, 1, &vec![0; 65_535]));
    }

    #[test]
    fn it_goes_round_many_times() {
        let mut ring = ring();
        let mut sent = 0_u32;
        let mut received = 0_u32;
        for round in 0..2000_usize {
            for _ in 0..round % 7 {
                let payload = vec![u8::try_from(sent % 251).unwrap(); usize::try_from(sent % 2999).unwrap()];
                if push(&mut ring, sent, &payload) {
                    sent += 1;
                }
                if let Some(entries) = append(&mut ring, u32::MAX, &payload) {
                    ring.settle(entries, false);
                }
            }
            let batch = ring.front((round % 5) * 6000);
            for (number, payload) in &batch.payloads {
                assert_eq!(*number, received);
                assert_eq!(payload.len(), usize::try_from(received % 2999).unwrap());
                assert!(payload.iter().all(|&byte| u32::from(byte) == received % 251));
                received += 1;
            }
            ring.done(&batch);
        }
        assert!(sent > 3000, "{sent}");
    }
}
