//! The ids that are unsettled: a row may still come for them, because a transaction that is running or prepared
//! has drawn them, or because nobody has drawn them yet.

/// Ids, as ranges in ascending order that neither overlap nor touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids(Vec<(i64, i64)>);

impl Default for Ids {
    /// All ids: those of a log without blocks.
    fn default() -> Self {
        Self(vec![(i64::MIN, i64::MAX)])
    }
}

impl Ids {
    /// Reads the first and the last id of each range; `None` if they are in another order.
    #[must_use]
    pub fn parse(ends: &[i64]) -> Option<Self> {
        let (pairs, rest) = ends.as_chunks::<2>();
        let ranges: Vec<_> = pairs.iter().map(|&[first, last]| (first, last)).collect();
        let is_ascending = ranges.windows(2).all(|pair| pair[0].1 < pair[1].0)
            && ranges.iter().all(|&(first, last)| first <= last);
        (rest.is_empty() && is_ascending).then_some(Self(ranges))
    }

    /// What [`Self::parse`] reads.
    #[must_use]
    pub fn ends(&self) -> Vec<i64> {
        self.0.iter().flat_map(|&(first, last)| [first, last]).collect()
    }

    /// The ranges, each by its first and last id.
    #[must_use]
    pub fn ranges(&self) -> &[(i64, i64)] {
        &self.0
    }

    /// Whether an id is among them.
    #[must_use]
    pub fn contain(&self, id: i64) -> bool {
        let after = self.0.partition_point(|&(first, _)| first <= id);
        after.checked_sub(1).is_some_and(|index| self.0[index].1 >= id)
    }

    /// Adds a range that is above all others.
    fn push(&mut self, first: i64, last: i64) {
        match self.0.last_mut() {
            Some(range) if range.1.checked_add(1) == Some(first) => range.1 = last,
            _ => self.0.push((first, last)),
        }
    }
}

/// What a row that exists is to its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The row goes into a block.
    Sealed,
    /// Its transaction is not over, or its key is unknown.
    Waits,
    /// The row never goes into a block.
    Ignored,
}

/// The ids that remain unsettled, found while the rows that exist for unsettled ids are visited in ascending order.
/// An id without a row is settled if it is not above the horizon: then no row will come for it.
#[derive(Debug)]
pub struct Remains {
    horizon: Option<i64>,
    ids: Ids,
    /// The first id of the range that is dealt with by no visit yet; `None` if there is none.
    next: Option<i64>,
}

impl Remains {
    /// With this horizon; `None` settles nothing.
    #[must_use]
    pub fn new(horizon: Option<i64>) -> Self {
        Self { horizon, ids: Ids(Vec::new()), next: None }
    }

    /// How many ranges there are so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.0.len()
    }

    /// Whether there is none so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.0.is_empty()
    }

    /// Begins a range.
    pub fn begin(&mut self, first: i64) {
        self.next = Some(first);
    }

    /// Takes a row within the range. Rows of one id may be several.
    pub fn take(&mut self, id: i64, fate: Fate) {
        let Some(next) = self.next.filter(|next| *next <= id && fate != Fate::Ignored) else { return };
        if let Some(before) = id.checked_sub(1) {
            self.keep_undrawn(next, before);
        }
        if fate == Fate::Waits {
            self.ids.push(id, id);
        }
        self.next = id.checked_add(1);
    }

    /// Ends the range.
    pub fn end(&mut self, last: i64) {
        if let Some(next) = self.next.take() {
            self.keep_undrawn(next, last);
        }
    }

    /// Ends a range of which no more rows are visited from `id` on: all of it remains. So do the ranges behind it.
    pub fn stop(&mut self, id: i64, last: i64, behind: &[(i64, i64)]) {
        if let Some(next) = self.next.take() {
            if let Some(before) = id.checked_sub(1) {
                self.keep_undrawn(next, before);
            }
            if next.max(id) <= last {
                self.ids.push(next.max(id), last);
            }
        }
        self.ids.0.extend_from_slice(behind);
    }

    /// The ids that remain.
    #[must_use]
    pub fn ids(self) -> Ids {
        self.ids
    }

    /// Keeps a range without rows, as far as it is above the horizon.
    fn keep_undrawn(&mut self, first: i64, last: i64) {
        let above = match self.horizon {
            Some(horizon) => horizon.checked_add(1),
            None => Some(i64::MIN),
        };
        if let Some(first) = above.map(|above| above.max(first)).filter(|first| *first <= last) {
            self.ids.push(first, last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn ranges_in_another_order_are_refused() {
        for ends in [&[1][..], &[2, 1], &[1, 3, 3, 4], &[5, 6, 1, 2]] {
            assert_eq!(Ids::parse(ends), None, "{ends:?}");
        }
        assert_eq!(Ids::parse(&[]).map(|ids| ids.contain(0)), Some(false));
        assert_eq!(Ids::parse(&Ids::default().ends()), Some(Ids::default()));
    }

    #[test]
    fn the_ends_of_all_numbers_are_ids_too() {
        let mut remains = Remains::new(Some(i64::MAX));
        remains.begin(i64::MIN);
        remains.take(i64::MIN, Fate::Sealed);
        remains.take(i64::MAX, Fate::Waits);
        remains.end(i64::MAX);
        assert_eq!(remains.ids(), Ids(vec![(i64::MAX, i64::MAX)]));
    }

    fn fate() -> impl Strategy<Value = Fate> {
        prop::sample::select(vec![Fate::Sealed, Fate::Waits, Fate::Ignored])
    }

    proptest! {
        /// Id by id, by the rule itself.
        #[test]
        fn what_remains_is_what_waits_or_is_undrawn(
            cuts in prop::collection::btree_set(0..60i64, 0..10),
            rows in prop::collection::btree_map(0..60i64, fate(), 0..40),
            horizon in prop::option::of(-5..70i64),
            stop in prop::option::of(0..60i64),
        ) {
            let cuts: Vec<_> = cuts.into_iter().collect();
            let ends = &cuts[..cuts.len() / 2 * 2];
            let Some(before) = Ids::parse(ends) else { return Ok(()) };
            let rows: BTreeMap<i64, Fate> = rows;
            let mut remains = Remains::new(horizon);
            let mut stopped = None;
            'ranges: for (index, &(first, last)) in before.ranges().iter().enumerate() {
                remains.begin(first);
                for (&id, &fate) in rows.range(first..=last) {
                    if stop.is_some_and(|stop| id >= stop) {
                        remains.stop(id, last, &before.ranges()[index + 1..]);
                        stopped = Some(id);
                        break 'ranges;
                    }
                    remains.take(id, fate);
                }
                remains.end(last);
            }
            let after = remains.ids();
            prop_assert_eq!(Ids::parse(&after.ends()), Some(after.clone()));
            for id in -1..61 {
                let undrawn = horizon.is_none_or(|horizon| id > horizon);
                let remains = match rows.get(&id) {
                    _ if stopped.is_some_and(|stopped| id >= stopped) => true,
                    Some(Fate::Sealed) => false,
                    Some(Fate::Waits) => true,
                    Some(Fate::Ignored) | None => undrawn,
                };
                prop_assert_eq!(after.contain(id), before.contain(id) && remains, "{}", id);
            }
        }
    }
}
