//! Memory for Rust when the system has none left.
//!
//! A Rust allocation that fails aborts the process, and the postmaster then restarts the whole cluster, where Postgres
//! raises an error and goes on. So what the system refuses comes out of a reserve, which costs nothing until it is
//! touched. A call that finds half of it taken fails with Postgres' own error, and a message then loses its texts. What
//! may be larger than the reserve is asked for in a way that may fail (`try_reserve`).

use crate::pg::error::Raised;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Enough for what a call does with a value of the default length, however it is written.
const BYTES: usize = 1 << 20;

#[repr(align(64))]
struct Reserve(UnsafeCell<[u8; BYTES]>);

// SAFETY: each piece of it is handed out once.
unsafe impl Sync for Reserve {}

static RESERVE: Reserve = Reserve(UnsafeCell::new([0; BYTES]));
/// How much was handed out since nothing was in use.
static TAKEN: AtomicUsize = AtomicUsize::new(0);
/// How many pieces are in use.
static PIECES: AtomicUsize = AtomicUsize::new(0);

/// Whether too little of the reserve is left to begin anything.
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
                    // SAFETY: within the reserve, which is aligned for whatever a type asks for.
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

// SAFETY: every piece comes from the system or, once, from the reserve, and goes back where it came from. Alignments above
// the reserve's own are left to the system.
unsafe impl GlobalAlloc for WithReserve {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's own request.
        let memory = unsafe { System.alloc(layout) };
        if memory.is_null() && layout.align() <= align_of::<Reserve>() { Self::take(layout) } else { memory }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if !Self::is_of_reserve(memory) {
            // SAFETY: it came from the system.
            unsafe { System.dealloc(memory, layout) };
        } else if PIECES.fetch_sub(1, Relaxed) == 1 {
            TAKEN.store(0, Relaxed);
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's own request; the system's memory goes back to the system.
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

/// Ends the call with Postgres' own error unless the system has so much memory left: what Rust then allocates aborts the
/// server where there is none. For what may take more than the reserve of this allocator.
pub fn require(bytes: usize) {
    // SAFETY: memory of our own, which nobody has touched. It is mapped rather than allocated, so that the allocator keeps
    // nothing of it.
    unsafe {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let mapped = libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0);
        if mapped == libc::MAP_FAILED {
            Raised::out_of_memory().throw()
        }
        libc::munmap(mapped, bytes);
    }
}

/// The same for so many copies of a secret. Most are short, and cost nothing.
pub fn require_copies(secret: &[u8], copies: usize) {
    const SHORT: usize = 64 << 10;
    if secret.len() > SHORT {
        require(copies * secret.len());
    }
}
