//! Workloads of copy-on-write: k of N pages are written in one known way.
//!
//! A life has other such faults too: its stack, the C library's data. The test takes the difference to
//! a run with k = 0, so they must be the same in every run. For that, all processes run on one CPU
//! under `SCHED_FIFO`: each runs until it blocks, so which of parent and child touches a page first
//! is no race. Shared memory holds all that need not be private. And no page may wait in a list of
//! another CPU to be put on the LRU: that is a reference more, for which a page is copied and not reused.

mod pins;
mod swap;

use std::ffi::OsString;

use super::{
    board::Board,
    facts::{Facts, Process},
    memory::{Buffer, Frames},
    number,
    sys::{self, Args, must, text},
};

/// Pages of a buffer.
pub(crate) const PAGES: usize = 64;
/// Pages and threads of the race.
const RACE: (usize, i32) = (1024, 4);

/// Slots of the board: changed frames, threads that are ready, pids of the children.
const TRUTH: usize = 0;
const READY: usize = 1;
const CHILD: usize = 2;

/// One of the cases, given the words after k.
type Body = fn(&Case, &[OsString]);

/// Runs `name` if it is one of these.
pub(crate) fn run(name: &str, args: &[OsString], facts: &mut Facts) -> bool {
    // What to do, and what its child does besides: execs, threads.
    let (body, execs, threads): (Body, i32, i32) = match name {
        "cow-child" => (child_writes, 0, 0),
        "cow-parent" => (parent_writes, 0, 0),
        "cow-two" => (parent_of_two_writes, 0, 0),
        "cow-reuse" => (last_owner_writes, 0, 0),
        "cow-kernel" => (kernel_writes, 0, 0),
        "cow-zero" => (zero_page, 0, 0),
        "cow-demand" => (demand_zero, 0, 0),
        "cow-file-first" => (file_first, 0, 0),
        "cow-file-read" => (file_read, 0, 0),
        "cow-wasted" => (wasted, 1, 0),
        "cow-race" => (race, 0, RACE.1),
        _ => match pins::body(name).or_else(|| swap::body(name)) {
            Some(body) => (body, 0, 0),
            None => return false,
        },
    };
    alone_on_one_cpu(name, args, facts);
    let case = Case { board: Board::new(), k: number(args, 0) as usize };
    // The counters of this first process have a past: the tracer's child before it became this program.
    let actor = sys::fork(|| {
        body(&case, &args[1..]);
        0
    });
    facts.push(Process::new("fork", actor, sys::wait(actor)));
    facts.set("actor", actor);
    facts.set("truth", case.board.get(TRUTH));
    for (index, name) in ["child", "second"].into_iter().enumerate() {
        let pid = case.board.get(CHILD + index);
        if pid != 0 {
            facts.set(name, pid);
            let child = Process::new("fork", pid, 0).with("parent", actor).with("reaper", actor);
            facts.push(child.with("execs", execs).with("threads", threads));
        }
    }
    true
}

/// No other process of this workload runs before the running one blocks, and there are no huge pages.
///
/// The program is executed again when that is set up, so that all its memory is of this one CPU.
fn alone_on_one_cpu(name: &str, args: &[OsString], facts: &Facts) {
    // SAFETY: the structs are plain data and outlive the calls; 0 is the calling thread.
    unsafe {
        if libc::sched_getscheduler(0) == libc::SCHED_FIFO {
            return;
        }
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        let cpu = must("sched_getcpu", libc::sched_getcpu());
        libc::CPU_SET(usize::try_from(cpu).unwrap_or(0), &mut cpus);
        must("sched_setaffinity", libc::sched_setaffinity(0, size_of_val(&cpus), &raw const cpus));
        let first = libc::sched_param { sched_priority: 1 };
        must("sched_setscheduler", libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const first));
        must("prctl", libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0));
    }
    let this = std::env::current_exe().expect("the path of this program");
    let words = [this.clone().into(), "workload".into(), name.into(), facts.path()];
    let error = sys::exec_again(&text(&this), &Args::new(words.iter().chain(args)));
    panic!("exec: error {error}");
}

/// What a case works with.
struct Case {
    board: Board,
    k: usize,
}

impl Case {
    /// Forks child number `index` and leaves its pid for the first process.
    fn fork(&self, index: usize, child: impl FnOnce()) -> i32 {
        let pid = sys::fork(|| {
            child();
            0
        });
        self.board.set(CHILD + index, pid);
        pid
    }

