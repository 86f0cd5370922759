//! Huge pages: transparent ones, the huge zero page, and those of hugetlb.

use super::Case;
use crate::workload::{
    frames::Frames,
    memory::{Buffer, HUGE},
    sys::{self, must},
};

/// Huge pages of a buffer.
const COUNT: usize = 2;

/// A buffer of transparent huge pages.
fn transparent() -> Buffer {
    // SAFETY: no memory is passed. All cases begin without huge pages.
    must("prctl", unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 0, 0, 0, 0) });
    Buffer::transparent(COUNT)
}

/// A buffer whose huge pages are there.
fn transparent_filled(case: &Case) -> Buffer {
    let buffer = transparent();
    buffer.write_spread(COUNT);
    assert!(Frames::before(case.board, buffer).are_huge(), "the kernel made no huge pages");
    buffer
}

/// Writes k small pages, equally far from each other.
fn write(case: &Case, buffer: Buffer) {
    let frames = Frames::before(case.board, buffer);
    buffer.write_spread(case.k);
    buffer.settle();
    case.count(frames.changed());
}

/// The child writes to huge pages of its parent.
pub(super) fn transparent_child(case: &Case) {
    let buffer = transparent_filled(case);
    sys::wait(case.fork(0, || write(case, buffer)));
}

/// The parent writes when the child is gone.
pub(super) fn transparent_reuse(case: &Case) {
    let buffer = transparent_filled(case);
    sys::wait(case.fork(0, || ()));
    write(case, buffer);
}

/// Huge pages that were read first: the huge zero page is replaced.
pub(super) fn transparent_zero(case: &Case) {
    let buffer = transparent();
    for index in 0..COUNT {
        // SAFETY: inside the mapping.
        unsafe { buffer.page(index * HUGE).read_volatile() };
    }
    assert!(Frames::before(case.board, buffer).are_huge(), "the kernel has no huge zero page");
    write(case, buffer);
}

fn hugetlb() -> Buffer {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB;
    let buffer = Buffer::map(COUNT * HUGE, flags, -1);
    buffer.write_spread(COUNT);
    buffer
}

/// The child writes to hugetlb pages of its parent.
pub(super) fn hugetlb_child(case: &Case) {
    let buffer = hugetlb();
    sys::wait(case.fork(0, || write(case, buffer)));
}

/// The parent writes to its hugetlb pages while the child lives.
pub(super) fn hugetlb_parent(case: &Case) {
    let buffer = hugetlb();
    let (lives, end) = (case.gate(), case.gate());
    let child = case.fork(0, || {
        lives.open();
        end.pass();
    });
    lives.pass();
    write(case, buffer);
    case.end(end, child);
}

/// The parent writes to its hugetlb pages when the child is gone.
pub(super) fn hugetlb_reuse(case: &Case) {
    let buffer = hugetlb();
    sys::wait(case.fork(0, || ()));
    write(case, buffer);
}
