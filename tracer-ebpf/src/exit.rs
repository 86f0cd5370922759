//! Deaths.
//!
//! `sched_process_exit(struct task_struct *p)` (6.16 adds `bool group_dead`; include/trace/events/sched.h)
//! runs in each thread that ends. `signal->live` is lowered before it, so it is 0 in the last one; in two
//! that end at once it can be 0 in both: the daemon takes such a pair for one death.
//! `sched_process_free(struct task_struct *p)` runs one RCU period after the reap, in which __exit_signal()
//! (kernel/exit.c) has added the last thread to `signal_struct`; that is freed after it.

use aya_ebpf::{
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use tracer_common::{
    counter::{self, COUNTERS},
    event::{Exit, FLAG_CORE, FLAG_NO_COUNTERS, Free, Kind, Usage},
    state::Process,
};

use crate::{
    cow,
    exec::fork_parent_totals,
    fork,
    kernel::{CpuTime, Pointer, Signal, Task, is_wanted, setting, task_argument},
    maps, ring, start,
    syscall::EXIT_GROUP,
};

/// Settles the last fault of each thread; in the last one, reports the death with the final counters.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    ended(task_argument(&ctx, 0));
    0
}

/// The same where tracepoints can be preempted (7.0): a typed program would be skipped while another task is
/// preempted in it on this CPU; this kind runs with preemption off.
#[tracepoint(category = "sched", name = "sched_process_exit")]
pub fn sched_process_exit_format(_ctx: TracePointContext) -> u32 {
    ended(Task::current());
    0
}

#[inline(always)]
fn ended<P: Pointer>(task: Task<P>) {
    let (tgid, tid) = (task.tgid(), task.tid());
    if !maps::is_traced(tgid) && !joins_at_end(task, tgid) {
        return;
    }
    // Up to 6.15 the memory is given up before this tracepoint, from 6.16 after it.
    cow::end_thread(tid);

    let entry = maps::process(tgid);
    let (own_minor, own_major) = task.faults();
    let own_time = task.cpu_time();
    let syscall = Task::current().user_regs().orig_ax();
    let signal = task.signal();
    if let Some(entry) = entry {
        let add = |counter, by| {
            if by != 0 {
                maps::count(entry, counter, by);
            }
        };
        add(counter::ENDED_MINOR, own_minor);
        add(counter::ENDED_MAJOR, own_major);
        add(counter::ENDED_USER_NS, own_time.user_ns);
        add(counter::ENDED_SYSTEM_NS, own_time.system_ns);
        add(counter::ENDED_CPU_NS, own_time.cpu_ns);
        add(counter::ENDED_GROUP, u64::from(syscall == EXIT_GROUP));
        add(counter::ENDED_BY_EXEC, u64::from(signal.is_in_exec()));
    }
    if signal.live() != 0 {
        return;
    }
    let leader = task.leader();
    let status = match signal.group_exit_code() {
        Some(code) => code,
        None => leader.exit_code(),
    };
    let mut flags = 0;
    let parent = fork_parent_totals(entry, &mut flags);
    if entry.is_none() {
        flags |= FLAG_NO_COUNTERS;
    }
    if status & 0x80 != 0 {
        flags |= FLAG_CORE;
    }
    let (mut minor, mut major) = signal.faults();
    minor += own_minor;
    major += own_major;
    let mut time = signal.cpu_time().plus(own_time);
    if tid != tgid {
        // A leader that ended earlier is a zombie: its faults and its time are still its own.
        let (leader_minor, leader_major) = leader.faults();
        minor += leader_minor;
        major += leader_major;
        time = time.plus(leader.cpu_time());
    }
    if let Some(entry) = entry {
        // The kernel adds those of a thread to `signal` only when it is released, some time after its end; our own
        // sum lacks the threads that ended before we knew the process. Neither can be too high.
        minor = minor.max(maps::counted(entry, counter::ENDED_MINOR));
        major = major.max(maps::counted(entry, counter::ENDED_MAJOR));
        time = time.max(ended_time(entry));
    }
    ring::emit::<Exit>(Kind::Exit, |record| {
        let (uid, _) = task.ids();
        // SAFETY: the reserved record; every field is written.
        unsafe {
            (*record).header =
                ring::header(Kind::Exit, flags, tgid, tid, leader.start_time(), size_of::<Exit>() as u32);
            match entry {
                Some(entry) => {
                    (&raw mut (*record).counters).copy_from_nonoverlapping(&raw const (*entry).counters, 1)
                }
                None => (&raw mut (*record).counters).write([0; COUNTERS]),
            }
            (*record).parent = parent;
            (*record).minor_faults = minor;
            (*record).major_faults = major;
            (*record).usage = usage(signal, time);
            task.place(&raw mut (*record).place);
            start::describe_end(record, task, entry);
            (*record).status = status;
            (*record).syscall = syscall as u32;
            (*record).uid = uid;
            (*record).real_parent_tgid = leader.real_parent().tgid();
            (*record).auto_reap = leader.auto_reap() as u32;
            (*record).reserved = 0;
            leader.comm(&raw mut (*record).comm);
        }
    });
}

