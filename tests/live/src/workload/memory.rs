//! Memory whose pages are copied on write.

use std::{ffi::CStr, hint::black_box, ptr};

use super::sys::must;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;
/// Pages of a huge page one level up.
pub(crate) const HUGE: usize = 512;
/// Pages that nobody touches before they are used to settle a fault.
const SPARE: usize = 4;

/// A mapping of some pages, and a few anonymous pages beside it.
#[derive(Clone, Copy)]
pub(crate) struct Buffer {
    start: *mut u8,
    pages: usize,
    spare: *mut u8,
}

// SAFETY: the threads that share one write to it with plain stores of the same value.
unsafe impl Send for Buffer {}

impl Buffer {
    /// Private anonymous memory, not yet touched, never in huge pages.
    pub(crate) fn anonymous(pages: usize) -> Self {
        let buffer = Self::map(pages, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1);
        small(buffer.start, pages);
        buffer
    }

    /// A private mapping of the first pages of a file.
    pub(crate) fn file(pages: usize, path: &CStr) -> Self {
        // SAFETY: a NUL-terminated path.
        let fd = must("open", unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) });
        Self::map(pages, libc::MAP_PRIVATE, fd)
    }

    /// A mapping of some kind.
    pub(crate) fn map(pages: usize, flags: i32, fd: i32) -> Self {
        Self { start: new_mapping(pages, flags, fd), pages, spare: spare() }
    }

    /// Memory of the caller's that has so many whole pages from the first page boundary on.
    ///
    /// # Safety
    /// It is private, writable, and nobody else's as long as the buffer is used.
    pub(crate) unsafe fn within(memory: *mut u8, pages: usize) -> Self {
        // SAFETY: the caller's memory has a page boundary.
        let start = unsafe { memory.add(memory.align_offset(PAGE)) };
        Self { start, pages, spare: spare() }
    }

    /// `count` huge pages that are transparent: the kernel may make them of private anonymous memory.
    pub(crate) fn transparent(count: usize) -> Self {
        // One more, to begin at a multiple.
        let map = new_mapping((count + 1) * HUGE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1);
        // SAFETY: the result is inside the mapping.
        let start = unsafe { map.add(map.align_offset(HUGE * PAGE)) };
        let pages = count * HUGE;
        // SAFETY: the mapping that was just made.
        must("madvise", unsafe { libc::madvise(start.cast(), pages * PAGE, libc::MADV_HUGEPAGE) });
        Self { start, pages, spare: spare() }
    }

    /// Its pages.
    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    /// Address of a page.
    pub(crate) fn page(&self, index: usize) -> *mut u8 {
        assert!(index < self.pages);
        // SAFETY: inside the mapping.
        unsafe { self.start.add(index * PAGE) }
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> usize {
        self.pages * PAGE
    }

    /// Address of a page that is not of the buffer; the last one is for [`Self::settle`].
    pub(crate) fn spare(&self, index: usize) -> *mut u8 {
        assert!(index < SPARE - 1);
        // SAFETY: inside the mapping.
        unsafe { self.spare.add(index * PAGE) }
    }

    /// Writes one byte to each of `count` pages from `first` on.
    pub(crate) fn write(&self, first: usize, count: usize) {
        for index in first..first + count {
            // SAFETY: inside the mapping, which is writable.
            unsafe { self.page(index).write_volatile(0x5a) };
        }
    }

    /// Writes one byte to each of `count` pages that are equally far from each other.
    pub(crate) fn write_spread(&self, count: usize) {
        for index in (0..self.pages).step_by(self.pages / count.max(1)).take(count) {
            self.write(index, 1);
        }
    }

    /// Reads each page.
    pub(crate) fn read(&self) {
        self.read_some(self.pages);
    }

    /// Reads the first `count` pages.
    pub(crate) fn read_some(&self, count: usize) {
        for index in 0..count {
            // SAFETY: inside the mapping.
            unsafe { self.page(index).read_volatile() };
        }
    }

    /// Reads a page that nobody touched: a fault that ends the fault before it. Once for each process.
    pub(crate) fn settle(&self) {
        // SAFETY: the last of the spare pages.
        unsafe { self.spare.add((SPARE - 1) * PAGE).read_volatile() };
    }

    /// The same, as often as need be.
    pub(crate) fn settle_again(&self) {
        // SAFETY: the page that `settle` reads; it holds nothing.
        unsafe {
            let page = self.spare.add((SPARE - 1) * PAGE);
            must("madvise", libc::madvise(page.cast(), PAGE, libc::MADV_DONTNEED));
        }
        self.settle();
    }

    /// Takes the pages out of the CPU's list of pages to be put on the LRU, which holds a reference to each.
    pub(crate) fn drain(&self) {
        // The second call empties the list that the first one filled.
        for (start, bytes) in [(self.start, self.bytes()), (self.spare, PAGE)] {
            // SAFETY: mappings of ours.
            unsafe {
                must("mlock", libc::mlock(start.cast(), bytes));
                must("munlock", libc::munlock(start.cast(), bytes));
            }
        }
    }

    /// Asks the kernel to swap the pages out; it may leave some.
    pub(crate) fn swap_out(&self) {
        // SAFETY: a mapping of ours.
        must("MADV_PAGEOUT", unsafe { libc::madvise(self.start.cast(), self.bytes(), libc::MADV_PAGEOUT) });
    }

    /// Changes its protection.
    pub(crate) fn protect(&self, protection: i32) {
        // SAFETY: a mapping of ours.
        must("mprotect", unsafe { libc::mprotect(self.start.cast(), self.bytes(), protection) });
    }
}

/// Private anonymous memory with all of its pages written.
pub(crate) fn filled(pages: usize) -> Buffer {
    let buffer = Buffer::anonymous(pages);
    buffer.write(0, pages);
    buffer
}

/// Empties the CPU's list of pages to be put on the LRU, without touching private memory, as `mlock` does first of all.
pub(crate) fn drain() {
    let start = new_mapping(1, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1).cast();
    // SAFETY: the mapping that was just made.
    unsafe {
        must("mlock", libc::mlock(start, PAGE));
        must("munmap", libc::munmap(start, PAGE));
    }
}

fn new_mapping(pages: usize, flags: i32, fd: i32) -> *mut u8 {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let start = unsafe { libc::mmap(ptr::null_mut(), pages * PAGE, protection, flags, fd, 0) };
    must("mmap", start as isize);
    start.cast()
}

fn spare() -> *mut u8 {
    let start = new_mapping(SPARE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1);
    small(start, SPARE);
    start
}

/// No huge pages here.
fn small(start: *mut u8, pages: usize) {
    // SAFETY: a mapping of ours.
    must("madvise", unsafe { libc::madvise(start.cast(), pages * PAGE, libc::MADV_NOHUGEPAGE) });
}

/// Writes to the pages of the stack that the caller and what it calls use: whether a page boundary lies between two
/// functions then decides nothing. Above the stack of a program from [`super::sys::exec_again`] is at least a page.
#[inline(never)]
pub(crate) fn touch_stack() {
    const BELOW: usize = 4;
    let mut below = [0_u8; BELOW * PAGE];
    for page in 0..=BELOW {
        // SAFETY: in the array, or in the page above it, which keeps its value.
        unsafe {
            let at = black_box(&mut below).as_mut_ptr().add(page * PAGE);
            at.write_volatile(at.read_volatile());
        }
    }
}
