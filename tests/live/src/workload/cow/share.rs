//! Anonymous memory that parent and child share.

use super::{Case, PAGES, READY, filled};
use crate::workload::{
    frames::Frames,
    memory::Buffer,
    sys::{self, must},
};

/// Pages and threads of the race.
pub(super) const RACE: (usize, i32) = (1024, 4);

/// The child writes: each page is copied for it.
pub(super) fn child_writes(case: &Case) {
    let buffer = filled(PAGES);
    sys::wait(case.fork(0, || case.write(buffer, 0)));
}

/// The parent writes while the child lives: each page is copied for the parent.
pub(super) fn parent_writes(case: &Case) {
    let buffer = filled(PAGES);
    let (lives, end) = (case.gate(), case.gate());
    let child = case.fork(0, || {
        lives.open();
        end.pass();
    });
    lives.pass();
    case.write(buffer, 0);
    case.end(end, child);
}

/// The parent writes all pages while the child lives, then the child writes: no copy any more.
pub(super) fn child_writes_last(case: &Case) {
    let buffer = filled(PAGES);
    buffer.drain();
    let copied = case.gate();
    let child = case.fork(0, || {
        copied.pass();
        case.write(buffer, 0);
    });
    buffer.write(0, PAGES);
    buffer.settle();
    case.end(copied, child);
}

/// The parent writes when the child is gone: no copy.
pub(super) fn last_owner_writes(case: &Case) {
    let buffer = filled(PAGES);
    buffer.drain();
    sys::wait(case.fork(0, || ()));
    case.write(buffer, 0);
}

/// The kernel writes for the child: `read(2)` from a pipe into pages that are shared with the parent.
pub(super) fn kernel_writes(case: &Case) {
    const BYTES: usize = 4096;
    let buffer = filled(PAGES);
    let child = case.fork(0, || {
        let (read, write) = sys::pipe();
        let frames = Frames::before(case.board, buffer);
        for index in 0..case.k {
            // SAFETY: what is written is the unused end of the scratch area; what is read fills one page.
            unsafe {
                must("write", libc::write(write, case.board.scratch().add(7 * BYTES).cast(), BYTES));
                must("read", libc::read(read, buffer.page(index).cast(), BYTES));
            }
        }
        buffer.settle();
        case.count(frames.changed());
    });
    sys::wait(child);
}

/// Pages that were read first: the shared zero page is replaced.
pub(super) fn zero_page(case: &Case) {
    let buffer = Buffer::anonymous(PAGES);
    buffer.read();
    case.write(buffer, 0);
}

/// Pages that were never touched.
pub(super) fn demand_zero(case: &Case) {
    case.write(Buffer::anonymous(PAGES), 0);
}

/// Threads of the child, on all CPUs, write the same pages at the same time: one copy of each page.
pub(super) fn race(case: &Case) {
    let buffer = filled(RACE.0);
    let child = case.fork(0, || {
        on_all_cpus();
        let frames = Frames::before(case.board, buffer);
        let (board, k) = (case.board, case.k);
        let threads: Vec<_> = (0..RACE.1)
            .map(|_| {
                std::thread::spawn(move || {
                    board.add(READY, 1);
                    while board.get(READY) < RACE.1 {
                        std::thread::yield_now();
                    }
                    buffer.write(0, k);
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("a thread that writes");
        }
        buffer.settle();
        case.count(frames.changed());
    });
    sys::wait(child);
}

/// Takes back what `alone_on_one_cpu` did to the scheduling.
fn on_all_cpus() {
    // SAFETY: as there.
    unsafe {
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        for cpu in 0..libc::CPU_SETSIZE as usize {
            libc::CPU_SET(cpu, &mut cpus);
        }
        must("sched_setaffinity", libc::sched_setaffinity(0, size_of_val(&cpus), &raw const cpus));
        let normal = libc::sched_param { sched_priority: 0 };
        must("sched_setscheduler", libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const normal));
    }
}
