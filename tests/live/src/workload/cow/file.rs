//! Mappings of files and of shared memory.

use std::ffi::CStr;

use super::{Case, PAGES, filled};
use crate::workload::{
    board::Board,
    frames::Frames,
    memory::{Buffer, PAGE},
    sys::{self, must},
};

/// A private mapping of a file, written on first touch.
pub(super) fn private_first(case: &Case) {
    let buffer = Buffer::file(PAGES, &case.file);
    case.write(buffer, 0);
}

/// A private mapping of a file, read before it is written.
pub(super) fn private_read(case: &Case) {
    let buffer = Buffer::file(PAGES, &case.file);
    buffer.read();
    case.write(buffer, 0);
}

/// Pages of a private file mapping that are copies already, shared with a child that writes them.
pub(super) fn private_then_fork(case: &Case) {
    let buffer = Buffer::file(PAGES, &case.file);
    buffer.write(0, PAGES);
    sys::wait(case.fork(0, || case.write(buffer, 0)));
}

/// A private mapping of shared memory, read before it is written.
pub(super) fn private_shmem_read(case: &Case) {
    let buffer = Buffer::map(PAGES, libc::MAP_PRIVATE, shmem(case.board, true));
    buffer.read();
    case.write(buffer, 0);
}

/// A private mapping of shared memory that has no pages yet.
pub(super) fn private_shmem_hole(case: &Case) {
    case.write(Buffer::map(PAGES, libc::MAP_PRIVATE, shmem(case.board, false)), 0);
}

/// A private mapping of a file that is not in memory.
pub(super) fn private_uncached(case: &Case) {
    let fd = uncached(&case.file);
    let buffer = Buffer::map(PAGES, libc::MAP_PRIVATE, fd);
    not_in_memory(buffer);
    case.write(buffer, 0);
}

/// `read(2)` of a file that is not in memory into pages that are shared with the parent.
pub(super) fn read_uncached(case: &Case) {
    let buffer = filled(PAGES);
    let child = case.fork(0, || {
        let fd = uncached(&case.file);
        not_in_memory(Buffer::map(PAGES, libc::MAP_PRIVATE, fd));
        let frames = Frames::before(case.board, buffer);
        // SAFETY: k pages of the buffer.
        let done = unsafe { libc::read(fd, buffer.page(0).cast(), case.k * PAGE) };
        assert_eq!(done, (case.k * PAGE) as isize, "read");
        buffer.settle();
        case.count(frames.changed());
    });
    sys::wait(child);
}

/// A shared mapping of a file, read before it is written.
pub(super) fn shared_read(case: &Case) {
    let buffer = Buffer::map(PAGES, libc::MAP_SHARED, open(&case.file));
    buffer.read();
    case.write(buffer, 0);
}

/// A shared mapping of a file, written on first touch.
pub(super) fn shared_first(case: &Case) {
    case.write(Buffer::map(PAGES, libc::MAP_SHARED, open(&case.file)), 0);
}

/// Shared anonymous memory, written on first touch.
pub(super) fn shared_anonymous(case: &Case) {
    case.write(Buffer::map(PAGES, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1), 0);
}

/// A shared mapping of shared memory that has no pages yet.
pub(super) fn shared_shmem_hole(case: &Case) {
    case.write(Buffer::map(PAGES, libc::MAP_SHARED, shmem(case.board, false)), 0);
}

/// A shared mapping of shared memory that has its pages.
pub(super) fn shared_shmem_filled(case: &Case) {
    case.write(Buffer::map(PAGES, libc::MAP_SHARED, shmem(case.board, true)), 0);
}

/// Shared memory with room for a buffer, with or without its pages.
pub(super) fn shmem(board: Board, fill: bool) -> i32 {
    // SAFETY: a NUL-terminated name; what is written is in the scratch area.
    unsafe {
        let fd = must("memfd_create", libc::memfd_create(c"".as_ptr(), 0));
        must("ftruncate", libc::ftruncate(fd, (PAGES * PAGE) as libc::off_t));
        for index in 0..if fill { PAGES } else { 0 } {
            let at = (index * PAGE) as libc::off_t;
            must("pwrite", libc::pwrite(fd, board.scratch().cast(), PAGE, at));
        }
        fd
    }
}

fn open(path: &CStr) -> i32 {
    // SAFETY: a NUL-terminated path.
    must("open", unsafe { libc::open(path.as_ptr(), libc::O_RDWR) })
}

/// Opens a file and gives up its pages in memory.
fn uncached(path: &CStr) -> i32 {
    let fd = open(path);
    // SAFETY: a file of ours.
    unsafe {
        must("fsync", libc::fsync(fd));
        assert_eq!(libc::posix_fadvise(fd, 0, 0, libc::POSIX_FADV_DONTNEED), 0, "posix_fadvise");
    }
    fd
}

/// Makes sure of it.
fn not_in_memory(buffer: Buffer) {
    let mut pages = [0u8; PAGES];
    assert_eq!(buffer.pages(), PAGES);
    // SAFETY: one byte for each page of the mapping.
    must("mincore", unsafe { libc::mincore(buffer.page(0).cast(), buffer.bytes(), pages.as_mut_ptr()) });
    assert!(pages.iter().all(|page| page & 1 == 0), "the file is still in memory");
}
