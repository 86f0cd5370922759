//! The name that a process had before an exec.
//!
//! `task_rename(struct task_struct *task, const char *comm)` (include/trace/events/task.h) comes before the change,
//! for prctl(PR_SET_NAME), for writes to `/proc/PID/comm`, and in each exec (begin_new_exec() in fs/exec.c), when a thread
//! that called it has become the leader. So what is kept last before an exec is reported is the name until then.

use aya_ebpf::{
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};

use crate::{
    kernel::{Task, current_ids},
    maps,
};

/// Keeps the name of a leader that renames itself.
#[btf_tracepoint(function = "task_rename")]
pub fn task_rename(_: BtfTracePointContext) -> i32 {
    keep();
    0
}

/// The same where tracepoints can be preempted (7.0): this kind runs with preemption off, and is not skipped.
#[tracepoint(category = "task", name = "task_rename")]
pub fn task_rename_format(_: TracePointContext) -> u32 {
    keep();
    0
}

/// Only the current thread's name is looked at: when it renames another one, what is kept is still its name.
#[inline(always)]
fn keep() {
    let (tgid, tid) = current_ids();
    let task = Task::current();
    if tgid != tid || task.mm().is_none() {
        return;
    }
    if let Some(entry) = maps::current_process() {
        // SAFETY: a map value; only the leader writes this field.
        task.comm(unsafe { &raw mut (*entry).comm_before });
    }
}
