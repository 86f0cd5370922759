//! Memory in the regions that a program has from its start. The child writes, and each page is copied for it.

use std::{cell::UnsafeCell, hint::black_box};

use super::{Case, PAGES};
use crate::workload::{
    memory::{Buffer, PAGE},
    sys,
};

/// One more, as only whole pages are used.
const BYTES: usize = (PAGES + 1) * PAGE;

/// `memory` has [`BYTES`] that are not used for anything else until this returns.
fn child_writes(case: &Case, memory: *mut u8) {
    // SAFETY: as said.
    let buffer = unsafe { Buffer::within(memory, PAGES) };
    buffer.write(0, PAGES);
    sys::wait(case.fork(0, || case.write(buffer, 0)));
}

/// Pages of the heap.
pub(super) fn heap(case: &Case) {
    // SAFETY: the C library takes into account that not all of the heap is its own.
    let memory = unsafe { libc::sbrk(BYTES as libc::intptr_t) };
    assert_ne!(memory.addr(), usize::MAX, "sbrk: {}", std::io::Error::last_os_error());
    child_writes(case, memory.cast());
}

/// Pages of the stack. The lowest are near to what is called, so they are left to that.
pub(super) fn stack(case: &Case) {
    let mut memory = [0_u8; PAGE + BYTES];
    child_writes(case, black_box(&mut memory[PAGE..]).as_mut_ptr());
}

struct Memory(UnsafeCell<[u8; BYTES]>);

// SAFETY: only the one thread of a process uses it.
unsafe impl Sync for Memory {}

/// Initialised: where the rest of the data of a static position-independent program ends, the kernel does not say, as it
/// puts the heap of one elsewhere.
#[unsafe(link_section = ".data")]
static MEMORY: Memory = Memory(UnsafeCell::new([0; BYTES]));

/// Pages of the program's own data: copied once from its file, before the fork.
pub(super) fn data(case: &Case) {
    child_writes(case, MEMORY.0.get().cast());
}
