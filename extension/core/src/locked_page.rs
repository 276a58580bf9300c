//! Memory for a key: a page of its own, left out of core dumps, and wiped before it is unmapped.

use std::{io, ptr::NonNull};
use zeroize::Zeroize;

/// The length of every key, in bytes.
pub const KEY_BYTES: usize = 32;

/// The bytes of a key, in a page of their own.
pub struct LockedKey(NonNull<[u8; KEY_BYTES]>);

impl LockedKey {
    /// Maps a page and lets `fill` write the key straight into it.
    pub fn new(fill: impl FnOnce(&mut [u8; KEY_BYTES])) -> io::Result<Self> {
        // SAFETY: a new private mapping at an address of the kernel's choice, which overlaps no other.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                KEY_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(bytes) = NonNull::new(page.cast::<[u8; KEY_BYTES]>()) else {
            return Err(io::Error::last_os_error());
        };
        let mut key = Self(bytes);
        #[cfg(target_os = "linux")]
        // SAFETY: the range is the mapping made above.
        if unsafe { libc::madvise(page, KEY_BYTES, libc::MADV_DONTDUMP) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // Keeps the key out of swap. Beyond the limit of locked memory this fails, and an unlocked key is still
        // usable.
        // SAFETY: the range is the mapping made above.
        unsafe { libc::mlock(page, KEY_BYTES) };
        fill(key.bytes_mut());
        Ok(key)
    }

    /// The key.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        // SAFETY: the page lives as long as self, and anonymous pages start as zeroes.
        unsafe { self.0.as_ref() }
    }

    fn bytes_mut(&mut self) -> &mut [u8; KEY_BYTES] {
        // SAFETY: as above, and self is borrowed mutably.
        unsafe { self.0.as_mut() }
    }
}

impl Drop for LockedKey {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        // SAFETY: the mapping of `new`, to which no reference exists any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), KEY_BYTES) };
    }
}

// SAFETY: only this value owns the page, and shared access only reads.
unsafe impl Send for LockedKey {}
// SAFETY: as above.
unsafe impl Sync for LockedKey {}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_page_is_marked_to_be_left_out_of_core_dumps() {
        let key = LockedKey::new(|bytes| bytes.fill(7)).unwrap();
        assert_eq!(key.bytes(), &[7; KEY_BYTES]);
        let address = key.0.as_ptr() as usize;
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        // Neighbouring pages with the same flags are shown as one mapping, so the page need not be where it
        // starts.
        let flags = maps
            .lines()
            .skip_while(|line| !range(line).is_some_and(|range| range.contains(&address)))
            .find(|line| line.starts_with("VmFlags:"))
            .unwrap();
        assert!(flags.split_whitespace().any(|flag| flag == "dd"), "{flags}");
    }

    /// The addresses of a line that opens a mapping: `7f00-7f80 rw-p ...`.
    fn range(line: &str) -> Option<std::ops::Range<usize>> {
        let (start, end) = line.split_whitespace().next()?.split_once('-')?;
        Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
    }
}
