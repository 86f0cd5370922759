//! Which programs hang on which tracepoints of this kernel.

use tracer_common::event::Kind;

use crate::level::Level;

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// By BTF (tp_btf): the cheapest kind, with typed arguments.
    Typed,
    /// As perf attaches: the program is given the tracepoint's record, whose fields must be these.
    Format { category: &'static str, fields: &'static [&'static str] },
}

/// When a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// Always.
    Lifecycle,
    /// Always, where the kernel has it.
    Prepare,
    /// With `--hooks full`.
    Calls,
    /// With `--threads`.
    Threads,
    /// With `--cwd`.
    Cwd,
    /// With `--ledger`.
    Ledger,
    /// With `--ledger`, where the kernel has it: tells the state before an exec.
    LedgerBefore,
    /// With `--ledger` and `--hooks full`, in its place where the kernel does not have it.
    LedgerCalls,
    /// At the levels `fault` and `full`.
    Faults,
    /// At the level `full`.
    Allocations,
    /// At the level `lite`.
    Lite,
}

impl Set {
    /// Whether it is used for counting copies, at some level.
    pub(super) fn is_of_faults(self) -> bool {
        matches!(self, Self::Faults | Self::Allocations | Self::Lite)
    }

    /// Whether it is used for counting copies at this level.
    pub(super) fn is_of(self, level: Level) -> bool {
        match self {
            Self::Lifecycle
            | Self::Prepare
            | Self::Calls
            | Self::Threads
            | Self::Cwd
            | Self::Ledger
            | Self::LedgerBefore
            | Self::LedgerCalls => false,
            Self::Faults => level.has_classes(),
            Self::Allocations => level.has_allocations(),
            Self::Lite => level == Level::Lite,
        }
    }
}

/// What is lost when the kernel skips the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skipped {
    /// A record of this kind.
    Record(Kind),
    /// What became of a fault.
    Fault,
    /// Nothing: another program makes up for it, or only runs are skipped that interrupt one on the same CPU, and
    /// those are not about the interrupted thread's faults (a flush for another CPU, an allocation in an interrupt).
    Nothing,
}

/// A program and its tracepoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hook {
    /// The tracepoint.
    pub(super) name: &'static str,
    /// The program; of the same name when it is typed.
    pub(super) program: &'static str,
    pub(super) how: How,
    pub(super) skipped: Skipped,
    pub(super) set: Set,
}

const fn typed(name: &'static str, skipped: Skipped, set: Set) -> Hook {
    Hook { name, program: name, how: How::Typed, skipped, set }
}

/// The only one of its level, in the place of the other program on this tracepoint.
const LITE: Hook = Hook {
    name: "tlb_flush",
    program: "tlb_flush_lite",
    how: How::Typed,
    skipped: Skipped::Nothing,
    set: Set::Lite,
};

/// A program of the ledger.
const fn ledger(name: &'static str, program: &'static str, set: Set) -> Hook {
    Hook { name, program, how: How::Typed, skipped: Skipped::Record(Kind::Ledger), set }
}

/// Before the end of a process: its last thread ends before it.
const THREAD_EXIT: Hook = Hook {
    name: "sched_process_exit",
    program: "thread_exit",
    how: How::Typed,
    skipped: Skipped::Record(Kind::Thread),
    set: Set::Threads,
};

/// In front of the program that tells the exec.
const CWD_EXEC: Hook = Hook {
    name: "sched_process_exec",
    program: "cwd_exec",
    how: How::Typed,
    skipped: Skipped::Record(Kind::Cwd),
    set: Set::Cwd,
};

/// The tracepoint that is passed before an exec changes anything.
pub(super) const BEFORE_EXEC: &str = "sched_prepare_exec";

