//! The maps, one purpose each, all preallocated and bounded.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use tracer_common::{
    counter::COUNTERS,
    event::{Cgroup, Cwd, EXEC_TAIL_BYTES, Exec, ExecFailed, TAIL_BYTES},
    ledger::Ledger,
    settings::{Calibration, TESTING},
    slot::Slot,
    state::{NOT_MADE_BY_CALL, Process, Stats},
};

use crate::{
    cwd::Way,
    kernel::{Pointer, Task, control, current_ids, is_wanted, setting},
    state::Thread,
    table::Table,
};

/// The records, in the order of their reservation. The daemon sets the size.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

/// The live processes by tgid, with their counters. Not an LRU map: that would drop live ones unseen.
/// In a tree, membership here is the filter; by name, [`Process::outside`] is. The daemon sets the sizes.
#[map]
static PROCESSES: Array<Slot<Process>> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static PROCESS_OVERFLOW: HashMap<u32, Process> = HashMap::with_max_entries(1, 0);

struct Processes;

impl Table for Processes {
    type Value = Process;

    #[inline(always)]
    fn array() -> &'static Array<Slot<Process>> {
        &PROCESSES
    }
    #[inline(always)]
    fn overflow() -> &'static HashMap<u32, Process> {
        &PROCESS_OVERFLOW
    }
}

/// The last write fault of each thread by tid, until it is settled. Gone when the thread ends. The daemon sets the
/// sizes.
#[map]
static THREADS: Array<Slot<Thread>> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static THREAD_OVERFLOW: HashMap<u32, Thread> = HashMap::with_max_entries(1, 0);

struct Threads;

impl Table for Threads {
    type Value = Thread;

    #[inline(always)]
    fn array() -> &'static Array<Slot<Thread>> {
        &THREADS
    }
    #[inline(always)]
    fn overflow() -> &'static HashMap<u32, Thread> {
        &THREAD_OVERFLOW
    }
}

/// Counts, one element per CPU; the daemon sets the number and maps it into its memory.
#[map]
static STATS: Array<Stats> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Questions and answers of the calibration.
#[map]
pub(crate) static CALIBRATION: Array<Calibration> = Array::with_max_entries(1, 0);

/// New values for `PROCESSES`: element 0 is for births, kept zeroed but for a few words; element 1 is all zeros.
#[map]
static NEWBORN: PerCpuArray<Process> = PerCpuArray::with_max_entries(2, 0);

/// Records with a tail, built before they are put into the ring, because a reservation needs a
/// constant size.
#[map]
static EXEC_SCRATCH: PerCpuArray<ExecRecord> = PerCpuArray::with_max_entries(2, 0);
#[map]
static EXEC_FAILED_SCRATCH: PerCpuArray<Tailed<ExecFailed>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static CGROUP_SCRATCH: PerCpuArray<Tailed<Cgroup>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static CWD_SCRATCH: PerCpuArray<Tailed<Cwd>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static CWD_WAY: PerCpuArray<Way> = PerCpuArray::with_max_entries(1, 0);
/// Has no tail: the room for it holds what is read on the way.
#[map]
static LEDGER_SCRATCH: PerCpuArray<Tailed<Ledger>> = PerCpuArray::with_max_entries(2, 0);

/// A record with room for its tail.
#[repr(C)]
pub(crate) struct Tailed<T, const BYTES: usize = TAIL_BYTES> {
    pub(crate) body: T,
    pub(crate) tail: [u8; BYTES],
}

/// The record of an exec, which may carry the environment.
pub(crate) type ExecRecord = Tailed<Exec, EXEC_TAIL_BYTES>;

/// `*p += v`, safe against other CPUs and against preemption.
#[inline(always)]
pub(crate) fn atomic_add(p: *mut u64, v: u64) {
    // SAFETY: the verifier has bounded `p`. `AtomicU64::fetch_add` does not exist on this target.
    unsafe { core::arch::asm!("lock *(u64 *)({p} + 0) += {v}", p = in(reg) p, v = in(reg) v) }
}

