//! New programs.
//!
//! `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
//! (include/trace/events/sched.h) runs in the new memory before its first instruction: no thread of the
//! program can change argv yet, and its pages were just written.

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::{self, bpf_ktime_get_boot_ns, bpf_probe_read_kernel_str},
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use tracer_common::{
    counter::{self, Totals},
    event::{
        ARGS_BYTES, COMM_BYTES, ENV_BYTES, Exec, FLAG_ARGS_UNREADABLE, FLAG_ELF, FLAG_ENV_CUT,
        FLAG_ENV_UNREADABLE, FLAG_MISC, FLAG_NO_COUNTERS, FLAG_NO_INTERP, FLAG_NO_PARENT, FLAG_PATH_CUT,
        FLAG_SECURE, FLAG_SECURE_UNKNOWN, FLAG_UNREADABLE, Kind, PATH_BYTES,
    },
    start::{Memory, Reached, Start},
    state::Process,
};

use crate::{
    cow,
    kernel::{Pointer, Task, Typed, argument, offset, read_user, setting, task_argument},
    maps, ring,
};

/// Reports a new program, with its paths and arguments.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    let bprm = argument(&ctx, 2);
    let filename = bprm.follow(offset!(bprm_filename));
    let interp = bprm.follow(offset!(bprm_interp));
    let is_script = interp.address() != filename.address();
    let counts = Some((bprm.read(offset!(bprm_argc)), bprm.read(offset!(bprm_envc))));
    report(0, task_argument(&ctx, 0), ctx.arg(1), counts, |tail, flags| {
        *flags |= of_binprm(bprm);
        let path_len = read_path(tail, filename.address(), flags);
        let interp_len = if is_script {
            // SAFETY: the tail has room for two paths.
            read_path(unsafe { tail.add(path_len as usize) }, interp.address(), flags)
        } else {
            0
        };
        (path_len, interp_len)
    });
    0
}

/// What `struct linux_binprm` says of the new program.
#[inline(always)]
fn of_binprm(bprm: Typed) -> u32 {
    /// What every ELF file begins with (ELFMAG): `load_elf_binary()` takes no other.
    const ELF: u32 = u32::from_le_bytes(*b"\x7fELF");
    /// Set by `load_misc_binary()` only (fs/binfmt_misc.c).
    const PRESERVE_ARGV0: u32 = 1 << 3;
    let bit = |number: u32| bprm.read::<u8>(number / 8) >> (number % 8) & 1 != 0;
    let mut flags = 0;
    if bit(offset!(bprm_secure)) {
        flags |= FLAG_SECURE;
    }
    if bprm.read::<u32>(offset!(bprm_buf)) == ELF {
        flags |= FLAG_ELF;
    }
    if bit(offset!(bprm_have_execfd)) || bprm.read::<u32>(offset!(bprm_interp_flags)) & PRESERVE_ARGV0 != 0 {
        flags |= FLAG_MISC;
    }
    flags
}

/// The tracepoint's record as perf sees it: `format` of sched:sched_process_exec in tracefs. The daemon compares.
#[repr(C)]
struct Format {
    common: u64,
    /// Where the path lies in the record: offset in the lower half, length in the upper.
    filename: u32,
    pid: u32,
    old_pid: u32,
}

/// Attached behind the other where tracepoints can be preempted (7.0): there that one is skipped while another
/// task is preempted in it on this CPU. This kind runs with preemption off; it reports what the other did not,
/// without the interpreter, which only the other is told.
#[tracepoint(category = "sched", name = "sched_process_exec")]
pub fn sched_process_exec_format(ctx: TracePointContext) -> u32 {
    let task = Task::current();
    let (Some(mm), Some(entry)) = (task.mm(), maps::current_process()) else { return 0 };
    // SAFETY: a map value.
    if unsafe { (*entry).exec_mm } == mm.address() {
        return 0;
    }
    let format = ctx.as_ptr().cast::<Format>();
    // SAFETY: the verifier knows the context's size.
    let (place, old_tid) = unsafe {
        ((&raw const (*format).filename).read_volatile(), (&raw const (*format).old_pid).read_volatile())
    };
    let filename = (ctx.as_ptr() as u64).wrapping_add(u64::from(place & 0xffff));
    report(1, task, old_tid, None, |tail, flags| {
        *flags |= FLAG_NO_INTERP | FLAG_SECURE_UNKNOWN;
        (read_path(tail, filename, flags), 0)
    });
    0
}