    /// Writes k pages of `buffer` from `first` on and notes how many frames that changed.
    fn write(&self, buffer: Buffer, first: usize) {
        let frames = Frames::before(self.board, buffer);
        buffer.write(first, self.k);
        buffer.settle();
        self.board.set(TRUTH, frames.changed());
    }

    fn gate(&self) -> Gate {
        let (read, write) = sys::pipe();
        Gate { board: self.board, read, write }
    }
}

/// One process opens it, another passes.
#[derive(Clone, Copy)]
struct Gate {
    board: Board,
    read: i32,
    write: i32,
}

impl Gate {
    fn open(&self) {
        // SAFETY: one byte of the scratch area.
        must("write", unsafe { libc::write(self.write, self.board.scratch().cast(), 1) });
    }

    fn pass(&self) {
        // SAFETY: one byte of the scratch area.
        must("read", unsafe { libc::read(self.read, self.board.scratch().cast(), 1) });
    }
}

/// Memory with all of its pages written.
fn filled(pages: usize) -> Buffer {
    let buffer = Buffer::anonymous(pages);
    buffer.write(0, pages);
    buffer
}

/// The child writes: each page is copied for it.
fn child_writes(case: &Case, _: &[OsString]) {
    let buffer = filled(PAGES);
    sys::wait(case.fork(0, || case.write(buffer, 0)));
}

/// The parent writes while the child lives: each page is copied for the parent.
fn parent_writes(case: &Case, _: &[OsString]) {
    let buffer = filled(PAGES);
    let (lives, end) = (case.gate(), case.gate());
    let child = case.fork(0, || {
        lives.open();
        end.pass();
    });
    lives.pass();
    case.write(buffer, 0);
    end.open();
    sys::wait(child);
}

/// The parent writes while two children live: one copy of each page, for the parent.
fn parent_of_two_writes(case: &Case, _: &[OsString]) {
    let buffer = filled(PAGES);
    let (lives, end) = (case.gate(), case.gate());
    let children = [0, 1].map(|index| {
        let child = case.fork(index, || {
            lives.open();
            end.pass();
        });
        lives.pass();
        child
    });
    case.write(buffer, 0);
    for child in children {
        end.open();
        sys::wait(child);
    }
}

/// The parent writes when the child is gone: no copy.
fn last_owner_writes(case: &Case, _: &[OsString]) {
    let buffer = filled(PAGES);
    buffer.drain();
    sys::wait(case.fork(0, || ()));
    case.write(buffer, 0);
}

/// The kernel writes for the child: `read(2)` from a pipe into pages that are shared with the parent.
fn kernel_writes(case: &Case, _: &[OsString]) {
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
        case.board.set(TRUTH, frames.changed());
    });
    sys::wait(child);
}

/// Pages that were read first: the shared zero page is replaced.
fn zero_page(case: &Case, _: &[OsString]) {
    let buffer = Buffer::anonymous(PAGES);
    buffer.read();
    case.write(buffer, 0);
}

/// Pages that were never touched.
fn demand_zero(case: &Case, _: &[OsString]) {
    let buffer = Buffer::anonymous(PAGES);
    buffer.write(0, case.k);
    buffer.settle();
}

/// A private mapping of a file, written on first touch.
fn file_first(case: &Case, args: &[OsString]) {
    let buffer = Buffer::file(PAGES, &text(&args[0]));
    buffer.write(0, case.k);
    buffer.settle();
}

/// A private mapping of a file, read before it is written.
fn file_read(case: &Case, args: &[OsString]) {
    let buffer = Buffer::file(PAGES, &text(&args[0]));
    buffer.read();
    case.write(buffer, 0);
}

/// Before the child executes a program, it writes as many pages as the first argument says, and the
/// parent k others.
fn wasted(case: &Case, args: &[OsString]) {
    let own = number(args, 0) as usize;
    let (program, list) = (text(&args[1]), Args::new([&args[1]]));
    let buffer = filled(PAGES);
    let (lives, end) = (case.gate(), case.gate());
    let child = case.fork(0, || {
        buffer.write(0, own);
        buffer.settle();
        lives.open();
        end.pass();
        panic!("exec: error {}", sys::exec(&program, &list));
    });
    lives.pass();
    case.write(buffer, PAGES / 2);
    end.open();
    sys::wait(child);
}

/// Threads of the child, on all CPUs, write the same pages at the same time: one copy of each page.
fn race(case: &Case, _: &[OsString]) {
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
        case.board.set(TRUTH, frames.changed());
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
