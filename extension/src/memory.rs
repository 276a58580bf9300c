//! Rust's allocator, with a reserve for when the system has no memory left.
//!
//! A failed allocation raises an error in Postgres, but aborts a process in Rust, and the postmaster then
//! restarts the whole cluster. So an allocation that the system refuses comes from a reserve, which costs
//! nothing until it is touched. When half of the reserve is taken, calls fail with Postgres' own error, and
//! messages lose their texts. Memory that may exceed the reserve is requested in a way that may fail
//! (`try_reserve`).

use crate::pg::error::Raised;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Enough for a call with a value of the default length, in any spelling.
const BYTES: usize = 1 << 20;

#[repr(align(64))]
struct Reserve(UnsafeCell<[u8; BYTES]>);

// SAFETY: each piece of the reserve is handed out once.
unsafe impl Sync for Reserve {}

static RESERVE: Reserve = Reserve(UnsafeCell::new([0; BYTES]));
/// How many bytes were handed out since the reserve was last unused.
static TAKEN: AtomicUsize = AtomicUsize::new(0);
/// How many pieces of the reserve are in use.
static PIECES: AtomicUsize = AtomicUsize::new(0);

/// Whether too little of the reserve is left for a new call.
pub fn is_short() -> bool {
    TAKEN.load(Relaxed) > BYTES / 2
}

struct WithReserve;

#[global_allocator]
static ALLOCATOR: WithReserve = WithReserve;

impl WithReserve {
    fn take(layout: Layout) -> *mut u8 {
        let place = |taken: usize| {
            let start = taken.checked_next_multiple_of(layout.align())?;
            let end = start.checked_add(layout.size())?;
            (end <= BYTES).then_some((start, end))
        };
        let mut taken = TAKEN.load(Relaxed);
        loop {
            let Some((start, end)) = place(taken) else { return ptr::null_mut() };
            match TAKEN.compare_exchange_weak(taken, end, Relaxed, Relaxed) {
                Ok(_) => {
                    PIECES.fetch_add(1, Relaxed);
                    // SAFETY: within the reserve, whose alignment is the largest that `alloc` passes here.
                    return unsafe { RESERVE.0.get().cast::<u8>().add(start) };
                }
                Err(now) => taken = now,
            }
        }
    }

    fn is_of_reserve(memory: *mut u8) -> bool {
        memory.addr().wrapping_sub(RESERVE.0.get().addr()) < BYTES
    }
}

// SAFETY: every piece comes from the system or, once, from the reserve, and returns to its source. Only the
// system serves alignments above that of the reserve.
unsafe impl GlobalAlloc for WithReserve {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's own request.
        let memory = unsafe { System.alloc(layout) };
        if memory.is_null() && layout.align() <= align_of::<Reserve>() { Self::take(layout) } else { memory }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if !Self::is_of_reserve(memory) {
            // SAFETY: the memory came from the system.
            unsafe { System.dealloc(memory, layout) };
        } else if PIECES.fetch_sub(1, Relaxed) == 1 {
            TAKEN.store(0, Relaxed);
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's own request; memory of the system returns to the system.
        unsafe {
            if !Self::is_of_reserve(memory) {
                let grown = System.realloc(memory, layout, size);
                if !grown.is_null() {
                    return grown;
                }
            }
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                ptr::copy_nonoverlapping(memory, new, layout.size().min(size));
                self.dealloc(memory, layout);
            }
            new
        }
    }
}

/// Raises Postgres' own error unless the system has so much memory left, for work that may exceed the
/// reserve: an allocation of Rust that fails would abort the server.
pub fn require(bytes: usize) {
    // SAFETY: a new mapping, which is never touched. A mapping, because an allocator might keep the memory.
    unsafe {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let mapped = libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0);
        if mapped == libc::MAP_FAILED {
            Raised::out_of_memory().throw()
        }
        libc::munmap(mapped, bytes);
    }
}

/// Requires memory for so many copies of a secret. Short secrets, which are most, fit the reserve.
pub fn require_copies(secret: &[u8], copies: usize) {
    const SHORT: usize = 64 << 10;
    if secret.len() > SHORT {
        require(copies * secret.len());
    }
}
