//! Memory that a workload shares with all of its descendants: never copied on write.

use std::sync::atomic::{AtomicI32, Ordering};

use super::sys::must;

const BYTES: usize = 64 * 1024;
/// The first half holds numbers, the second is scratch for the kernel to read and write.
const SLOTS: usize = BYTES / 2 / size_of::<AtomicI32>();

/// The shared memory.
#[derive(Clone, Copy)]
pub(crate) struct Board(*mut u8);

// SAFETY: the numbers are atomics; the scratch area is handed out as a raw pointer.
unsafe impl Send for Board {}

impl Board {
    /// Maps it; do this before the first fork.
    pub(crate) fn new() -> Self {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), BYTES, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        must("mmap", start as isize);
        Self(start.cast())
    }

    fn slot(&self, index: usize) -> &AtomicI32 {
        assert!(index < SLOTS);
        // SAFETY: inside the mapping, aligned, and only used as atomics.
        unsafe { &*self.0.cast::<AtomicI32>().add(index) }
    }

    /// Touches all of it: a process that was just born has none of its pages mapped, and which one it touches first
    /// decides how many are mapped at a time.
    pub(crate) fn touch(&self) {
        const PAGE: usize = 4096;
        for page in 0..BYTES / PAGE {
            // SAFETY: inside the mapping; the last bytes of a page are used by one process at a time.
            unsafe {
                let last = self.0.add(page * PAGE + PAGE - 1);
                last.write_volatile(last.read_volatile());
            }
        }
    }

    /// Stores a number for others to see.
    pub(crate) fn set(&self, index: usize, value: i32) {
        self.slot(index).store(value, Ordering::SeqCst);
    }

    /// Reads a number.
    pub(crate) fn get(&self, index: usize) -> i32 {
        self.slot(index).load(Ordering::SeqCst)
    }

    /// Stores 64 bits in this number and the next one.
    pub(crate) fn set_mask(&self, index: usize, mask: u64) {
        self.set(index, mask as i32);
        self.set(index + 1, (mask >> 32) as i32);
    }

    /// Reads them.
    pub(crate) fn mask(&self, index: usize) -> u64 {
        u64::from(self.get(index) as u32) | u64::from(self.get(index + 1) as u32) << 32
    }

    /// Adds to a number.
    pub(crate) fn add(&self, index: usize, value: i32) {
        self.slot(index).fetch_add(value, Ordering::SeqCst);
    }

    /// The address of the first number.
    pub(crate) fn first(&self) -> *const AtomicI32 {
        self.0.cast()
    }

    /// 32 KiB for system calls that read or write memory.
    pub(crate) fn scratch(&self) -> *mut u8 {
        // SAFETY: the second half of the mapping.
        unsafe { self.0.add(BYTES / 2) }
    }
}
