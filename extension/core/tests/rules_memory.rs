//! How much memory a check takes. The allocator counts for the whole program, so there is no other test in it.

use integration_credentials_core::rules::{ORDINARY_CHECK_BYTES, Rules};
use serde_json::json;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator, with a count.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = IN_USE.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(now, Relaxed);
        // SAFETY: the caller's own request.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's own request.
        unsafe { System.dealloc(memory, layout) };
    }
}

#[test]
fn ordinary_patterns_fit_the_reserve_of_the_server() {
    let texts = [
        "a".repeat(64 << 10),
        "é".repeat(32 << 10),
        "tok_".to_owned() + &"0aZ9".repeat(16 << 10)[4..],
        (0..16_384u32).map(|number| char::from_u32(0x21 + number % 94).unwrap()).collect(),
    ];
    let (mut worst, mut ordinary) = (0, 0);
    for pattern in [
        "tok_[A-Za-z0-9]+",
        ".*",
        "(?s).*",
        "(a|b|ab)*c?",
        "(.*)(.*)(.*)(.*)(.*)",
        "([a-z]*[0-9]*[A-Z]*)*!?",
        "(?:(?:a?){20}){20}a*",
        r"\b\w+\b.*",
        "[a-z]{400}.*",
        "(?i)(?:[a-y]{1,9}[b-z]{1,9}){1,9}.*",
        "(?:a|(?:.{1,30}b)){1,4}.*",
        ".*[ab].{9}",
    ] {
        let rules = Rules::compile(&json!({"pattern": pattern}).to_string()).expect("rules");
        ordinary += usize::from(!rules.are_costly());
        for text in texts.iter().filter(|_| !rules.are_costly()) {
            let before = IN_USE.load(Relaxed);
            MOST.store(before, Relaxed);
            let _ = rules.check(text);
            worst = worst.max(MOST.load(Relaxed) - before);
        }
        println!("{pattern:?}: costly {}, at most {worst} bytes so far", rules.are_costly());
    }
    assert!(ordinary >= 8 && worst > 1000 && worst < ORDINARY_CHECK_BYTES, "{worst} bytes of {ordinary}");
}