/// The counts of this CPU.
#[inline(always)]
pub(crate) fn stats() -> Option<*mut Stats> {
    // SAFETY: a helper without arguments.
    STATS.get_ptr_mut(unsafe { bpf_get_smp_processor_id() })
}

/// Each of the two programs on exec has its own: the one can be preempted by the other.
#[inline(always)]
pub(crate) fn exec_scratch(of: u32) -> Option<*mut ExecRecord> {
    EXEC_SCRATCH.get_ptr_mut(of)
}

#[inline(always)]
pub(crate) fn exec_failed_scratch() -> Option<*mut Tailed<ExecFailed>> {
    EXEC_FAILED_SCRATCH.get_ptr_mut(0)
}

#[inline(always)]
pub(crate) fn cgroup_scratch() -> Option<*mut Tailed<Cgroup>> {
    CGROUP_SCRATCH.get_ptr_mut(0)
}

#[inline(always)]
pub(crate) fn cwd_scratch() -> Option<*mut Tailed<Cwd>> {
    CWD_SCRATCH.get_ptr_mut(0)
}

#[inline(always)]
pub(crate) fn cwd_way() -> Option<*mut Way> {
    CWD_WAY.get_ptr_mut(0)
}

/// The programs of the ledger share element 0, as they run with preemption off; the one that tells the state after an
/// exec has element 1, since it can be preempted by the others.
#[inline(always)]
pub(crate) fn ledger_scratch(of: u32) -> Option<*mut Tailed<Ledger>> {
    LEDGER_SCRATCH.get_ptr_mut(of)
}

/// The entry of a process, if it has one.
#[inline(always)]
pub(crate) fn process(tgid: u32) -> Option<*mut Process> {
    Processes::get(tgid)
}

/// True when a process is left out by its name.
#[inline(always)]
pub(crate) fn is_outside(entry: *mut Process) -> bool {
    // SAFETY: a map value.
    setting!(names) != 0 && unsafe { (*entry).outside } != 0
}

/// True when a process that has this entry is traced. One that has none is, unless it is outside of the tree: it found
/// the table full.
#[inline(always)]
pub(crate) fn is_told(entry: Option<*mut Process>) -> bool {
    match entry {
        Some(entry) => !is_outside(entry),
        None => setting!(tree) == 0,
    }
}

/// True when the current process, whose tgid this is, is traced.
#[inline(always)]
pub(crate) fn is_traced(tgid: u32) -> bool {
    setting!(tree) | setting!(names) == 0 || is_told(process_or_missed(tgid))
}

/// True when the faults of a process that has no state yet are to be followed.
#[inline(always)]
pub(crate) fn is_followed(tgid: u32) -> bool {
    if setting!(tree) | setting!(names) == 0 && control!(flags) & TESTING == 0 {
        return true;
    }
    match process(tgid) {
        Some(entry) => !is_outside(entry),
        None => setting!(tree) == 0 && control!(flags) & TESTING == 0,
    }
}

/// The entry of the current process. One whose birth was missed gets it now, unless a tree is traced.
#[inline(always)]
pub(crate) fn current_process() -> Option<*mut Process> {
    process_or_missed(current_ids().0)
}

/// The same for who knows that this is its tgid.
#[inline(always)]
pub(crate) fn process_or_missed(tgid: u32) -> Option<*mut Process> {
    if let Some(entry) = process(tgid) {
        return Some(entry);
    }
    if setting!(tree) != 0 || !enter_missed(tgid) {
        return None;
    }
    process(tgid)
}

