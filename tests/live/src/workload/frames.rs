//! What `/proc/self/pagemap` says about memory.

use super::{
    board::Board,
    memory::{Buffer, HUGE, PAGE},
    sys::must,
};

/// Most pages whose frames can be kept.
const MOST: usize = 1024;

/// What `/proc/self/pagemap` tells of a page (Documentation/admin-guide/mm/pagemap.rst).
#[derive(Clone, Copy)]
struct Entry(u64);

impl Entry {
    const fn is_present(self) -> bool {
        self.0 & 1 << 63 != 0
    }
    const fn is_swapped(self) -> bool {
        self.0 & 1 << 62 != 0
    }
    /// Of a file or of shared memory.
    const fn is_file(self) -> bool {
        self.0 & 1 << 61 != 0
    }
    const fn is_soft_dirty(self) -> bool {
        self.0 & 1 << 55 != 0
    }
    /// The physical frame; 0 when there is none.
    const fn frame(self) -> u64 {
        if self.is_present() { self.0 & ((1 << 55) - 1) } else { 0 }
    }
}

/// The frames behind a buffer, before and after something was done to it.
pub(crate) struct Frames {
    board: Board,
    pagemap: i32,
    start: *mut u8,
    pages: usize,
}

impl Frames {
    /// Notes the frames as the calling process has them now.
    pub(crate) fn before(board: Board, buffer: Buffer) -> Self {
        Self::of(board, buffer.page(0), buffer.pages())
    }

    fn of(board: Board, start: *mut u8, pages: usize) -> Self {
        assert!(pages <= MOST);
        // SAFETY: a NUL-terminated path.
        let pagemap = must("open", unsafe { libc::open(c"/proc/self/pagemap".as_ptr(), libc::O_RDONLY) });
        let frames = Self { board, pagemap, start, pages };
        frames.load(0);
        frames
    }

    fn load(&self, half: usize) {
        let bytes = self.pages * size_of::<u64>();
        let offset = self.start as usize / PAGE * size_of::<u64>();
        let to = self.slot(half, 0).cast();
        // SAFETY: the scratch area has room for two times `MOST` entries.
        let done = unsafe { libc::pread(self.pagemap, to, bytes, offset as libc::off_t) };
        assert_eq!(done, bytes as isize, "pagemap");
        for index in 0..self.pages {
            let entry = self.entry(half, index);
            assert!(!entry.is_present() || entry.frame() != 0, "pagemap shows no frames");
        }
    }

    fn slot(&self, half: usize, index: usize) -> *mut u64 {
        // SAFETY: inside the scratch area; the mapping is aligned.
        unsafe { self.board.scratch().cast::<u64>().add(half * MOST + index) }
    }

    fn entry(&self, half: usize, index: usize) -> Entry {
        // SAFETY: `load` filled it.
        Entry(unsafe { self.slot(half, index).read() })
    }

    /// How many pages of the buffer have another frame now; one that had none counts when it is private.
    pub(crate) fn changed(&self) -> i32 {
        self.load(1);
        let mut count = 0;
        for index in 0..self.pages {
            let (before, after) = (self.entry(0, index), self.entry(1, index));
            let new = match before.frame() {
                0 => after.is_present() && !after.is_file(),
                frame => after.is_present() && after.frame() != frame,
            };
            count += i32::from(new);
        }
        count
    }

    /// How many pages were swapped out.
    pub(crate) fn swapped(&self) -> usize {
        (0..self.pages).filter(|&index| self.entry(0, index).is_swapped()).count()
    }

    /// Whether all pages have this frame.
    pub(crate) fn are(&self, frame: u64) -> bool {
        (0..self.pages).all(|index| self.entry(0, index).frame() == frame)
    }

    /// Whether they were made of huge pages: each has its frames in order from a multiple on.
    pub(crate) fn are_huge(&self) -> bool {
        (0..self.pages).all(|index| {
            let first = self.entry(0, index - index % HUGE).frame();
            first != 0
                && first.is_multiple_of(HUGE as u64)
                && self.entry(0, index).frame() == first + (index % HUGE) as u64
        })
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        // SAFETY: a file of ours that nobody uses any more.
        unsafe { libc::close(self.pagemap) };
    }
}

fn entry_of(board: Board, page: *mut u8) -> Entry {
    Frames::of(board, page, 1).entry(0, 0)
}

/// The frame of one page of the caller.
pub(crate) fn frame(board: Board, page: *mut u8) -> u64 {
    entry_of(board, page).frame()
}

/// Whether this kernel notes which pages are written (CONFIG_MEM_SOFT_DIRTY): a new page of the caller is.
pub(crate) fn has_soft_dirty() -> bool {
    let buffer = Buffer::anonymous(1);
    buffer.write(0, 1);
    entry_of(Board::new(), buffer.page(0)).is_soft_dirty()
}
