//! Pages that KSM merged.

use std::fs;

use super::{Case, PAGES, filled};
use crate::workload::{
    frames::{self, Frames},
    memory::Buffer,
    sys::{self, must},
};

const RUN: &str = "/sys/kernel/mm/ksm/run";
/// How often it is looked whether the pages are merged, and how long is waited each time: three minutes in all.
const LOOKS: u32 = 10_000;
const WAIT_MS: u64 = 20;

/// Equal pages become one.
pub(super) fn merged(case: &Case) {
    let buffer = filled(PAGES);
    merge(case, buffer, || frames::frame(case.board, buffer.page(0)));
    case.write(buffer, 0);
}

/// Pages full of zeros become the zero page.
pub(super) fn merged_zero(case: &Case) {
    let buffer = Buffer::anonymous(PAGES);
    for index in 0..PAGES {
        // SAFETY: inside the mapping.
        unsafe { buffer.page(index).write_volatile(0) };
    }
    // SAFETY: a page beside the buffer that nobody wrote to.
    unsafe { buffer.spare(0).read_volatile() };
    merge(case, buffer, || frames::frame(case.board, buffer.spare(0)));
    case.write(buffer, 0);
}

/// Lets KSM merge the pages of `buffer` into the page that `frame` names; then stops it, as it would go on and merge what
/// is written. The test sets it back to what it was.
fn merge(case: &Case, buffer: Buffer, frame: impl Fn() -> u64) {
    let start = buffer.page(0).cast();
    // SAFETY: the buffer.
    must("madvise", unsafe { libc::madvise(start, buffer.bytes(), libc::MADV_MERGEABLE) });
    sys::end_with_parent();
    fs::write(RUN, "1").expect("start KSM");
    let merged = (0..LOOKS).any(|_| {
        sys::pause_ms(WAIT_MS);
        let frame = frame();
        Frames::before(case.board, buffer).are(frame)
    });
    assert!(merged, "KSM did not merge the pages");
    fs::write(RUN, "0").expect("stop KSM");
}
