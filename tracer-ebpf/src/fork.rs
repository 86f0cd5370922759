//! Births.
//!
//! `task_newtask(struct task_struct *task, unsigned long clone_flags)` (include/trace/events/task.h) knows
//! the flags; `sched_process_fork(struct task_struct *parent, struct task_struct *child)`
//! (include/trace/events/sched.h) follows it in the same thread. Both run in the parent, before the child
//! is woken. io_uring and vhost workers pass the first only; they are threads.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::warn;
use tracer_common::{
    counter::{self, Totals},
    event::{FLAG_LATE, FLAG_NO_COUNTERS, FLAG_NO_PARENT, FLAG_PARENT_OUTSIDE, Fork, Kind},
    state::{NOT_MADE_BY_CALL, Process},
};

use crate::{
    cow,
    kernel::{Mm, Reached, Task, Typed, control, current_ids, is_wanted, read_user, setting, task_argument},
    maps, ring, syscall,
};

// include/uapi/linux/sched.h
const CLONE_VM: u64 = 0x0100;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_THREAD: u64 = 0x0001_0000;
/// The lowest byte of the flags of clone(2) is the signal sent at exit.
const CSIGNAL: u64 = 0xff;

/// Enters the child into the table, or counts a thread on its process.
#[btf_tracepoint(function = "task_newtask")]
pub fn task_newtask(ctx: BtfTracePointContext) -> i32 {
    let child = task_argument(&ctx, 0);
    if !enter(child, ctx.arg(1)) {
        warn!(&ctx, "no room in the table for process {}", child.tgid());
    }
    0
}

/// Reports the birth of a process.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    report(task_argument(&ctx, 1));
    0
}

/// Both, where tracepoints can be preempted (7.0) and typed programs are skipped while another task is preempted
/// in them on this CPU: `sched_wakeup_new(struct task_struct *p)` (include/trace/events/sched.h) runs in the
/// parent under the run queue's lock, just before the child can run.
#[btf_tracepoint(function = "sched_wakeup_new")]
pub fn sched_wakeup_new(ctx: BtfTracePointContext) -> i32 {
    let child = task_argument(&ctx, 0);
    if child.tid() != child.tgid() {
        enter(child, CLONE_THREAD);
        return 0;
    }
    if !enter(child, flags_of_call(child)) {
        warn!(&ctx, "no room in the table for process {}", child.tgid());
    }
    report(child);
    0
}

/// CLONE_* flags of the system call that the parent is in; 0 for a kernel thread's. Where the call's arguments must
/// not be read: those that the child shows.
#[inline(always)]
fn flags_of_call(child: Task<Typed>) -> u64 {
    let current = Task::current();
    if current.mm().is_none() {
        return 0;
    }
    let regs = current.user_regs();
    match regs.orig_ax() {
        syscall::VFORK => CLONE_VFORK | CLONE_VM,
        syscall::CLONE => regs.di(),
        // `struct clone_args` begins with the flags (include/uapi/linux/sched.h).
        syscall::CLONE3 => read_user(regs.di()).unwrap_or_else(|| {
            let shares_mm = child.mm().map(Mm::address) == current.mm().map(Mm::address);
            let vfork = if child.blocks_parent() { CLONE_VFORK } else { 0 };
            vfork | if shares_mm { CLONE_VM } else { 0 }
        }),
        _ => 0,
    }
}

/// `false` when there was no room.
#[inline(always)]
fn enter(child: Task<Typed>, clone_flags: u64) -> bool {
    let parent = maps::current_process();
    if clone_flags & CLONE_THREAD != 0 {
        if let Some(entry) = parent
            && !maps::is_outside(entry)
        {
            maps::count(entry, counter::THREADS, 1);
        }
        return true;
    }
    let (parent_tgid, _) = current_ids();
    if setting!(tree) != 0 && parent.is_none() && !adopts(parent_tgid) {
        return true;
    }
    let parent_start = Task::current().leader().start_time();
    if let Some(entry) = parent {
        // Named by the daemon, which knows only the clock tick.
        // SAFETY: a map value.
        unsafe { (*entry).start_time_ns = parent_start };
    }
    maps::enter_process(child, clone_flags & !CSIGNAL, parent_tgid, parent_start, outside(child, parent))
}