/// True when a process that is left out by its name has been given a name that is asked for, and its last thread ends: by
/// another of its threads, or by the kernel, as is done for threads of its own. That has not been seen.
#[inline(always)]
fn joins_at_end<P: Pointer>(task: Task<P>, tgid: u32) -> bool {
    setting!(names) != 0
        && task.signal().live() == 0
        && is_wanted(task.leader().name())
        && fork::join(tgid) != 0
}

/// CPU time of the threads whose end was seen.
#[inline(always)]
fn ended_time(entry: *mut Process) -> CpuTime {
    CpuTime {
        user_ns: maps::counted(entry, counter::ENDED_USER_NS),
        system_ns: maps::counted(entry, counter::ENDED_SYSTEM_NS),
        cpu_ns: maps::counted(entry, counter::ENDED_CPU_NS),
    }
}

/// What a process has used, when its threads have used `time`.
#[inline(always)]
fn usage<P: Pointer>(signal: Signal<P>, time: CpuTime) -> Usage {
    let (told_user_ns, told_system_ns) = signal.told();
    Usage {
        user_ns: time.user_ns,
        system_ns: time.system_ns,
        cpu_ns: time.cpu_ns,
        told_user_ns,
        told_system_ns,
        max_rss_bytes: signal.max_rss_bytes(),
    }
}

/// Drops the entry of a process that was reaped, and tells who could have reaped it.
#[btf_tracepoint(function = "sched_process_free")]
pub fn sched_process_free(ctx: BtfTracePointContext) -> i32 {
    let task = task_argument(&ctx, 0);
    let tgid = task.tgid();
    if task.tid() != tgid {
        return 0;
    }
    let start_time = task.start_time();
    match maps::process(tgid) {
        // SAFETY: a map value. 0: named by the daemon, and without children.
        Some(entry) if matches!(unsafe { (*entry).start_time_ns }, known if known == start_time || known == 0) =>
        {
            let is_told = !maps::is_outside(entry);
            maps::drop_process(tgid);
            if !is_told {
                return 0;
            }
        }
        // The pid has a new owner already, or there never was an entry.
        _ if setting!(tree) != 0 || (setting!(names) != 0 && !is_wanted(task.name())) => return 0,
        _ => {}
    }
    ring::emit::<Free>(Kind::Free, |record| {
        // SAFETY: the reserved record; every field is written.
        unsafe {
            (*record).header = ring::header(Kind::Free, 0, tgid, tgid, start_time, size_of::<Free>() as u32);
            (*record).usage = usage(task.signal(), task.signal().cpu_time());
            (*record).real_parent_tgid = task.real_parent().tgid();
            (*record).auto_reap = task.auto_reap() as u32;
        }
    });
    0
}
