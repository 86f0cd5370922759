//! A fault that was refused.
//!
//! `signal_generate(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)`
//! (include/trace/events/signal.h).

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_common::counter;

use crate::{
    kernel::{Pointer as _, Task, argument},
    maps,
};

const SIGSEGV: u32 = 11;

/// Counts the fault in progress as refused when its thread gets SIGSEGV from itself.
#[btf_tracepoint(function = "signal_generate")]
pub fn signal_generate(ctx: BtfTracePointContext) -> i32 {
    let sig: u32 = ctx.arg(0);
    let task = Task::current();
    if sig != SIGSEGV || argument(&ctx, 2).address() != task.0.address() {
        return 0;
    }
    let (tgid, tid) = task.own_ids();
    let Some(state) = maps::thread(tid) else { return 0 };
    // SAFETY: a map value; only its own thread works on it.
    let t = unsafe { &mut *state };
    if t.is_inside(task) {
        t.open = 0;
        if let Some(entry) = maps::process_or_missed(tgid) {
            maps::count(entry, counter::SEGV, 1);
        }
    }
    0
}