/// [`Process::outside`] of a newborn process. It is traced when its own name may be asked for, which is that of the thread
/// that makes it, or when its parent is traced and has such a name now: one that is made by a thread of another name is
/// counted among its children, too.
#[inline(always)]
pub(crate) fn outside(child: Task<Typed>, parent: Option<*mut Process>) -> u32 {
    if setting!(names) == 0 || is_wanted(child.name()) {
        return 0;
    }
    let current = Task::current();
    if maps::is_told(parent) && is_wanted(current.leader().name()) {
        return 0;
    }
    match current.mm() {
        Some(_) => (current.user_regs().orig_ax() as u32).wrapping_add(1),
        None => NOT_MADE_BY_CALL,
    }
}

/// True when the daemon is spawning the root of the tree.
#[inline(always)]
pub(crate) fn adopts(parent_tgid: u32) -> bool {
    parent_tgid == setting!(self_tgid) && control!(adopt) != 0
}

/// Writes the record of a birth, with what fork did and what the parent had copied until now.
///
/// The verifier follows what comes after a look-up once for each kind of entry that may be found, as long as the entry
/// is used. So each is read at once, and what can be is done before.
#[inline(always)]
fn report(child: Task<Typed>) {
    let tgid = child.tgid();
    if child.tid() != tgid {
        return;
    }
    let (parent_tgid, parent_tid) = current_ids();
    let eager_copies = cow::end_fork(parent_tid);
    let entered_ns = maps::take_call(parent_tid);
    let mut flags = 0;
    let clone_flags = match maps::process(tgid) {
        Some(entry) if maps::is_outside(entry) => return count_eager(parent_tgid, eager_copies),
        // SAFETY: a map value.
        Some(entry) => unsafe { (*entry).clone_flags },
        None if setting!(tree) != 0 => return,
        None => {
            flags |= FLAG_NO_COUNTERS;
            flags_of_call(child) & !CSIGNAL
        }
    };
    let Some(mut slot) = ring::reserve::<Fork>(Kind::Fork) else { return };
    let record = slot.as_mut_ptr();
    let current = Task::current();
    // SAFETY: the reserved record; every field is written. The parent's entry is a map value.
    unsafe {
        child.place(&raw mut (*record).place);
        match maps::process(parent_tgid) {
            Some(parent) if !maps::is_outside(parent) => {
                if eager_copies > 0 {
                    maps::count(parent, counter::EAGER, u64::from(eager_copies));
                }
                (*record).parent = Totals::of(&(*parent).counters);
            }
            unknown => {
                flags |= FLAG_NO_PARENT;
                if unknown.is_some() {
                    flags |= FLAG_PARENT_OUTSIDE;
                }
                (*record).parent = Totals::default();
            }
        }
        (*record).header =
            ring::header(Kind::Fork, flags, tgid, tgid, child.start_time(), size_of::<Fork>() as u32);
        (*record).vpid = child.vpid(&raw mut (*record).parent_start_time_ns);
        (*record).parent_start_time_ns = current.leader().start_time();
        (*record).clone_flags = clone_flags;
        (*record).duration_ns = match entered_ns {
            0 => 0,
            entered => (*record).header.ktime_ns.saturating_sub(entered),
        };
        (*record).eager_copies = u64::from(eager_copies);
        (*record).parent_tgid = parent_tgid;
        (*record).parent_tid = parent_tid;
        (*record).real_parent_tgid = child.real_parent().tgid();
        ((*record).uid, (*record).gid) = child.ids();
        (*record).reserved = 0;
        child.comm(&raw mut (*record).comm);
        report_memory(record, child, current);
    }
    ring::submit(Kind::Fork, slot);
}

