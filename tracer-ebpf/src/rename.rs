//! The name that a process had before an exec.
//!
//! `task_rename(struct task_struct *task, const char *comm)` (include/trace/events/task.h) comes before the change,
//! for prctl(PR_SET_NAME), for writes to `/proc/PID/comm`, and in each exec (begin_new_exec() in fs/exec.c), when a thread
//! that called it has become the leader. So what is kept last before an exec is reported is the name until then.

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::bpf_probe_read_kernel_str,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use tracer_common::{event::COMM_BYTES, names::Words};

use crate::{
    fork,
    kernel::{Task, current_ids, is_wanted},
    maps,
};

/// Keeps the name of a leader that renames itself.
#[btf_tracepoint(function = "task_rename")]
pub fn task_rename(ctx: BtfTracePointContext) -> i32 {
    renamed(|| {
        let (mut name, from) = (Words::default(), ctx.arg::<u64>(1));
        // SAFETY: both are of 16 bytes; the helper checks the address it reads. What it cannot read is left empty.
        unsafe { bpf_probe_read_kernel_str((&raw mut name).cast(), COMM_BYTES as u32, from as *const _) };
        name
    });
    0
}

/// The tracepoint's record as perf sees it, from 7.0: `format` of task:task_rename in tracefs. The daemon compares, and
/// tells processes apart by itself where it has changed.
#[repr(C)]
struct Format {
    common: u64,
    pid: u32,
    old: [u32; 4],
    new: [u32; 4],
}

/// The same where tracepoints can be preempted (7.0): this kind runs with preemption off, and is not skipped.
#[tracepoint(category = "task", name = "task_rename")]
pub fn task_rename_format(ctx: TracePointContext) -> u32 {
    let format = ctx.as_ptr().cast::<Format>();
    renamed(|| {
        // SAFETY: the verifier knows the context's size. Each half of a word by itself, as they are aligned.
        let [a, b, c, d] = unsafe { (&raw const (*format).new).read_volatile() };
        [u64::from(b) << 32 | u64::from(a), u64::from(d) << 32 | u64::from(c)]
    });
    0
}

/// Keeps the name until now, and lets the process in when it was left out by that, but may not be by the `new` one.
///
/// Only the current thread's name is looked at: when it renames another one, what is kept is still its name. So a process
/// that was given its name by another thread is let in at its next exec, or at its end.
#[inline(always)]
fn renamed(new: impl FnOnce() -> Words) {
    let (tgid, tid) = current_ids();
    let task = Task::current();
    if tgid != tid || task.mm().is_none() {
        return;
    }
    if let Some(entry) = maps::current_process() {
        // SAFETY: a map value; only the leader writes this field.
        task.comm(unsafe { &raw mut (*entry).comm_before });
        if maps::is_outside(entry) && is_wanted(new()) {
            fork::join(tgid);
        }
    }
}