/// Writes the record of an exec; `scratch` is the program's own, `counts` are the arguments and the variables,
/// `paths` puts the path and the interpreter into the tail and tells their lengths.
#[inline(always)]
fn report<P: Pointer>(
    scratch: u32,
    task: Task<P>,
    old_tid: u32,
    counts: Option<(u32, u32)>,
    paths: impl FnOnce(*mut u8, &mut u32) -> (u32, u32),
) {
    let tgid = task.tgid();
    if !maps::is_traced(tgid) {
        return;
    }
    cow::end_thread(old_tid);

    let entry = maps::current_process();
    let Some(scratch) = maps::exec_scratch(scratch) else { return };
    let Some(mm) = task.mm() else { return };
    let mut flags = 0;
    // SAFETY: a map value; every field is written.
    let record = unsafe { &raw mut (*scratch).body };
    // The entry first: the verifier follows what comes until its last use once for each kind of entry.
    // SAFETY: map values.
    unsafe {
        match entry {
            Some(entry) => {
                // Loading the program has written to its memory already.
                (*record).own = match (*entry).mm == mm.address() {
                    true => (*entry).mm_totals,
                    false => Totals::of(&(*entry).counters),
                };
                (*record).threads_killed = maps::counted(entry, counter::ENDED_BY_EXEC) as u32;
                (*record).comm_before = (*entry).comm_before;
                // A later memory may have this one's address.
                (*entry).mm = 0;
                let start = &raw mut (*entry).start;
                (*record).prepared_ns = (*start).prepared_ns;
                (*record).dropped = (*start).dropped;
                (*record).reached = (*start).reached;
                let (minor, major) = task.faults();
                start.write(Start {
                    exec_ns: bpf_ktime_get_boot_ns(),
                    reached: Reached { minor: minor as u32, major: major as u32, ..Reached::default() },
                    ..Start::default()
                });
                mm.entry(&raw mut (*start).entry);
                (&raw mut (*entry).exec_mm).write_volatile(mm.address());
            }
            None => {
                flags |= FLAG_NO_COUNTERS;
                (*record).own = Totals::default();
                (*record).threads_killed = 0;
                (*record).prepared_ns = 0;
                (*record).dropped = Memory::NONE;
                (*record).reached = Reached::default();
                (*record).comm_before = [0; COMM_BYTES];
            }
        }
        (*record).parent = fork_parent_totals(entry, &mut flags);
        task.place(&raw mut (*record).place);
        mm.file(&raw mut (*record).file);
    }

    // SAFETY: a map value; each piece is bounded and the pieces together fit into the tail.
    let tail = unsafe { (&raw mut (*scratch).tail).cast::<u8>() };
    let (path_len, interp_len) = paths(tail, &mut flags);
    let (start, end) = mm.args();
    let args_bytes = end.saturating_sub(start);
    let mut args_len = if args_bytes > ARGS_BYTES as u64 { ARGS_BYTES as u64 } else { args_bytes };
    let failed = setting!(can_read) == 0 || {
        // SAFETY: as above; the helper checks the user's address.
        let read = unsafe {
            generated::bpf_probe_read_user(
                tail.add(path_len as usize).add(interp_len as usize).cast(),
                args_len as u32,
                start as *const _,
            )
        };
        read != 0
    };
    if failed {
        flags |= FLAG_ARGS_UNREADABLE;
        args_len = 0;
    }
    let (mut env_len, mut env_bytes) = (0, 0);
    if setting!(env) != 0 {
        let (start, end) = mm.environment();
        env_bytes = end.saturating_sub(start);
        env_len = env_bytes;
        if env_bytes > ENV_BYTES as u64 {
            flags |= FLAG_ENV_CUT;
            env_len = ENV_BYTES as u64;
        }
        let failed = setting!(can_read) == 0 || {
            // SAFETY: as above.
            let read = unsafe {
                generated::bpf_probe_read_user(
                    tail.add(path_len as usize).add(interp_len as usize).add(args_len as usize).cast(),
                    env_len as u32,
                    start as *const _,
                )
            };
            read != 0
        };
        if failed {
            flags |= FLAG_ENV_UNREADABLE;
            env_len = 0;
        }
    }
    let (argc, env_count) = match counts {
        Some(counts) => counts,
        // The new program's stack begins with it (create_elf_tables in fs/binfmt_elf.c).
        None => (read_user(mm.start_stack()).unwrap_or_default(), u32::MAX),
    };
    let tail_len = path_len + interp_len + args_len as u32 + env_len as u32;
    let (uid, gid) = task.ids();
    // SAFETY: a map value; every field is written.
    unsafe {
        (*record).header = ring::header(
            Kind::Exec,
            flags,
            tgid,
            task.tid(),
            task.leader().start_time(),
            size_of::<Exec>() as u32 + tail_len,
        );
        (*record).old_tid = old_tid;
        (*record).argc = argc;
        (*record).args_bytes = args_bytes as u32;
        (*record).uid = uid;
        (*record).gid = gid;
        (*record).path_len = path_len;
        (*record).interp_len = interp_len;
        (*record).args_len = args_len as u32;
        (*record).env_len = env_len as u32;
        (*record).env_count = env_count;
        (*record).env_bytes = env_bytes as u32;
        task.comm(&raw mut (*record).comm);
    }
    ring::emit_tailed(Kind::Exec, scratch, tail_len);
}

/// Copies a path of the kernel's without its NUL; the result is below [`PATH_BYTES`], 0 when it cannot be read.
#[inline(always)]
fn read_path(to: *mut u8, from: u64, flags: &mut u32) -> u32 {
    if setting!(can_read) == 0 {
        *flags |= FLAG_UNREADABLE;
        return 0;
    }
    // SAFETY: `to` has room for PATH_BYTES; the helper checks the address it reads.
    let read = unsafe { bpf_probe_read_kernel_str(to.cast(), PATH_BYTES as u32, from as *const _) };
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
                && !maps::is_outside(parent)
                && (*parent).start_time_ns == (*entry).parent_start_time_ns
            {
                return Totals::of(&(*parent).counters);
            }
        }
    }
    *flags |= FLAG_NO_PARENT;
    Totals::default()
}
