//! A queue of payloads in a fixed piece of memory, each for a database. Room is reserved before a transaction commits, so
//! that afterwards nothing can fail.

/// How much it holds, in bytes: some thousands of ordinary payloads.
pub const CAPACITY: usize = 256 * 1024;

/// What a payload takes beside itself: its database and its length.
const HEADER: usize = size_of::<u32>() + size_of::<u16>();

/// The queue. Positions only grow; where they stand in the memory is their remainder.
#[derive(Debug)]
#[repr(C)]
pub struct Ring {
    read: u64,
    written: u64,
    reserved: usize,
    bytes: [u8; CAPACITY],
}

/// Payloads from the front of the queue, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Each payload and its database.
    pub payloads: Vec<(u32, Vec<u8>)>,
    end: u64,
}

impl Default for Ring {
    #[expect(clippy::large_stack_arrays, reason = "made once, by the postmaster, whose stack has megabytes")]
    fn default() -> Self {
        Self { read: 0, written: 0, reserved: 0, bytes: [0; CAPACITY] }
    }
}

impl Ring {
    /// What a payload takes.
    #[must_use]
    pub const fn room_for(payload: &[u8]) -> usize {
        HEADER + payload.len()
    }

    /// Reserves room; `false` if there is not that much.
    pub fn reserve(&mut self, room: usize) -> bool {
        let fits = self.len() + self.reserved + room <= CAPACITY;
        if fits {
            self.reserved += room;
        }
        fits
    }

    /// Gives a reservation back.
    pub fn release(&mut self, room: usize) {
        self.reserved = self.reserved.saturating_sub(room);
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.read == self.written
    }

    /// Appends a payload, in room that was reserved and has just been given back.
    pub fn push(&mut self, database: u32, payload: &[u8]) {
        let Ok(length) = u16::try_from(payload.len()) else { return };
        self.write(&database.to_ne_bytes());
        self.write(&length.to_ne_bytes());
        self.write(payload);
    }

    /// Copies the payloads at the front, as many as there are in about `limit` bytes. They stay until they are `done`.
    #[must_use]
    pub fn front(&self, limit: usize) -> Batch {
        let mut batch = Batch { payloads: Vec::new(), end: self.read };
        let stop = self.read + (limit as u64);
        while batch.end < self.written.min(stop) {
            let database = u32::from_ne_bytes(self.read_array(&mut batch.end));
            let length = u16::from_ne_bytes(self.read_array(&mut batch.end));
            let mut payload = vec![0; usize::from(length)];
            self.read_at(&mut batch.end, &mut payload);
            batch.payloads.push((database, payload));
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
}

/// Where `length` bytes stand: a range up to the end of the memory, and how many go on at its beginning.
fn split(position: u64, length: usize) -> (std::ops::Range<usize>, usize) {
    let start = usize::try_from(position % (CAPACITY as u64)).unwrap_or_default();
    let first = length.min(CAPACITY - start);
    (start..start + first, length - first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> Box<Ring> {
        Box::default()
    }

    fn push(ring: &mut Ring, database: u32, payload: &[u8]) -> bool {
        let has_room = ring.reserve(Ring::room_for(payload));
        if has_room {
            ring.release(Ring::room_for(payload));
            ring.push(database, payload);
        }
        has_room
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
    fn it_is_full_when_it_is_full_and_a_reservation_counts() {
        let mut ring = ring();
        assert!(ring.reserve(CAPACITY - 1000));
        assert!(!ring.reserve(1001));
        assert!(ring.reserve(1000));
        assert!(!ring.reserve(1));
        ring.release(CAPACITY);
        let payload = [7; 1000];
        let fitting = CAPACITY / Ring::room_for(&payload);
        for number in 0..fitting {
            assert!(push(&mut ring, 1, &payload), "{number}");
        }
        assert!(!push(&mut ring, 1, &payload));
        ring.done(&ring.front(CAPACITY));
        assert!(push(&mut ring, 1, &payload));
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
            }
            let batch = ring.front((round % 5) * 3000);
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
