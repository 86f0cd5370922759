//! New programs.
//!
//! `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
//! (include/trace/events/sched.h) runs in the new memory before its first instruction: no thread of the
//! program can change argv yet, and its pages were just written.

use aya_ebpf::{
    helpers::generated::{bpf_get_current_cgroup_id, bpf_probe_read_kernel_str, bpf_probe_read_user},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use tracer_common::{
    counter::Totals,
    event::{
        ARGS_BYTES, Exec, FLAG_ARGS_UNREADABLE, FLAG_NO_COUNTERS, FLAG_NO_PARENT, FLAG_PATH_CUT, Kind,
        PATH_BYTES, Process,
    },
};

use crate::{
    cow,
    kernel::{Pointer, Task, argument, offset, setting},
    maps, ring,
};

/// Reports a new program, with its paths and arguments.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    let task = Task(argument(&ctx, 0));
    let old_tid: u32 = ctx.arg(1);
    let bprm = argument(&ctx, 2);
    let tgid = task.tgid();
    // The memory in which the last fault happened is gone.
    cow::end_thread(old_tid, true);

    let entry = maps::process(tgid);
    if entry.is_none() && setting!(tree) != 0 {
        return 0;
    }
    let Some(scratch) = maps::exec_scratch() else { return 0 };
    let Some(mm) = task.mm() else { return 0 };
    let mut flags = 0;

    // SAFETY: a map value; each piece is bounded and the pieces together fit into the tail.
    let tail = unsafe { (&raw mut (*scratch).tail).cast::<u8>() };
    let filename = bprm.follow(offset!(bprm_filename));
    let interp = bprm.follow(offset!(bprm_interp));
    let path_len = read_path(tail, filename, &mut flags);
    let interp_len = if interp.address() == filename.address() {
        0
    } else {
        // SAFETY: as above.
        read_path(unsafe { tail.add(path_len as usize) }, interp, &mut flags)
    };
    let (start, end) = mm.args();
    let args_bytes = end.saturating_sub(start);
    let mut args_len = if args_bytes > ARGS_BYTES as u64 { ARGS_BYTES as u64 } else { args_bytes };
    // SAFETY: as above; the helper checks the user's address.
    let failed = unsafe {
        bpf_probe_read_user(
            tail.add(path_len as usize).add(interp_len as usize).cast(),
            args_len as u32,
            start as *const _,
        )
    };
    if failed != 0 {
        flags |= FLAG_ARGS_UNREADABLE;
        args_len = 0;
    }

    let own = match entry {
        // SAFETY: a map value.
        Some(entry) => unsafe { Totals::of(&(*entry).counters) },
        None => {
            flags |= FLAG_NO_COUNTERS;
            Totals::default()
        }
    };
    let parent = fork_parent_totals(entry, &mut flags);
    let tail_len = path_len + interp_len + args_len as u32;
    let (uid, gid) = task.ids();
    // SAFETY: a map value; every field is written.
    unsafe {
        let record = &raw mut (*scratch).body;
        (*record).header = ring::header(
            Kind::Exec,
            flags,
            tgid,
            task.tid(),
            task.leader().start_time(),
            size_of::<Exec>() as u32 + tail_len,
        );
        (*record).cgroup_id = bpf_get_current_cgroup_id();
        (*record).own = own;
        (*record).parent = parent;
        (*record).old_tid = old_tid;
        (*record).argc = bprm.read(offset!(bprm_argc));
        (*record).args_bytes = args_bytes as u32;
        (*record).uid = uid;
        (*record).gid = gid;
        (*record).path_len = path_len;
        (*record).interp_len = interp_len;
        (*record).args_len = args_len as u32;
        task.comm(&raw mut (*record).comm);
    }
    ring::emit_tailed(Kind::Exec, scratch, tail_len);
    0
}

/// Copies a path of the kernel's without its NUL; the result is below [`PATH_BYTES`].
#[inline(always)]
fn read_path(to: *mut u8, from: impl Pointer, flags: &mut u32) -> u32 {
    // SAFETY: `to` has room for PATH_BYTES; the helper checks the address it reads.
    let read = unsafe { bpf_probe_read_kernel_str(to.cast(), PATH_BYTES as u32, from.address() as *const _) };
    if read == PATH_BYTES as i64 {
        *flags |= FLAG_PATH_CUT;
    }
    if read <= 1 { 0 } else { (read - 1) as u32 & (PATH_BYTES as u32 - 1) }
}

/// The sums of the process that forked this one, while it lives; else zeros and a flag.
#[inline(always)]
pub(crate) fn fork_parent_totals(entry: Option<*mut Process>, flags: &mut u32) -> Totals {
    if let Some(entry) = entry {
        // SAFETY: map values.
        unsafe {
            // Another process may have been given the parent's pid since.
            if let Some(parent) = maps::process((*entry).parent_tgid)
                && (*parent).start_time_ns == (*entry).parent_start_time_ns
            {
                return Totals::of(&(*parent).counters);
            }
        }
    }
    *flags |= FLAG_NO_PARENT;
    Totals::default()
}
