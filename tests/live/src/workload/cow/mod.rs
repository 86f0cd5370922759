//! Workloads of copy-on-write: k of N pages are written in one known way.
//!
//! A life has other such faults too: its stack, the C library's data. The test takes the difference to
//! a run with k = 0, so they must be the same in every run. For that, all processes run on one CPU
//! under `SCHED_FIFO`: each runs until it blocks, so which of parent and child touches a page first
//! is no race. Shared memory holds all that need not be private. And no page may wait in a list of
//! another CPU to be put on the LRU: that is a reference more, for which a page is copied and not reused.

mod family;
mod file;
mod huge;
mod look;
mod merge;
mod pins;
mod protect;
mod region;
mod share;
mod swap;

use std::ffi::{CString, OsString};

use serde_json::json;

use super::{
    board::Board,
    facts::{Facts, Process},
    frames::Frames,
    memory::{self, Buffer, filled},
    sys::{self, Args, must, text},
};

/// Pages of a buffer.
pub(crate) const PAGES: usize = 64;

/// What the children are called, in the order of their births.
const CHILDREN: [&str; 4] = ["child", "second", "third", "fourth"];

/// Slots of the board: changed frames, threads that are ready, pids of the children.
const TRUTH: usize = 0;
const READY: usize = 1;
const CHILD: usize = 2;

/// One of the cases.
type Body = fn(&Case);

