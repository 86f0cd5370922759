//! Calls that failed, waits, and how long a fork takes: the optional set (`--hooks full`).
//!
//! `sys_enter(struct pt_regs *regs, long id)` and `sys_exit(struct pt_regs *regs, long ret)`
//! (include/trace/events/syscalls.h) are passed by every system call of the host, so the number is looked at first.

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_probe_read_user_str},
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use tracer_common::event::{ExecFailed, FLAG_PATH_CUT, ForkFailed, Kind, PATH_BYTES, Wait};

use crate::{
    kernel::{Pointer, Regs, Task, argument, current_ids, read_user, setting},
    maps, ring, start,
};

// arch/x86/entry/syscalls/syscall_64.tbl
pub(crate) const CLONE: u64 = 56;
const FORK: u64 = 57;
pub(crate) const VFORK: u64 = 58;
pub(crate) const EXECVE: u64 = 59;
const WAIT4: u64 = 61;
pub(crate) const EXIT_GROUP: u64 = 231;
const WAITID: u64 = 247;
pub(crate) const EXECVEAT: u64 = 322;
pub(crate) const CLONE3: u64 = 435;

/// WNOWAIT: the child stays a zombie (include/uapi/linux/wait.h).
const WNOWAIT: u64 = 0x0100_0000;
/// Offsets in the user's siginfo_t (include/uapi/asm-generic/siginfo.h): si_code and si_pid.
const SI_CODE: u64 = 8;
const SI_PID: u64 = 16;
/// CLD_EXITED, CLD_KILLED and CLD_DUMPED are 1 to 3; above are stops and continues.
const CLD_DUMPED: u32 = 3;

/// Notes when a call that forks begins.
#[btf_tracepoint(function = "sys_enter")]
pub fn sys_enter(ctx: BtfTracePointContext) -> i32 {
    entered(ctx.arg(1));
    0
}

/// The same where tracepoints can be preempted (7.0). Its record begins as that of `sys_exit` does.
#[tracepoint(category = "raw_syscalls", name = "sys_enter")]
pub fn sys_enter_format(ctx: TracePointContext) -> u32 {
    let format = ctx.as_ptr().cast::<Format>();
    // SAFETY: the verifier knows the context's size.
    entered(unsafe { (&raw const (*format).id).read_volatile() });
    0
}

#[inline(always)]
fn entered(nr: u64) {
    if !matches!(nr, CLONE | FORK | VFORK | CLONE3) {
        return;
    }
    let (tgid, tid) = current_ids();
    // Not the daemon of a tree, either: a thread with a state has its faults counted.
    if !maps::is_traced(tgid) {
        return;
    }
    if let Some(state) = maps::thread_or_new(tid) {
        // SAFETY: a map value that only this thread uses; a helper without arguments.
        unsafe { (*state).call_ns = bpf_ktime_get_boot_ns() };
    }
}

/// Reports failed forks and execs, and processes that a wait call returned.
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    let regs = Regs(argument(&ctx, 0));
    returned(regs, regs.orig_ax(), ctx.arg(1));
    0
}

/// The tracepoint's record as perf sees it: `format` of raw_syscalls:sys_exit in tracefs. The daemon compares.
#[repr(C)]
struct Format {
    common: u64,
    id: u64,
    ret: i64,
}

/// The same where tracepoints can be preempted (7.0) and a typed program is skipped while another task is
/// preempted in it on this CPU.
#[tracepoint(category = "raw_syscalls", name = "sys_exit")]
pub fn sys_exit_format(ctx: TracePointContext) -> u32 {
    let format = ctx.as_ptr().cast::<Format>();
    // SAFETY: the verifier knows the context's size.
    let (nr, ret) =
        unsafe { ((&raw const (*format).id).read_volatile(), (&raw const (*format).ret).read_volatile()) };
    if is_watched(nr) {
        returned(Task::current().user_regs(), nr, ret);
    }
    0
}

#[inline(always)]
const fn is_watched(nr: u64) -> bool {
    matches!(nr, CLONE | FORK | VFORK | CLONE3 | EXECVE | EXECVEAT | WAIT4 | WAITID)
}