/// Enters the current process, whose birth was missed; `false` when the table is full, which is counted.
///
/// A function of its own in the object: the verifier forgets its paths when it returns.
#[inline(never)]
fn enter_missed(tgid: u32) -> bool {
    let Some(new) = NEWBORN.get_ptr_mut(1) else { return false };
    // Threads of the process may do this at the same time: the first one does.
    // SAFETY: a map value that lives as long as the map.
    let inserted = Processes::insert_elsewhere(tgid, unsafe { &*new });
    let Some(entry) = process(tgid) else {
        if !inserted {
            count_full_process();
        }
        return false;
    };
    let leader = Task::current().leader();
    // Later than the start, only one gets here whose birth found the table full: that was told, and so is the rest.
    let is_left_out = setting!(names) != 0 && control!(flags) & TESTING != 0 && !is_wanted(leader.name());
    // SAFETY: a map value.
    unsafe {
        (*entry).start_time_ns = leader.start_time();
        if is_left_out {
            (*entry).outside = NOT_MADE_BY_CALL;
        }
    }
    true
}

/// Enters a newborn process; `false` when the table is full, which is counted.
#[inline(always)]
pub(crate) fn enter_process<P: Pointer>(
    child: Task<P>,
    clone_flags: u64,
    parent_tgid: u32,
    parent_start_time_ns: u64,
    outside: u32,
) -> bool {
    let Some(new) = NEWBORN.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: a map value of this CPU; only births use element 0.
    unsafe {
        (*new).start_time_ns = child.start_time();
        (*new).clone_flags = clone_flags;
        (*new).parent_start_time_ns = parent_start_time_ns;
        (*new).parent_tgid = parent_tgid;
        (*new).outside = outside;
    }
    // SAFETY: a map value that lives as long as the map.
    let inserted = Processes::insert(child.tgid(), unsafe { &*new });
    if !inserted {
        count_full_process();
    }
    inserted
}

/// Counts a process that found the table full.
#[inline(always)]
fn count_full_process() {
    if let Some(stats) = stats() {
        // SAFETY: a map value.
        atomic_add(unsafe { &raw mut (*stats).process_full }, 1);
    }
}

/// Drops the entry of a process.
#[inline(always)]
pub(crate) fn drop_process(tgid: u32) {
    Processes::remove(tgid);
}

/// The state of a thread, if it has any.
#[inline(always)]
pub(crate) fn thread(tid: u32) -> Option<*mut Thread> {
    if setting!(threads) == 0 {
        return None;
    }
    Threads::get(tid)
}

/// The state of a thread, made if need be; a full table is counted.
#[inline(always)]
pub(crate) fn thread_or_new(tid: u32) -> Option<*mut Thread> {
    if let Some(state) = thread(tid) {
        return Some(state);
    }
    if Threads::insert(tid, &Thread::NEW) {
        return thread(tid);
    }
    if let Some(stats) = stats() {
        // SAFETY: a map value.
        atomic_add(unsafe { &raw mut (*stats).thread_full }, 1);
    }
    None
}

/// When the current thread entered the system call in which it forks, in ns of CLOCK_BOOTTIME; 0 when that was not
/// seen. Only the first to ask is told.
#[inline(always)]
pub(crate) fn take_call(tid: u32) -> u64 {
    let Some(state) = thread(tid) else { return 0 };
    // SAFETY: a map value; only the thread itself uses it.
    unsafe { core::mem::take(&mut (*state).call_ns) }
}

/// Drops the state of a thread.
#[inline(always)]
pub(crate) fn drop_thread(tid: u32) {
    Threads::remove(tid);
}

/// Counts faults that are on no timeline.
#[inline(always)]
pub(crate) fn count_late(faults: u64) {
    if let Some(stats) = stats() {
        // SAFETY: a map value.
        atomic_add(unsafe { &raw mut (*stats).late }, faults);
    }
}

/// Adds to a counter of a process.
#[inline(always)]
pub(crate) fn count(entry: *mut Process, counter: u32, by: u64) {
    if counter < COUNTERS as u32 {
        // SAFETY: the index was checked.
        atomic_add(unsafe { (&raw mut (*entry).counters).cast::<u64>().add(counter as usize) }, by);
    }
}

/// A counter of a process.
#[inline(always)]
pub(crate) fn counted(entry: *mut Process, counter: u32) -> u64 {
    if counter >= COUNTERS as u32 {
        return 0;
    }
    // SAFETY: the index was checked.
    unsafe { (&raw const (*entry).counters).cast::<u64>().add(counter as usize).read() }
}
