//! The values that this transaction has set, for as long as an error of it may still quote one: what a handler sent to a
//! foreign server may come back in an error as late as at commit.

use integration_credentials_core::redact::{REDACTED, redact};
use integration_credentials_core::statement::looks_secret;
use std::borrow::Cow;
use std::cell::RefCell;
use zeroize::Zeroizing;

/// How much is kept, in bytes. Of a transaction that sets more, no error says anything in detail.
const BUDGET: usize = 64 * 1024;

#[derive(Default)]
struct Values {
    kept: Vec<Zeroizing<String>>,
    bytes: usize,
}

thread_local! {
    static VALUES: RefCell<Values> = RefCell::default();
}

/// Remembers a value until the transaction ends.
pub fn remember(value: &str) {
    VALUES.with_borrow_mut(|values| {
        values.bytes += value.len();
        if values.bytes <= BUDGET {
            values.kept.push(Zeroizing::new(value.to_owned()));
        }
    });
}

/// The same for what is no value, but may be one that was given in its place.
pub fn remember_if_secret(text: &str) {
    if looks_secret(text.as_bytes()) {
        remember(text);
    }
}

/// Forgets them all.
pub fn forget() {
    // When the process exits, they may be gone before its last transaction is.
    let _ = VALUES.try_with(|values| {
        if values.borrow().bytes > 0 {
            values.take();
        }
    });
}

/// Whether there is any.
pub fn is_any() -> bool {
    VALUES.try_with(|values| values.borrow().bytes > 0).unwrap_or(false)
}

/// A text of a message without the values. `tells_all` says that it is the detail of an error.
pub fn redacted(text: Cow<'_, [u8]>, tells_all: bool) -> Cow<'_, [u8]> {
    let redacted = VALUES.try_with(|values| {
        let values = values.borrow();
        if values.bytes > BUDGET && tells_all {
            return Some(REDACTED.as_bytes().to_vec());
        }
        let (first, rest) = values.kept.split_first()?;
        let first = redact(&String::from_utf8_lossy(&text), first);
        Some(rest.iter().fold(first, |text, value| redact(&text, value)).into_bytes())
    });
    match redacted {
        Ok(Some(redacted)) => Cow::Owned(redacted),
        _ => text,
    }
}
