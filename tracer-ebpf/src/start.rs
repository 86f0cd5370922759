//! How a process and its program begin: its first time on a CPU, what an exec replaces and how long it takes, and when
//! the program's own first instruction is reached.
//!
//! `sched_prepare_exec(struct task_struct *task, struct linux_binprm *bprm)` (include/trace/events/sched.h, 6.10) is
//! passed in begin_new_exec() (fs/exec.c) with the old memory still in place; errors are fatal from there on.
//! `page_fault_user` tells the first instruction: a new memory has no page of code mapped. A child passes `sys_exit` in
//! ret_from_fork() (arch/x86), with 0 as the result of the call that made it.

use aya_ebpf::{
    helpers::generated::bpf_ktime_get_boot_ns,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use tracer_common::{
    event::Exit,
    start::{Memory, Reached},
    state::Process,
};

use crate::{
    kernel::{Pointer, Task, current_ids, setting, task_argument},
    maps,
};

/// Notes the memory that an exec replaces, and when it begins to.
#[btf_tracepoint(function = "sched_prepare_exec")]
pub fn sched_prepare_exec(ctx: BtfTracePointContext) -> i32 {
    prepared(task_argument(&ctx, 0));
    0
}

/// The same where tracepoints can be preempted (7.0) and a typed program is skipped while another task is preempted
/// in it on this CPU.
#[tracepoint(category = "sched", name = "sched_prepare_exec")]
pub fn sched_prepare_exec_format(_: TracePointContext) -> u32 {
    prepared(Task::current());
    0
}

#[inline(always)]
fn prepared<P: Pointer>(task: Task<P>) {
    let Some(entry) = maps::current_process().filter(|&entry| !maps::is_outside(entry)) else { return };
    // SAFETY: a map value; a helper without arguments.
    unsafe {
        let start = &raw mut (*entry).start;
        (*start).prepared_ns = bpf_ktime_get_boot_ns();
        match task.mm() {
            Some(mm) => mm.describe(&raw mut (*start).dropped),
            None => (*start).dropped = Memory::NONE,
        }
    }
}

/// An instruction of the current process was fetched from a page that was not mapped. A new program's memory has no
/// such page, so its first instruction is one.
///
/// A function of its own in the object: the verifier forgets its paths when it returns.
#[inline(never)]
pub(crate) fn fetched(address: u64) {
    let (tgid, _) = current_ids();
    let Some(entry) = maps::process(tgid) else { return };
    // SAFETY: a map value; threads of a new program that fault at the same time write about the same.
    unsafe {
        let start = &raw mut (*entry).start;
        let reached = &raw mut (*start).reached;
        if (*start).exec_ns == 0 || (*reached).entry_ns != 0 {
            return;
        }
        let since = bpf_ktime_get_boot_ns().saturating_sub((*start).exec_ns);
        if (*reached).first_ns == 0 {
            (*reached).first_ns = since;
        }
        if (*start).entry == address {
            let (minor, major) = Task::current().faults();
            (*reached).minor = (minor as u32).wrapping_sub((*reached).minor);
            (*reached).major = (major as u32).wrapping_sub((*reached).major);
            (*reached).entry_ns = since;
        }
    }
}

/// The current thread returns from the call that made it: a process notes how long it waited for its first CPU.
#[inline(always)]
pub(crate) fn first_return() {
    let (tgid, tid) = current_ids();
    if tgid != tid {
        return;
    }
    let delay = Task::current().first_delay();
    if delay != 0
        && let Some(entry) = maps::process(tgid)
    {
        // SAFETY: a map value.
        unsafe { (*entry).run_delay = delay };
    }
}

/// Writes what the last record of a process tells of its beginning, and of its memory where that is still there (6.16).
///
/// # Safety
/// `record` is the reserved record.
#[inline(always)]
pub(crate) unsafe fn describe_end<P: Pointer>(record: *mut Exit, task: Task<P>, entry: Option<*mut Process>) {
    // SAFETY: the caller's; a map value.
    unsafe {
        ((*record).reached, (*record).run_delay) = match entry {
            Some(entry) => ((*entry).start.reached, (*entry).run_delay),
            None => (Reached::default(), 0),
        };
        match task.mm() {
            Some(mm) if setting!(exit_before_mm) != 0 => mm.describe(&raw mut (*record).memory),
            _ => (*record).memory = Memory::NONE,
        }
    }
}
