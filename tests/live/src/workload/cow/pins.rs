//! Pages that the kernel writes or pins without a fault of the process: for another process, for direct I/O,
//! for `mlock`, for io_uring; and forks of pinned pages.

use std::{ffi::CStr, ptr};

use super::{Case, PAGES, filled};
use crate::workload::{
    frames::Frames,
    memory::{Buffer, PAGE},
    sys::{self, must, text},
};

/// The parent writes into pages of the child that both share: `write` gets the child and the pages.
fn written_by_parent(case: &Case, write: impl FnOnce(i32, Buffer)) {
    let buffer = filled(PAGES);
    let (lives, end) = (case.gate(), case.gate());
    let child = case.fork(0, || {
        let frames = Frames::before(case.board, buffer);
        lives.open();
        end.pass();
        case.count(frames.changed());
    });
    lives.pass();
    write(child, buffer);
    case.end(end, child);
}

/// `PTRACE_POKEDATA`, a word a page.
pub(super) fn poked(case: &Case) {
    written_by_parent(case, |child, buffer| {
        let none = ptr::null_mut::<libc::c_void>();
        // SAFETY: a child that waits; its memory has the buffer at the same address.
        unsafe {
            must("PTRACE_SEIZE", libc::ptrace(libc::PTRACE_SEIZE, child, none, none));
            must("PTRACE_INTERRUPT", libc::ptrace(libc::PTRACE_INTERRUPT, child, none, none));
            must("waitpid", libc::waitpid(child, ptr::null_mut(), libc::__WALL));
            for index in 0..case.k {
                must("PTRACE_POKEDATA", libc::ptrace(libc::PTRACE_POKEDATA, child, buffer.page(index), 0x5b));
            }
            must("PTRACE_DETACH", libc::ptrace(libc::PTRACE_DETACH, child, none, none));
        }
    });
}

/// `pwrite(2)` to `/proc/PID/mem`, a word a page.
pub(super) fn written_by_proc(case: &Case) {
    written_by_parent(case, |child, buffer| {
        let path = text(format!("/proc/{child}/mem"));
        let memory = open(&path, libc::O_WRONLY);
        for index in 0..case.k {
            let at = buffer.page(index) as libc::off_t;
            // SAFETY: eight bytes of the scratch area.
            let done = unsafe { libc::pwrite(memory, case.board.scratch().cast(), 8, at) };
            assert_eq!(done, 8, "write to memory of the child");
        }
    });
}

/// `process_vm_writev(2)`, all pages in one call.
pub(super) fn written_by_call(case: &Case) {
    const MOST: usize = 8 * PAGE;
    written_by_parent(case, |child, buffer| {
        for first in (0..case.k).step_by(MOST / PAGE) {
            let bytes = (case.k - first).min(MOST / PAGE) * PAGE;
            let from = libc::iovec { iov_base: case.board.scratch().cast(), iov_len: bytes };
            let to = libc::iovec { iov_base: buffer.page(first).cast(), iov_len: bytes };
            // SAFETY: what is read is inside the scratch area.
            let done = unsafe { libc::process_vm_writev(child, &raw const from, 1, &raw const to, 1, 0) };
            assert_eq!(done, bytes as isize, "process_vm_writev");
        }
    });
}

/// The child has the kernel pin pages that it shares with its parent.
fn pinned_by_child(case: &Case, pin: impl FnOnce(Buffer)) {
    let buffer = filled(PAGES);
    sys::wait(case.fork(0, || {
        let frames = Frames::before(case.board, buffer);
        pin(buffer);
        buffer.settle();
        case.count(frames.changed());
    }));
}

fn open(path: &CStr, flags: i32) -> i32 {
    // SAFETY: a NUL-terminated path.
    must("open", unsafe { libc::open(path.as_ptr(), flags) })
}

/// `O_DIRECT`, from a file into the pages.
pub(super) fn direct_read(case: &Case) {
    pinned_by_child(case, |buffer| {
        let file = open(&case.file, libc::O_RDONLY | libc::O_DIRECT);
        for index in 0..case.k {
            // SAFETY: a page of the buffer.
            let done =
                unsafe { libc::pread(file, buffer.page(index).cast(), PAGE, (index * PAGE) as libc::off_t) };
            assert_eq!(done, PAGE as isize, "direct read");
        }
    });
}

/// `O_DIRECT`, from the pages into a file.
pub(super) fn direct_write(case: &Case) {
    pinned_by_child(case, |buffer| {
        let file = open(&case.file, libc::O_WRONLY | libc::O_DIRECT);
        for index in 0..case.k {
            // SAFETY: a page of the buffer.
            let done =
                unsafe { libc::pwrite(file, buffer.page(index).cast(), PAGE, (index * PAGE) as libc::off_t) };
            assert_eq!(done, PAGE as isize, "direct write");
        }
    });
}

/// `mlock(2)`.
pub(super) fn locked(case: &Case) {
    pinned_by_child(case, |buffer| {
        // SAFETY: pages of the buffer.
        must("mlock", unsafe { libc::mlock(buffer.page(0).cast(), case.k * PAGE) });
    });
}

/// `MADV_POPULATE_WRITE`.
pub(super) fn populated(case: &Case) {
    pinned_by_child(case, |buffer| {
        // SAFETY: pages of the buffer.
        let status =
            unsafe { libc::madvise(buffer.page(0).cast(), case.k * PAGE, libc::MADV_POPULATE_WRITE) };
        must("MADV_POPULATE_WRITE", status);
    });
}

/// Buffers of io_uring.
pub(super) fn registered(case: &Case) {
    pinned_by_child(case, |buffer| register(buffer, case.k));
}

/// Makes an io_uring that pins the first `count` pages for as long as the process lives.
fn register(buffer: Buffer, count: usize) {
    /// `struct io_uring_params`, all zeros: no flags.
    const PARAMETERS: usize = 120;
    const REGISTER_BUFFERS: libc::c_uint = 0;
    let mut parameters = [0_u64; PARAMETERS / 8];
    // SAFETY: room for what the call writes.
    let ring = must("io_uring_setup", unsafe {
        libc::syscall(libc::SYS_io_uring_setup, 4 as libc::c_uint, parameters.as_mut_ptr())
    });
    let pages = libc::iovec { iov_base: buffer.page(0).cast(), iov_len: count * PAGE };
    if count > 0 {
        // SAFETY: one buffer, whose memory is never given back.
        must("io_uring_register", unsafe {
            libc::syscall(libc::SYS_io_uring_register, ring, REGISTER_BUFFERS, &raw const pages, 1)
        });
    }
}

/// A fork while pages are pinned: the child gets copies of these at once.
pub(super) fn fork_of_pinned(case: &Case) {
    let buffer = filled(PAGES);
    register(buffer, case.k);
    let own = Frames::before(case.board, buffer);
    let child = case.fork(0, || {
        Frames::before(case.board, buffer);
    });
    sys::wait(child);
    case.count(own.changed());
}
