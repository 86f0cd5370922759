//! Memory whose pages are copied on write, and what `/proc/self/pagemap` says about them.

use std::{ffi::CStr, ptr};

use super::{board::Board, sys::must};

const PAGE: usize = 4096;
/// Pages after the buffer that nobody touches before `settle`.
const SPARE: usize = 4;
/// Most pages whose frames can be kept.
const MOST: usize = 1024;

/// A private mapping of some pages.
#[derive(Clone, Copy)]
pub(crate) struct Buffer {
    start: *mut u8,
    pages: usize,
}

// SAFETY: the threads that share one write to it with plain stores of the same value.
unsafe impl Send for Buffer {}

impl Buffer {
    /// Anonymous memory, not yet touched, never in huge pages.
    pub(crate) fn anonymous(pages: usize) -> Self {
        let bytes = (pages + SPARE) * PAGE;
        let buffer = Self::map(pages, bytes, -1);
        // SAFETY: the mapping that was just made.
        must("madvise", unsafe { libc::madvise(buffer.start.cast(), bytes, libc::MADV_NOHUGEPAGE) });
        buffer
    }

    /// The first pages of a file; it has [`SPARE`] pages more.
    pub(crate) fn file(pages: usize, path: &CStr) -> Self {
        // SAFETY: a NUL-terminated path.
        let fd = must("open", unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) });
        Self::map(pages, (pages + SPARE) * PAGE, fd)
    }

    fn map(pages: usize, bytes: usize, fd: i32) -> Self {
        let flags = libc::MAP_PRIVATE | if fd < 0 { libc::MAP_ANONYMOUS } else { 0 };
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
        must("mmap", start as isize);
        Self { start: start.cast(), pages }
    }

    /// Address of a page.
    pub(crate) fn page(&self, index: usize) -> *mut u8 {
        assert!(index < self.pages + SPARE);
        // SAFETY: inside the mapping.
        unsafe { self.start.add(index * PAGE) }
    }

    /// Writes one byte to each of `count` pages from `first` on.
    pub(crate) fn write(&self, first: usize, count: usize) {
        for index in first..first + count {
            // SAFETY: inside the mapping, which is writable.
            unsafe { self.page(index).write_volatile(0x5a) };
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

    /// Reads a page that nobody touched: a fault that ends the fault before it.
    pub(crate) fn settle(&self) {
        // SAFETY: one of the spare pages of the mapping.
        unsafe { self.page(self.pages + SPARE - 1).read_volatile() };
    }

    /// Takes the pages out of the CPU's list of pages to be put on the LRU, which holds a reference to each.
    pub(crate) fn drain(&self) {
        // The second call empties the list that the first one filled.
        for (start, bytes) in [(self.start, self.pages * PAGE), (self.page(self.pages), PAGE)] {
            // SAFETY: inside the mapping.
            unsafe {
                must("mlock", libc::mlock(start.cast(), bytes));
                must("munlock", libc::munlock(start.cast(), bytes));
            }
        }
    }

    /// Asks the kernel to swap the pages out; it may leave some.
    pub(crate) fn swap_out(&self) {
        // SAFETY: inside the mapping.
        let status = unsafe { libc::madvise(self.start.cast(), self.pages * PAGE, libc::MADV_PAGEOUT) };
        must("MADV_PAGEOUT", status);
    }

    /// How many pages are swapped out.
    pub(crate) fn swapped(&self) -> usize {
        /// Documentation/admin-guide/mm/pagemap.rst.
        const SWAPPED: u64 = 1 << 62;
        let mut entries = [0_u64; MOST];
        let entries = &mut entries[..self.pages];
        // SAFETY: a NUL-terminated path; room for an entry of each page.
        unsafe {
            let pagemap = must("open", libc::open(c"/proc/self/pagemap".as_ptr(), libc::O_RDONLY));
            let offset = self.start as usize / PAGE * size_of::<u64>();
            let bytes = size_of_val(entries);
            let done = libc::pread(pagemap, entries.as_mut_ptr().cast(), bytes, offset as libc::off_t);
            assert_eq!(done, bytes as isize, "pagemap");
            libc::close(pagemap);
        }
        entries.iter().filter(|&&entry| entry & SWAPPED != 0).count()
    }
}

/// The frames behind a buffer, before and after something was done to it.
pub(crate) struct Frames {
    board: Board,
    pagemap: i32,
    buffer: Buffer,
}

impl Frames {
    /// Notes the frames as the calling process has them now.
    pub(crate) fn before(board: Board, buffer: Buffer) -> Self {
        assert!(buffer.pages <= MOST);
        // SAFETY: a NUL-terminated path.
        let pagemap = must("open", unsafe { libc::open(c"/proc/self/pagemap".as_ptr(), libc::O_RDONLY) });
        let frames = Self { board, pagemap, buffer };
        frames.load(0);
        frames
    }

    fn load(&self, half: usize) {
        let bytes = self.buffer.pages * size_of::<u64>();
        let offset = self.buffer.start as usize / PAGE * size_of::<u64>();
        // SAFETY: the scratch area has room for two times `MOST` entries.
        let done =
            unsafe { libc::pread(self.pagemap, self.entry(half, 0).cast(), bytes, offset as libc::off_t) };
        assert_eq!(done, bytes as isize, "pagemap");
    }

    fn entry(&self, half: usize, index: usize) -> *mut u64 {
        // SAFETY: inside the scratch area; the mapping is aligned.
        unsafe { self.board.scratch().cast::<u64>().add(half * MOST + index) }
    }

    /// How many pages of the buffer have another frame now.
    pub(crate) fn changed(&self) -> i32 {
        const FRAME: u64 = (1 << 55) - 1;
        self.load(1);
        let mut count = 0;
        for index in 0..self.buffer.pages {
            // SAFETY: `load` filled both entries.
            let (before, after) = unsafe { (self.entry(0, index).read(), self.entry(1, index).read()) };
            assert!(before & FRAME != 0 && after & FRAME != 0, "pagemap shows no frames");
            count += i32::from(before & FRAME != after & FRAME);
        }
        count
    }
}