/// What its first child does besides: how it was born, execs, threads.
type Child = (&'static str, i32, i32);

fn find(name: &str) -> Option<(Body, Child)> {
    const FORK: Child = ("fork", 0, 0);
    let body: Body = match name {
        "cow-wasted" => return Some((family::wasted, ("fork", 1, 0))),
        "cow-race" => return Some((share::race, ("fork", 0, share::RACE.1))),
        "cow-vfork-exec" => return Some((look::vfork_exec, ("vfork", 1, 0))),
        "cow-vfork" => return Some((family::vfork_child_writes, ("vfork", 0, 0))),
        "cow-child" => share::child_writes,
        "cow-parent" => share::parent_writes,
        "cow-reuse" => share::last_owner_writes,
        "cow-reuse-child" => share::child_writes_last,
        "cow-kernel" => share::kernel_writes,
        "cow-zero" => share::zero_page,
        "cow-demand" => share::demand_zero,
        "cow-two" => family::parent_of_two_writes,
        "cow-four" => family::four_children,
        "cow-file-first" => file::private_first,
        "cow-file-read" => file::private_read,
        "cow-file-fork" => file::private_then_fork,
        "cow-file-uncached" => file::private_uncached,
        "cow-read-uncached" => file::read_uncached,
        "cow-shmem-read" => file::private_shmem_read,
        "cow-shmem-hole" => file::private_shmem_hole,
        "cow-shared-read" => file::shared_read,
        "cow-shared-first" => file::shared_first,
        "cow-shared-anonymous" => file::shared_anonymous,
        "cow-shared-hole" => file::shared_shmem_hole,
        "cow-shared-filled" => file::shared_shmem_filled,
        "cow-huge-child" => huge::transparent_child,
        "cow-huge-reuse" => huge::transparent_reuse,
        "cow-huge-zero" => huge::transparent_zero,
        "cow-hugetlb-child" => huge::hugetlb_child,
        "cow-hugetlb-parent" => huge::hugetlb_parent,
        "cow-hugetlb-reuse" => huge::hugetlb_reuse,
        "cow-merged" => merge::merged,
        "cow-merged-zero" => merge::merged_zero,
        "cow-handled" => protect::handled,
        "cow-refused" => protect::refused,
        "cow-userfaultfd" => protect::userfaultfd,
        "cow-soft-dirty" => protect::soft_dirty,
        "cow-beside-writes" => protect::beside_writes,
        "cow-beside-unmaps" => protect::beside_unmaps,
        "cow-ptrace" => pins::poked,
        "cow-proc-mem" => pins::written_by_proc,
        "cow-process-vm" => pins::written_by_call,
        "cow-direct-read" => pins::direct_read,
        "cow-direct-write" => pins::direct_write,
        "cow-mlock" => pins::locked,
        "cow-populate" => pins::populated,
        "cow-register" => pins::registered,
        "cow-fork-pinned" => pins::fork_of_pinned,
        "cow-swapped" => swap::swapped,
        "cow-swap-read-by-parent" => swap::read_by_parent,
        "cow-swap-read-by-child" => swap::read_by_child,
        "cow-heap" => region::heap,
        "cow-stack" => region::stack,
        "cow-data" => region::data,
        _ => return None,
    };
    Some((body, FORK))
}

/// Runs the program that looks at its own memory, if that is its name. It does not come back.
pub(crate) fn look(name: &str, args: &[OsString]) {
    if name == look::NAME {
        look::run(args);
    }
}

/// Runs `name` if it is one of these: a process for each word but the last one, which names a file. A word is k, or k
/// and another number. The first process is to warm up: all others find this one as it leaves it.
pub(crate) fn run(name: &str, args: &[OsString], facts: &mut Facts) -> bool {
    let Some((body, (kind, execs, threads))) = find(name) else { return false };
    alone_on_one_cpu(name, args, facts);
    sys::end_with_parent();
    let (file, words) = args.split_last().expect("a file");
    let board = Board::new();
    let cases: Vec<_> = words.iter().map(|word| Case::new(board, word, file)).collect();
    // All that happens between two of them does not allocate.
    let mut ended = Vec::with_capacity(cases.len());
    for case in &cases {
        for slot in 0..CHILD + CHILDREN.len() {
            board.set(slot, 0);
        }
        memory::drain();
        // The counters of this first process have a past: the tracer's child before it became this program.
        let actor = sys::fork(|| {
            memory::touch_stack();
            board.touch();
            body(case);
            0
        });
        let status = sys::wait(actor);
        let children: [_; CHILDREN.len()] = std::array::from_fn(|index| board.get(CHILD + index));
        ended.push((actor, status, board.get(TRUTH), children));
    }
    let mut rounds = Vec::new();
    for (actor, status, truth, children) in ended {
        facts.push(Process::new("fork", actor, status));
        let mut round = json!({"actor": actor, "truth": truth});
        for (index, pid) in children.into_iter().enumerate().filter(|(_, pid)| *pid != 0) {
            round[CHILDREN[index]] = pid.into();
            let kind = if index == 0 { kind } else { "fork" };
            let child = Process::new(kind, pid, 0).with("parent", actor).with("reaper", actor);
            facts.push(child.with("execs", execs).with("threads", threads));
        }
        rounds.push(round);
    }
    facts.set("rounds", rounds);
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
    /// The other number.
    other: usize,
    /// The file that the last word names.
    file: CString,
    /// To settle what is not a case's own.
    aside: Buffer,
}

impl Case {
    fn new(board: Board, word: &OsString, file: &OsString) -> Self {
        let word = word.to_str().unwrap_or_default();
        let (k, other) = word.split_once(':').unwrap_or((word, "0"));
        let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("{word} is not a number"));
        Self { board, k: number(k), other: number(other), file: text(file), aside: Buffer::anonymous(1) }
    }

    /// Forks child number `index` and leaves its pid for the first process.
    fn fork(&self, index: usize, child: impl FnOnce()) -> i32 {
        // Or pages that were allocated not long ago would be copied in place of a reuse.
        memory::drain();
        let pid = sys::fork(|| {
            memory::touch_stack();
            self.board.touch();
            child();
            0
        });
        memory::touch_stack();
        // A reuse is counted at the next fault: which one that is would depend on the case.
        self.aside.settle_again();
        self.name(index, pid);
        pid
    }

    /// Lets a child end that waits at `gate`. What the parent has written until then is settled.
    fn end(&self, gate: Gate, child: i32) {
        self.aside.settle_again();
        gate.open();
        sys::wait(child);
    }

    /// Leaves the pid of child number `index` for the first process.
    fn name(&self, index: usize, pid: i32) {
        self.board.set(CHILD + index, pid);
    }

    /// Adds to the number of pages whose frame was seen to change.
    fn count(&self, changed: i32) {
        self.board.add(TRUTH, changed);
    }

    /// Writes k pages of `buffer` from `first` on and notes how many frames that changed.
    fn write(&self, buffer: Buffer, first: usize) {
        let frames = Frames::before(self.board, buffer);
        buffer.write(first, self.k);
        buffer.settle();
        self.count(frames.changed());
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
