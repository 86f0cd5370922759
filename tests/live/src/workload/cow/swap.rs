//! Pages that were swapped out, then shared by a fork, then written by the child.

use std::ffi::OsString;

use super::{
    super::{
        memory::{Buffer, Frames},
        sys::{self, must},
    },
    Body, Case, PAGES, TRUTH, filled,
};

/// The case of that name.
pub(super) fn body(name: &str) -> Option<Body> {
    Some(match name {
        "cow-swapped" => swapped,
        "cow-swap-read-by-parent" => read_by_parent,
        "cow-swap-read-by-child" => read_by_child,
        _ => return None,
    })
}

/// Memory whose pages were all written and swapped out.
fn swapped_out() -> Buffer {
    const TRIES: usize = 50;
    let buffer = filled(PAGES);
    for _ in 0..TRIES {
        buffer.swap_out();
        if buffer.swapped() == PAGES {
            return buffer;
        }
        sys::pause_ms(20);
    }
    panic!("{} of {PAGES} pages were swapped out", buffer.swapped());
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
fn swapped(case: &Case, _: &[OsString]) {
    let buffer = swapped_out();
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
    case.board.set(TRUTH, own.changed());
    end.open();
    sys::wait(child);
}

/// The parent has read the pages back: the child finds each in memory, and it is copied.
fn read_by_parent(case: &Case, _: &[OsString]) {
    let buffer = swapped_out();
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
    case.board.set(TRUTH, own.changed());
    end.open();
    sys::wait(child);
}

/// The child has read the pages back before it writes: they are present, and in the swap cache for the parent.
fn read_by_child(case: &Case, _: &[OsString]) {
    let buffer = swapped_out();
    sys::wait(case.fork(0, || {
        buffer.read();
        case.write(buffer, 0);
    }));
}
