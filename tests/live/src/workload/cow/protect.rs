//! Pages that are write-protected for another reason than a fork, and faults beside other work.

use std::{fs, io, ptr};

use super::{Case, PAGES, file::shmem, filled};
use crate::workload::{
    frames::Frames,
    memory::{Buffer, PAGE},
    sys::{self, must},
};

/// Memory that may only be read, until a handler of SIGSEGV allows to write a page.
pub(super) fn handled(case: &Case) {
    let buffer = filled(PAGES);
    // SAFETY: plain data; the handler is a function of the right kind.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_flags = libc::SA_SIGINFO;
        action.sa_sigaction = allow_to_write as *const () as usize;
        must("sigaction", libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut()));
        // The first time, the handler's own memory is touched.
        let once = buffer.spare(1);
        once.write_volatile(1);
        must("mprotect", libc::mprotect(once.cast(), PAGE, libc::PROT_READ));
        once.write_volatile(2);
    }
    buffer.drain();
    buffer.protect(libc::PROT_READ);
    case.write(buffer, 0);
}

extern "C" fn allow_to_write(_: i32, info: *const libc::siginfo_t, _: *const libc::c_void) {
    // SAFETY: the kernel passes it; it is one of SIGSEGV. mprotect is only a system call.
    unsafe {
        let page = (*info).si_addr().map_addr(|address| address & !(PAGE - 1));
        if libc::mprotect(page, PAGE, libc::PROT_READ | libc::PROT_WRITE) != 0 {
            sys::exit_group(98);
        }
    }
}

/// `read(2)` into memory that may only be read: EFAULT, k times.
pub(super) fn refused(case: &Case) {
    let buffer = filled(PAGES);
    let (read, write) = sys::pipe();
    buffer.protect(libc::PROT_READ);
    let frames = Frames::before(case.board, buffer);
    // SAFETY: a page of the scratch area that is not used, and pages of the buffer.
    unsafe {
        must("write", libc::write(write, case.board.scratch().add(7 * PAGE).cast(), PAGE));
        for index in 0..case.k {
            let done = libc::read(read, buffer.page(index).cast(), PAGE);
            let error = io::Error::last_os_error().raw_os_error();
            assert!(done < 0 && error == Some(libc::EFAULT), "read: {done}, error {error:?}");
        }
    }
    buffer.settle();
    case.count(frames.changed());
}

/// Pages whose last owner writes, each followed by `between`.
fn reuse(case: &Case, between: impl Fn(usize)) {
    let buffer = filled(PAGES);
    buffer.drain();
    sys::wait(case.fork(0, || ()));
    let frames = Frames::before(case.board, buffer);
    for index in 0..case.k {
        buffer.write(index, 1);
        between(index);
    }
    buffer.settle();
    case.count(frames.changed());
}

/// Reuses, and between them pages of shared memory that are allocated by `write(2)`, as a copy would be.
pub(super) fn beside_writes(case: &Case) {
    let fd = shmem(case.board, false);
    reuse(case, |index| {
        let (from, at) = (case.board.scratch().cast(), (index * PAGE) as libc::off_t);
        // SAFETY: a page of the scratch area.
        must("pwrite", unsafe { libc::pwrite(fd, from, PAGE, at) });
    });
}

/// Reuses, and between them pages that are unmapped, which flushes the TLB as a copy would.
pub(super) fn beside_unmaps(case: &Case) {
    let other = filled(PAGES);
    reuse(case, |index| {
        // SAFETY: a page of ours that nobody uses.
        must("munmap", unsafe { libc::munmap(other.page(index).cast(), PAGE) });
    });
}

/// Pages that the kernel protects to see which are written.
pub(super) fn soft_dirty(case: &Case) {
    let buffer = filled(PAGES);
    buffer.drain();
    fs::write("/proc/self/clear_refs", "4").expect("clear_refs");
    case.write(buffer, 0);
}

/// What `userfaultfd` needs (include/uapi/linux/userfaultfd.h).
mod uffd {
    pub(super) const API: u64 = 0xaa;
    pub(super) const API_IOCTL: u64 = 0xc018_aa3f;
    pub(super) const REGISTER_IOCTL: u64 = 0xc020_aa00;
    pub(super) const PROTECT_IOCTL: u64 = 0xc018_aa06;
    /// UFFD_FEATURE_PAGEFAULT_FLAG_WP
    pub(super) const FEATURE: u64 = 1 << 0;
    /// UFFDIO_REGISTER_MODE_WP
    pub(super) const REGISTER: u64 = 1 << 1;
    /// UFFDIO_WRITEPROTECT_MODE_WP
    pub(super) const PROTECT: u64 = 1 << 0;
    /// UFFD_EVENT_PAGEFAULT
    pub(super) const PAGEFAULT: u64 = 0x12;
}

/// Pages that are protected by userfaultfd; another process allows each write. It was forked before, so that it shares
/// none of them.
pub(super) fn userfaultfd(case: &Case) {
    // The two pages after the buffer are for the first fault, which touches the helper's memory, and the last one.
    let pages = PAGES + 2;
    let buffer = Buffer::anonymous(pages);
    let last = buffer.page(pages - 1) as u64;
    // SAFETY: no memory is passed.
    let fd = must("userfaultfd", unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) }) as i32;
    ioctl(fd, uffd::API_IOCTL, &mut [uffd::API, uffd::FEATURE, 0]);
    let helper = case.fork(0, || help(fd, last));
    buffer.write(0, pages);
    buffer.drain();
    let (start, bytes) = (buffer.page(0) as u64, buffer.bytes() as u64);
    ioctl(fd, uffd::REGISTER_IOCTL, &mut [start, bytes, uffd::REGISTER, 0]);
    ioctl(fd, uffd::PROTECT_IOCTL, &mut [start, bytes, uffd::PROTECT]);
    buffer.write(PAGES, 1);
    case.write(buffer, 0);
    buffer.write(PAGES + 1, 1);
    sys::wait(helper);
}

/// Allows to write each page that faults, up to `last`.
fn help(fd: i32, last: u64) {
    loop {
        let mut message = [0u64; 4];
        // SAFETY: room for one `struct uffd_msg`.
        let done = unsafe { libc::read(fd, message.as_mut_ptr().cast(), size_of_val(&message)) };
        assert_eq!(done, size_of_val(&message) as isize, "read of userfaultfd");
        let [event, _, address, _] = message;
        assert_eq!(event & 0xff, uffd::PAGEFAULT);
        let page = address & !(PAGE as u64 - 1);
        ioctl(fd, uffd::PROTECT_IOCTL, &mut [page, PAGE as u64, 0]);
        if page == last {
            return;
        }
    }
}

fn ioctl<const N: usize>(fd: i32, request: u64, argument: &mut [u64; N]) {
    // SAFETY: the structures of these calls are made of N u64.
    must("ioctl", unsafe { libc::ioctl(fd, request, argument.as_mut_ptr()) });
}
