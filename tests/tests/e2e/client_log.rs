//! What the `log` crate is given in a thread, which is all that a test does in its runtime.

use std::{cell::RefCell, sync::Once};

thread_local! {
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Keeps what this thread logs from now on, at any level.
pub fn capture() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        log::set_logger(&Capture).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
    LINES.with(|lines| *lines.borrow_mut() = Some(Vec::new()));
}

/// What was kept so far.
pub fn captured() -> Vec<String> {
    LINES.with(|lines| lines.borrow().clone().unwrap_or_default())
}

struct Capture;

impl log::Log for Capture {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.with(|lines| {
            if let Some(lines) = lines.borrow_mut().as_mut() {
                lines.push(record.args().to_string());
            }
        });
    }

    fn flush(&self) {}
}