/// In the order of attachment: deaths before births, so that nobody is entered into the table who is not taken
/// out again; what every fault passes last. The ledger's stand before those of births and execs, and run first.
const HOOKS: [Hook; 23] = [
    typed("sched_process_free", Skipped::Record(Kind::Free), Set::Lifecycle),
    THREAD_EXIT,
    typed("sched_process_exit", Skipped::Record(Kind::Exit), Set::Lifecycle),
    typed("task_rename", Skipped::Nothing, Set::Lifecycle),
    ledger(BEFORE_EXEC, "ledger_prepare", Set::LedgerBefore),
    typed(BEFORE_EXEC, Skipped::Nothing, Set::Prepare),
    ledger("sched_process_exec", "ledger_exec", Set::Ledger),
    CWD_EXEC,
    typed("sched_process_exec", Skipped::Record(Kind::Exec), Set::Lifecycle),
    ledger("sched_process_fork", "ledger_fork", Set::Ledger),
    typed("sched_process_fork", Skipped::Record(Kind::Fork), Set::Lifecycle),
    typed("task_newtask", Skipped::Record(Kind::Fork), Set::Lifecycle),
    typed("cgroup_mkdir", Skipped::Record(Kind::Cgroup), Set::Lifecycle),
    typed("cgroup_rmdir", Skipped::Record(Kind::Cgroup), Set::Lifecycle),
    typed("sys_exit", Skipped::Nothing, Set::Calls),
    typed("sys_enter", Skipped::Nothing, Set::Calls),
    ledger("sys_enter", "ledger_enter", Set::LedgerCalls),
    typed("signal_generate", Skipped::Fault, Set::Faults),
    typed("tlb_flush", Skipped::Nothing, Set::Faults),
    typed("mm_page_alloc", Skipped::Nothing, Set::Allocations),
    typed("page_fault_kernel", Skipped::Fault, Set::Faults),
    typed("page_fault_user", Skipped::Fault, Set::Faults),
    LITE,
];

/// The same where tracepoints can be preempted (from 7.0: include/linux/tracepoint.h takes srcu_fast instead of
/// switching preemption off). There the kernel skips a typed program while another task is preempted in it on the
/// same CPU. What runs with interrupts or preemption off in any case (the fault path, the run queue's lock, RCU's
/// callbacks, the lock of the cgroups' paths) can stay typed. So does the ledger's on exec: all of perf's kind on
/// one tracepoint run where the first of them is attached, and that one has to run behind the typed one. An exec is
/// told by a typed program; one attached behind it, of the kind that is never skipped, tells those that the first
/// was not run for.
const PREEMPTIBLE_HOOKS: [Hook; 22] = [
    typed("sched_process_free", Skipped::Record(Kind::Free), Set::Lifecycle),
    format("sched", "sched_process_exit", "thread_exit_format", &[], Set::Threads),
    format("sched", "sched_process_exit", "sched_process_exit_format", &[], Set::Lifecycle),
    format("task", "task_rename", "task_rename_format", &[], Set::Lifecycle),
    format("sched", BEFORE_EXEC, "ledger_prepare_format", &[], Set::LedgerBefore),
    format("sched", BEFORE_EXEC, "sched_prepare_exec_format", &[], Set::Prepare),
    ledger("sched_process_exec", "ledger_exec", Set::Ledger),
    CWD_EXEC,
    typed("sched_process_exec", Skipped::Nothing, Set::Lifecycle),
    format("sched", "sched_process_exec", "sched_process_exec_format", &EXEC_FIELDS, Set::Lifecycle),
    ledger("sched_wakeup_new", "ledger_wakeup_new", Set::Ledger),
    typed("sched_wakeup_new", Skipped::Record(Kind::Fork), Set::Lifecycle),
    typed("cgroup_mkdir", Skipped::Record(Kind::Cgroup), Set::Lifecycle),
    typed("cgroup_rmdir", Skipped::Record(Kind::Cgroup), Set::Lifecycle),
    format("raw_syscalls", "sys_exit", "sys_exit_format", &EXIT_FIELDS, Set::Calls),
    format("raw_syscalls", "sys_enter", "sys_enter_format", &ENTER_FIELDS, Set::Calls),
    typed("signal_generate", Skipped::Fault, Set::Faults),
    typed("tlb_flush", Skipped::Nothing, Set::Faults),
    format("kmem", "mm_page_alloc", "mm_page_alloc_format", &ALLOC_FIELDS, Set::Allocations),
    typed("page_fault_kernel", Skipped::Fault, Set::Faults),
    typed("page_fault_user", Skipped::Fault, Set::Faults),
    LITE,
];

