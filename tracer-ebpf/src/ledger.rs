//! What a process inherits, keeps and loses: the optional set (`--ledger`).
//!
//! At a fork the state of parent and child, around an exec that before and that after. These programs are attached in
//! front of those that report the fork and the exec, so that their records come first, and whoever reads those knows
//! these. Without `--ledger` they are not loaded.
//!
//! What exec resets is gone at `sched_process_exec`: begin_new_exec() (fs/exec.c) has closed descriptors and reset
//! handlers by then. `sched_prepare_exec(struct task_struct *task, struct linux_binprm *bprm)`
//! (include/trace/events/sched.h, 6.10) is passed there before anything is changed; on older kernels the entry of the
//! system call has to do.

use aya_ebpf::{
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use tracer_common::{
    event::Kind,
    ledger::{Ledger, Phase},
};

use crate::{
    fork,
    kernel::{Pointer, Task, Typed, current_ids, setting, task_argument},
    maps, ring,
    syscall::{EXECVE, EXECVEAT},
};

// arch/x86/entry/syscalls/syscall_32.tbl
const EXECVE_32: u64 = 11;
const EXECVEAT_32: u64 = 358;

/// Tells the states of parent and child at a birth.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn ledger_fork(ctx: BtfTracePointContext) -> i32 {
    born(task_argument(&ctx, 0), task_argument(&ctx, 1));
    0
}

/// The same where tracepoints can be preempted (7.0), as births are told there: in the parent, under the run queue's
/// lock.
#[btf_tracepoint(function = "sched_wakeup_new")]
pub fn ledger_wakeup_new(ctx: BtfTracePointContext) -> i32 {
    born(Task::current(), task_argument(&ctx, 0));
    0
}

#[inline(always)]
fn born<P: Pointer>(parent: Task<P>, child: Task<Typed>) {
    let (tgid, start) = (child.tgid(), child.start_time());
    if child.tid() != tgid {
        return;
    }
    // The child may not be in the table yet: in a tree, it will be if its parent is.
    let (parent_tgid, tid) = current_ids();
    let is_told = match setting!(names) {
        0 => maps::is_traced(parent_tgid) || fork::adopts(parent_tgid),
        _ => fork::outside(child, maps::current_process()) == 0,
    };
    if is_told {
        tell(Phase::Parent, parent, tgid, tid, start);
        tell(Phase::Birth, child, tgid, tid, start);
    }
}

/// Tells the state before an exec.
#[btf_tracepoint(function = "sched_prepare_exec")]
pub fn ledger_prepare(ctx: BtfTracePointContext) -> i32 {
    of_exec(Phase::Before, task_argument(&ctx, 0));
    0
}

/// The same where tracepoints can be preempted (7.0) and a typed program is skipped while another task is preempted
/// in it on this CPU.
#[tracepoint(category = "sched", name = "sched_prepare_exec")]
pub fn ledger_prepare_format(_: TracePointContext) -> u32 {
    of_exec(Phase::Before, Task::current());
    0
}

/// Tells the state before an exec, also before one that fails: for kernels that have no `sched_prepare_exec`.
#[btf_tracepoint(function = "sys_enter")]
pub fn ledger_enter(ctx: BtfTracePointContext) -> i32 {
    let nr: u64 = ctx.arg(1);
    if !matches!(nr, EXECVE | EXECVEAT | EXECVE_32 | EXECVEAT_32) {
        return 0;
    }
    let task = Task::current();
    if task.is_compat() == matches!(nr, EXECVE_32 | EXECVEAT_32) {
        of_exec(Phase::Before, task);
    }
    0
}

/// Tells the state after an exec. Where tracepoints can be preempted, one that is not told is counted as lost.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn ledger_exec(ctx: BtfTracePointContext) -> i32 {
    of_exec(Phase::After, task_argument(&ctx, 0));
    0
}

#[inline(always)]
fn of_exec<P: Pointer>(phase: Phase, task: Task<P>) {
    let (tgid, tid) = current_ids();
    if maps::is_traced(tgid) {
        tell(phase, task, tgid, tid, task.leader().start_time());
    }
}

/// Writes the record of the state of `of`.
#[inline(always)]
fn tell<P: Pointer>(phase: Phase, of: Task<P>, tgid: u32, tid: u32, start_time_ns: u64) {
    let Some(scratch) = maps::ledger_scratch(u32::from(matches!(phase, Phase::After))) else { return };
    // SAFETY: a map value; every field of the body is written.
    unsafe {
        let record = &raw mut (*scratch).body;
        of.facts(&raw mut (*record).facts, (&raw mut (*scratch).tail).cast());
        let size = size_of::<Ledger>() as u32;
        (*record).header = ring::header(Kind::Ledger, 0, tgid, tid, start_time_ns, size);
        (*record).phase = phase as u32;
        (*record).reserved = 0;
    }
    ring::emit_tailed(Kind::Ledger, scratch, 0);
}