/// Counts the pages that fork copied for a child of which nothing is told.
#[inline(always)]
fn count_eager(parent_tgid: u32, eager_copies: u32) {
    if eager_copies > 0
        && let Some(parent) = maps::process(parent_tgid)
    {
        maps::count(parent, counter::EAGER, u64::from(eager_copies));
    }
}

/// From now on the current process is traced, which was left out by its name: tells its birth. Zero when there was
/// nothing to be told, as when another thread was faster.
///
/// Exported as `cow::count_current` is: the verifier looks at it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn join(tgid: u32) -> u32 {
    let Some(entry) = maps::process(tgid) else { return 0 };
    // SAFETY: a map value.
    let (outside, clone_flags, parent_start_time_ns, parent_tgid) = unsafe {
        let outside = core::mem::take(&mut (*entry).outside);
        (outside, (*entry).clone_flags, (*entry).parent_start_time_ns, (*entry).parent_tgid)
    };
    if outside == 0 {
        return 0;
    }
    ring::emit::<Fork>(Kind::Fork, |record| {
        let leader = Task::current().leader();
        // SAFETY: the reserved record; every field is written.
        unsafe {
            let (flags, start) = (FLAG_LATE | FLAG_NO_PARENT, leader.start_time());
            (*record).header = ring::header(Kind::Fork, flags, tgid, tgid, start, size_of::<Fork>() as u32);
            (*record).vpid = leader.vpid(&raw mut (*record).parent_start_time_ns);
            (*record).parent_start_time_ns = parent_start_time_ns;
            (*record).clone_flags = clone_flags;
            (*record).pgtable_bytes = u64::MAX;
            (*record).anon_pages = u64::MAX;
            (*record).file_pages = u64::MAX;
            (*record).shmem_pages = u64::MAX;
            (*record).duration_ns = 0;
            leader.place(&raw mut (*record).place);
            (*record).eager_copies = u64::MAX;
            (*record).parent = Totals::default();
            (*record).parent_tgid = parent_tgid;
            (*record).parent_tid = 0;
            (*record).real_parent_tgid = leader.real_parent().tgid();
            (*record).syscall = if outside == NOT_MADE_BY_CALL { u32::MAX } else { outside - 1 };
            ((*record).uid, (*record).gid) = leader.ids();
            (*record).shares_mm = u32::from(clone_flags & CLONE_VM != 0);
            (*record).mappings = u32::MAX;
            (*record).reserved = 0;
            leader.comm(&raw mut (*record).comm);
        }
    });
    1
}

/// Writes what the record tells of the child's memory and of the call that made it.
///
/// # Safety
/// `record` is the reserved record.
#[inline(always)]
unsafe fn report_memory(record: *mut Fork, child: Task<Typed>, current: Task<Reached>) {
    // SAFETY: the caller's.
    unsafe {
        let own_mm = current.mm();
        (*record).syscall = match own_mm {
            Some(_) => current.user_regs().orig_ax() as u32,
            None => u32::MAX,
        };
        let (child_mm, own_mm) = (child.mm(), own_mm.map_or(0, Mm::address));
        let is_shared = child_mm.is_some_and(|mm| mm.address() == own_mm);
        (*record).shares_mm = u32::from(is_shared);
        match child_mm {
            Some(mm) if !is_shared => {
                (*record).pgtable_bytes = mm.pgtable_bytes();
                (*record).mappings = mm.mappings();
                ((*record).anon_pages, (*record).file_pages, (*record).shmem_pages) =
                    mm.pages(&raw mut (*record).anon_pages);
            }
            _ => {
                (*record).pgtable_bytes = 0;
                (*record).mappings = 0;
                ((*record).anon_pages, (*record).file_pages, (*record).shmem_pages) = (0, 0, 0);
            }
        }
    }
}