const fn format(
    category: &'static str,
    name: &'static str,
    program: &'static str,
    fields: &'static [&'static str],
    set: Set,
) -> Hook {
    Hook { name, program, how: How::Format { category, fields }, skipped: Skipped::Nothing, set }
}

const EXEC_FIELDS: [&str; 2] =
    ["field:__data_loc char[] filename;\toffset:8;\tsize:4;", "field:pid_t old_pid;\toffset:16;\tsize:4;"];

const RENAME_FIELDS: [&str; 2] =
    ["field:char oldcomm[16];\toffset:12;\tsize:16;", "field:char newcomm[16];\toffset:28;\tsize:16;"];

const ENTER_FIELDS: [&str; 1] = ["field:long id;\toffset:8;\tsize:8;"];

const EXIT_FIELDS: [&str; 2] = ["field:long id;\toffset:8;\tsize:8;", "field:long ret;\toffset:16;\tsize:8;"];

const ALLOC_FIELDS: [&str; 3] = [
    "field:unsigned long pfn;\toffset:8;\tsize:8;",
    "field:unsigned int order;\toffset:16;\tsize:4;",
    "field:unsigned long gfp_flags;\toffset:24;\tsize:8;",
];

/// The hooks for a kernel, by its release.
pub(super) fn hooks(release: &str) -> &'static [Hook] {
    if has_preemptible_tracepoints(release) { &PREEMPTIBLE_HOOKS } else { &HOOKS }
}

fn has_preemptible_tracepoints(release: &str) -> bool {
    let major = release.split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| major >= 7)
}

/// Whether a program can know the new name of a process that is renamed.
pub(super) fn check_rename(release: &str) -> Result<(), String> {
    if has_preemptible_tracepoints(release) {
        return check_format("task", "task_rename", &RENAME_FIELDS);
    }
    Ok(())
}

/// Compares a tracepoint's record with what its program expects.
pub(super) fn check_format(category: &str, name: &str, fields: &[&str]) -> Result<(), String> {
    const PATHS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
    let read = |path| std::fs::read_to_string(format!("{path}/events/{category}/{name}/format"));
    let format = PATHS
        .iter()
        .find_map(|path| read(path).ok())
        .ok_or("tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing")?;
    match fields.iter().find(|field| !format.contains(*field)) {
        None => Ok(()),
        Some(field) => Err(format!("its record has changed: no {}", field.replace('\t', " "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_decides() {
        assert!(has_preemptible_tracepoints("7.0.0-1-amd64") && has_preemptible_tracepoints("12.1"));
        assert!(!has_preemptible_tracepoints("6.18.44") && !has_preemptible_tracepoints("unknown"));
    }

    #[test]
    fn each_program_stands_once_in_a_set() {
        for hooks in [&HOOKS[..], &PREEMPTIBLE_HOOKS[..]] {
            let mut programs: Vec<_> = hooks.iter().map(|hook| hook.program).collect();
            programs.sort_unstable();
            assert!(programs.windows(2).all(|pair| pair[0] != pair[1]), "{programs:?}");
        }
    }

    /// What a process inherits must be known when its birth or its exec is told.
    #[test]
    fn the_ledger_is_told_before_what_it_is_about() {
        for hooks in [&HOOKS[..], &PREEMPTIBLE_HOOKS[..]] {
            for (at, hook) in hooks.iter().enumerate().filter(|(_, hook)| hook.set == Set::Ledger) {
                let on_same = |other: &&Hook| other.name == hook.name && other.set == Set::Lifecycle;
                assert!(!hooks[..at].iter().any(|other| on_same(&other)), "{}", hook.program);
                assert!(hooks[at..].iter().any(|other| on_same(&other)), "{}", hook.program);
            }
        }
    }
}
