//! What the kernel side keeps between events: values of maps that the daemon reads.

#[cfg(doc)]
use crate::event::Kind;
use crate::{
    counter::{Counters, Totals},
    event::{COMM_BYTES, KINDS},
    start::Start,
};

/// What the kernel side keeps of a live process, by tgid: the value of the maps `PROCESSES` and `PROCESS_OVERFLOW`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// `start_boottime` of the leader; 0 while not known (the process was there before us).
    pub start_time_ns: u64,
    /// CLONE_* flags it was born with.
    pub clone_flags: u64,
    /// `start_boottime` of the fork-time parent's leader.
    pub parent_start_time_ns: u64,
    /// The memory (`mm_struct`) whose exec was reported last.
    pub exec_mm: u64,
    /// The memory in which a thread's last first fault was: see `mm_totals`.
    pub mm: u64,
    /// Its sums when a thread first faulted in `mm`. An exec faults in the new memory before it is reported.
    pub mm_totals: Totals,
    /// Fork-time parent; 0 when it was there before us.
    pub parent_tgid: u32,
    /// Non-zero while it is left out by its name: one more than the number of the system call that made it, or
    /// [`NOT_MADE_BY_CALL`]. 0 from the moment on that it is traced.
    pub outside: u32,
    /// The leader's name before it was last changed by itself, as each exec does; empty when it has not been.
    pub comm_before: [u8; COMM_BYTES],
    /// Its counters.
    pub counters: Counters,
    /// How its program began.
    pub start: Start,
    /// From its wake-up by fork to its first run, in ns plus one; 0 when that is not known.
    pub run_delay: u64,
}

/// [`Process::outside`]: the system call is not known, or there was none.
pub const NOT_MADE_BY_CALL: u32 = u32::MAX;

/// Bytes of a value of the maps `THREADS` and `THREAD_OVERFLOW`, which only the eBPF programs look into.
pub const THREAD_BYTES: usize = 104;

/// What became of the records of one [`Kind`]: side by side, as each of them counts twice.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// Events that were to be recorded.
    pub seen: u64,
    /// Those that were put into the ring.
    pub submitted: u64,
    /// Those that found the ring full.
    pub ring_full: u64,
}

/// Counts of one CPU; an element of the map `STATS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// By [`Kind`].
    pub records: [Fates; KINDS],
    /// Processes that found their table full: no counters for them.
    pub process_full: u64,
    /// Faults that found the table of threads full: not counted.
    pub thread_full: u64,
    /// Faults counted for a thread whose process had left the table: not on any timeline.
    pub late: u64,
}

wire! {
    Process = 7 * 8 + COMM_BYTES + size_of::<Totals>() + size_of::<Counters>() + size_of::<Start>(),
    Fates = 3 * 8,
    Stats = KINDS * size_of::<Fates>() + 3 * 8,
}