#[inline(always)]
fn returned<P: Pointer>(regs: Regs<P>, nr: u64, ret: i64) {
    match nr {
        // The child returns from the call, too.
        CLONE | FORK | VFORK | CLONE3 if ret == 0 => start::first_return(),
        CLONE | FORK | VFORK | CLONE3 if ret < 0 => {
            if let Some((tgid, tid, start)) = subject() {
                fork_failed(tgid, tid, start, nr as u32, ret.unsigned_abs() as u32);
            }
        }
        EXECVE | EXECVEAT if ret < 0 => {
            if let Some((tgid, tid, start)) = subject() {
                let path = if nr == EXECVE { regs.di() } else { regs.si() };
                exec_failed(tgid, tid, start, path, ret.unsigned_abs() as u32);
            }
        }
        WAIT4 if ret > 0 => waited(ret as u32),
        WAITID if ret == 0 => waited_id(regs),
        _ => {}
    }
}

/// The current thread, if it is traced and its system call numbers are those above. The daemon is one of them:
/// it reaps the command that it started.
#[inline(always)]
fn subject() -> Option<(u32, u32, u64)> {
    subject_of(false)
}

/// The same also when it is not traced, but what it does is `of_traced`.
#[inline(always)]
fn subject_of(of_traced: bool) -> Option<(u32, u32, u64)> {
    let (tgid, tid) = current_ids();
    let task = Task::current();
    let is_told = of_traced || tgid == setting!(self_tgid) || maps::is_traced(tgid);
    if task.is_compat() || !is_told {
        return None;
    }
    Some((tgid, tid, task.leader().start_time()))
}

#[inline(always)]
fn fork_failed(tgid: u32, tid: u32, start: u64, syscall: u32, errno: u32) {
    ring::emit::<ForkFailed>(Kind::ForkFailed, |record| {
        // SAFETY: the reserved record; every field is written.
        unsafe {
            (*record).header =
                ring::header(Kind::ForkFailed, 0, tgid, tid, start, size_of::<ForkFailed>() as u32);
            (*record).errno = errno;
            (*record).syscall = syscall;
            let task = Task::current();
            ((*record).uid, _) = task.ids();
            (*record).reserved = 0;
            (*record).user_processes = task.user_processes(&raw mut (*record).user_processes);
            (*record).max_user_processes = task.signal().max_processes();
            (*record).cgroup_limit = task.full_cgroup(&raw mut (*record).cgroup_limit);
        }
    });
}

#[inline(always)]
fn exec_failed(tgid: u32, tid: u32, start: u64, path: u64, errno: u32) {
    let Some(scratch) = maps::exec_failed_scratch() else { return };
    // SAFETY: a map value with room for PATH_BYTES; the helper checks the user's address.
    unsafe {
        let tail = (&raw mut (*scratch).tail).cast::<u8>();
        let read = if setting!(can_read) == 0 {
            0
        } else {
            bpf_probe_read_user_str(tail.cast(), PATH_BYTES as u32, path as *const _)
        };
        let flags = if read == PATH_BYTES as i64 { FLAG_PATH_CUT } else { 0 };
        let path_len = if read <= 1 { 0 } else { (read - 1) as u32 & (PATH_BYTES as u32 - 1) };
        let record = &raw mut (*scratch).body;
        let size = size_of::<ExecFailed>() as u32 + path_len;
        (*record).header = ring::header(Kind::ExecFailed, flags, tgid, tid, start, size);
        (*record).errno = errno;
        (*record).path_len = path_len;
        ring::emit_tailed(Kind::ExecFailed, scratch, path_len);
    }
}

#[inline(always)]
fn waited_id<P: Pointer>(regs: Regs<P>) {
    let info = regs.dx();
    if info == 0 || regs.r10() & WNOWAIT != 0 {
        return;
    }
    if let (Some(1..=CLD_DUMPED), Some(pid)) = (read_user(info + SI_CODE), read_user(info + SI_PID)) {
        waited(pid);
    }
}

#[inline(always)]
fn waited(pid: u32) {
    let initial = Task::current().pid_level() == 0;
    // Left out by its name, it may reap one that is not. In another pid namespace, only that one's freeing tells it.
    let of_traced =
        setting!(names) != 0 && initial && maps::process(pid).is_some_and(|entry| !maps::is_outside(entry));
    let Some((tgid, tid, start)) = subject_of(of_traced) else { return };
    ring::emit::<Wait>(Kind::Wait, |record| {
        // SAFETY: the reserved record; every field is written.
        unsafe {
            (*record).header = ring::header(Kind::Wait, 0, tgid, tid, start, size_of::<Wait>() as u32);
            (*record).pid = pid;
            (*record).initial_pid_ns = u32::from(initial);
        }
    });
}
