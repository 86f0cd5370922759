//! Pages that were swapped out, then shared by a fork, then written by the child.

use super::{Case, PAGES, filled};
use crate::workload::{
    frames::Frames,
    memory::Buffer,
    sys::{self, must},
};

/// Memory whose pages were all written and swapped out.
fn swapped_out(case: &Case) -> Buffer {
    const TRIES: usize = 50;
    let buffer = filled(PAGES);
    let mut swapped = 0;
    for _ in 0..TRIES {
        buffer.swap_out();
        swapped = Frames::before(case.board, buffer).swapped();
        if swapped == PAGES {
            return buffer;
        }
        sys::pause_ms(20);
    }
    panic!("{swapped} of {PAGES} pages were swapped out");
}

/// Faults of the caller that had to wait for a disk.
fn major_faults() -> i64 {
    // SAFETY: `rusage` is plain data, written by the kernel.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        must("getrusage", libc::getrusage(libc::RUSAGE_SELF, &raw mut usage));
        usage.ru_majflt
    }
}

/// The child reads each page back and has it copied, as the parent's is the same.
///
/// The truth: the parent's pages come from memory then, so the child had read them, and it has others.
pub(super) fn swapped(case: &Case) {
    let buffer = swapped_out(case);
    let own = Frames::before(case.board, buffer);
    let (written, end) = (case.gate(), case.gate());
    let child = case.fork(0, || {
        buffer.write(0, case.k);
        buffer.settle();
        Frames::before(case.board, buffer);
        written.open();
        end.pass();
    });
    written.pass();
    let before = major_faults();
    buffer.read_some(case.k);
    assert_eq!(major_faults(), before, "pages that the child had read were read again");
    case.count(own.changed());
    case.end(end, child);
}

/// The parent has read the pages back: the child finds each in memory, and it is copied.
pub(super) fn read_by_parent(case: &Case) {
    let buffer = swapped_out(case);
    let (lives, end) = (case.gate(), case.gate());
    let (own, read) = (Frames::before(case.board, buffer), case.gate());
    let child = case.fork(0, || {
        lives.open();
        read.pass();
        let before = major_faults();
        buffer.write(0, case.k);
        buffer.settle();
        assert_eq!(major_faults(), before, "pages that the parent had read were read again");
        Frames::before(case.board, buffer);
        lives.open();
        end.pass();
    });
    lives.pass();
    buffer.read_some(case.k);
    read.open();
    lives.pass();
    case.count(own.changed());
    case.end(end, child);
}

/// The child has read the pages back before it writes: they are present, and in the swap cache for the parent.
pub(super) fn read_by_child(case: &Case) {
    let buffer = swapped_out(case);
    sys::wait(case.fork(0, || {
        buffer.read();
        case.write(buffer, 0);
    }));
}
