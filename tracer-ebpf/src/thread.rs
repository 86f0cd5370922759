//! Ends of threads, with `--threads`: programs of their own, on the tracepoint that `exit` explains, and before its.

use aya_ebpf::{
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use tracer_common::event::{EndedBy, Kind, Thread};

use crate::{
    kernel::{Pointer, Task, task_argument},
    maps, ring,
    syscall::EXIT_GROUP,
};

const EXIT: u64 = 60;

// arch/x86/entry/syscalls/syscall_32.tbl
const EXIT_32: u64 = 1;
const EXIT_GROUP_32: u64 = 252;

/// Reports the end of a thread, unless it is the first of its process.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn thread_exit(ctx: BtfTracePointContext) -> i32 {
    ended(task_argument(&ctx, 0));
    0
}

/// The same where tracepoints can be preempted (7.0), as in `exit`.
#[tracepoint(category = "sched", name = "sched_process_exit")]
pub fn thread_exit_format(_ctx: TracePointContext) -> u32 {
    ended(Task::current());
    0
}

#[inline(always)]
fn ended<P: Pointer>(task: Task<P>) {
    let (tgid, tid) = (task.tgid(), task.tid());
    if tid == tgid || !maps::is_traced(tgid) {
        return;
    }
    ring::emit::<Thread>(Kind::Thread, |record| {
        // SAFETY: the reserved record; every field is written.
        unsafe {
            (*record).header = ring::header(
                Kind::Thread,
                0,
                tgid,
                tid,
                task.leader().start_time(),
                size_of::<Thread>() as u32,
            );
            (*record).start_time_ns = task.start_time();
            (*record).cpu_ns = task.cpu_time().cpu_ns;
            ((*record).minor_faults, (*record).major_faults) = task.faults();
            (*record).ended_by = ended_by(task) as u32;
            (*record).reserved = 0;
            task.comm(&raw mut (*record).comm);
        }
    });
}

/// A thread that is told to end does so on its way out of a system call, which can be any.
#[inline(always)]
fn ended_by<P: Pointer>(task: Task<P>) -> EndedBy {
    let current = Task::current();
    let (exit, exit_group) = if current.is_compat() { (EXIT_32, EXIT_GROUP_32) } else { (EXIT, EXIT_GROUP) };
    let call = current.user_regs().orig_ax();
    let signal = task.signal();
    if signal.is_in_exec() {
        EndedBy::Exec
    } else if call == exit {
        EndedBy::Exit
    } else if call == exit_group {
        EndedBy::ExitGroup
    } else if signal.group_exit_code().is_some() {
        EndedBy::Group
    } else {
        EndedBy::Kernel
    }
}
