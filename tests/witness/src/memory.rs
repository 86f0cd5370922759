//! Memory of a known number of small pages.

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd as _,
    path::Path,
    ptr,
};

use crate::process::must;

const PAGE: usize = 4096;
/// Small pages in a huge one.
const HUGE: usize = 512;

/// A mapping.
#[derive(Clone, Copy)]
pub(crate) struct Pages {
    start: *mut u8,
    count: usize,
}

// SAFETY: the threads that share one write to it with plain stores of the same value.
unsafe impl Sync for Pages {}

impl Pages {
    /// Anonymous memory that was never touched.
    pub(crate) fn anonymous(count: usize) -> Self {
        Self::map(count, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    /// Anonymous memory that the kernel may keep in huge pages; `count` is a multiple of such a page's.
    pub(crate) fn huge(count: usize) -> Self {
        // One more, of which the part before the first huge page is left out.
        let mut pages = Self::anonymous(count + HUGE);
        let before = pages.start.align_offset(HUGE * PAGE);
        // SAFETY: inside the mapping.
        pages = Self { start: unsafe { pages.start.add(before) }, count };
        // Fails where the kernel has no huge pages: it is small pages then.
        // SAFETY: as in `advise`.
        unsafe { libc::madvise(pages.start.cast(), count * PAGE, libc::MADV_HUGEPAGE) };
        pages
    }

    /// Anonymous memory that children share.
    pub(crate) fn shared(count: usize) -> Self {
        Self::map(count, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)
    }

    /// The first pages of a file, to be copied when they are written.
    pub(crate) fn private_file(count: usize, file: &File) -> Self {
        Self::map(count, libc::MAP_PRIVATE, file.as_raw_fd())
    }

    /// The first pages of a file themselves.
    pub(crate) fn shared_file(count: usize, file: &File) -> Self {
        Self::map(count, libc::MAP_SHARED, file.as_raw_fd())
    }

    fn map(count: usize, flags: i32, fd: i32) -> Self {
        let (bytes, access) = (count * PAGE, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, flags, fd, 0) };
        assert!(start != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        let pages = Self { start: start.cast(), count };
        pages.advise(libc::MADV_NOHUGEPAGE);
        pages
    }

    fn advise(&self, advice: i32) {
        // SAFETY: a mapping of ours; none of the advices used changes what it holds.
        must("madvise", unsafe { libc::madvise(self.start.cast(), self.count * PAGE, advice) });
    }

    /// The `part`th of `parts`.
    pub(crate) fn part(&self, part: usize, parts: usize) -> Self {
        assert!(part < parts && self.count.is_multiple_of(parts));
        let count = self.count / parts;
        // SAFETY: inside the mapping.
        Self { start: unsafe { self.start.add(part * count * PAGE) }, count }
    }

    /// Writes a byte to each.
    pub(crate) fn write(&self) {
        for page in 0..self.count {
            // SAFETY: inside the mapping, which is writable.
            unsafe { self.start.add(page * PAGE).write_volatile(0x5a) };
        }
    }

    /// Reads a byte of each.
    pub(crate) fn read(&self) {
        for page in 0..self.count {
            // SAFETY: inside the mapping.
            unsafe { self.start.add(page * PAGE).read_volatile() };
        }
    }

    /// Has the kernel write to all of them: a file is read into them. False when it was refused.
    pub(crate) fn fill_from(&self, file: &File) -> bool {
        let bytes = self.count * PAGE;
        // SAFETY: inside the mapping; nobody holds a reference into it.
        let done = unsafe { libc::pread(file.as_raw_fd(), self.start.cast(), bytes, 0) };
        done == bytes as isize
    }

    /// Has each page of a file read from disk by itself.
    pub(crate) fn without_read_ahead(&self) {
        self.advise(libc::MADV_RANDOM);
    }

    /// Takes write access away.
    pub(crate) fn protect(&self) {
        // SAFETY: a mapping of ours that nobody holds a reference into.
        must("mprotect", unsafe { libc::mprotect(self.start.cast(), self.count * PAGE, libc::PROT_READ) });
    }
}

/// A file of `count` pages none of which is in memory.
pub(crate) fn uncached(path: &Path, count: usize) -> io::Result<File> {
    fs::write(path, vec![1; count * PAGE])?;
    let file = File::open(path)?;
    file.sync_all()?;
    // SAFETY: a plain system call.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(file),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Writes to the stack below the caller.
///
/// For a signal handler the kernel first tries to save registers there with page faults disabled: on a page that
/// is not there that is an exception, but no fault, and one more than both tracer and wait4 count.
#[inline(never)]
pub(crate) fn touch_stack() {
    std::hint::black_box([1_u8; 16 * PAGE]);
}

/// From now on a page whose write was refused becomes writable, and the program goes on.
pub(crate) fn unprotect_on_demand() {
    extern "C" fn handler(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the kernel gives the address of the fault; mprotect is one system call.
        unsafe {
            let page = ((*info).si_addr() as usize & !(PAGE - 1)) as *mut libc::c_void;
            if libc::mprotect(page, PAGE, libc::PROT_READ | libc::PROT_WRITE) != 0 {
                libc::_exit(98);
            }
        }
    }
    // SAFETY: all zero is an action without flags and with an empty mask.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        must("sigaction", libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut()));
    }
}
