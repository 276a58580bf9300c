//! The values that this transaction has set or read, kept to its end: a value that a handler sent to a
//! foreign server may come back in an error as late as at commit.

use integration_credentials_core::redact::Needles;
use integration_credentials_core::sql_text::{Dropped, looks_secret};
use std::cell::RefCell;
use std::mem::ManuallyDrop;
use zeroize::Zeroizing;

/// How much is kept, in bytes. In a transaction with more, every message is treated as if it named a call.
const BUDGET: usize = 64 * 1024;

struct Values {
    kept: Vec<Zeroizing<String>>,
    bytes: usize,
    /// The forms of the first `sought` values.
    needles: Option<Needles>,
    sought: usize,
}

impl Values {
    const NONE: Self = Self { kept: Vec::new(), bytes: 0, needles: None, sought: 0 };

    fn keep(&mut self, value: &str) -> Result<(), std::collections::TryReserveError> {
        let mut copy = Zeroizing::new(String::new());
        copy.try_reserve_exact(value.len())?;
        copy.push_str(value);
        self.kept.try_reserve(1)?;
        self.kept.push(copy);
        Ok(())
    }

    fn needles(&mut self) -> Result<&Needles, Dropped> {
        let needles = self.needles.get_or_insert_default();
        for value in self.kept.iter().skip(self.sought) {
            needles.add(value)?;
            self.sought += 1;
        }
        Ok(needles)
    }
}

thread_local! {
    // Never dropped: a process that exits may still write messages.
    static VALUES: RefCell<ManuallyDrop<Values>> = const { RefCell::new(ManuallyDrop::new(Values::NONE)) };
}

/// Keeps a value until the transaction ends.
pub fn remember(value: &str) {
    VALUES.with_borrow_mut(|values| {
        values.bytes = values.bytes.saturating_add(value.len());
        if values.bytes <= BUDGET && values.keep(value).is_err() {
            values.bytes = usize::MAX;
        }
    });
}

/// Keeps an argument that is no value but looks like a misplaced secret.
pub fn remember_if_secret(text: &str) {
    if looks_secret(text.as_bytes()) {
        remember(text);
    }
}

/// Drops all values.
pub fn forget() {
    VALUES.with_borrow_mut(|values| {
        if values.bytes > 0 {
            **values = Values::NONE;
        }
    });
}

/// Whether a value was set or read.
pub fn is_any() -> bool {
    VALUES.with_borrow(|values| values.bytes > 0)
}

/// Whether the values exceed the budget, so that some are not kept.
pub fn is_over_budget() -> bool {
    VALUES.with_borrow(|values| values.bytes > BUDGET)
}

/// A text of a message without the values; `None` if it contains none.
pub fn without_values(text: &[u8]) -> Result<Option<Vec<u8>>, Dropped> {
    VALUES.with_borrow_mut(
        |values| if values.kept.is_empty() { Ok(None) } else { values.needles()?.hide(text) },
    )
}
