//! The records that travel through the ring buffer, in the order in which they were reserved there:
//! a process's birth comes before anything it does, whatever CPU each was written on.
//!
//! Each record is a [`Header`], a body by its kind, and for some kinds a tail of bytes.

use crate::{
    counter::{Counters, Totals},
    place::{File, Place},
    start::{Memory, Reached},
};

/// Bytes of `task_struct.comm` (`TASK_COMM_LEN`).
pub const COMM_BYTES: usize = 16;
/// Most bytes of a path that an exec record carries; longer ones are cut and flagged.
pub const PATH_BYTES: usize = 512;
/// Most bytes of argv that an exec record carries; longer ones are cut (`args_bytes` tells).
pub const ARGS_BYTES: usize = 4096;
/// Most bytes of the tail of a record.
pub const TAIL_BYTES: usize = 2 * PATH_BYTES + ARGS_BYTES;
/// Most bytes of the environment that an exec record carries (`--env`); more are cut and flagged.
pub const ENV_BYTES: usize = 4096;
/// Most bytes of the tail of an exec record.
pub const EXEC_TAIL_BYTES: usize = TAIL_BYTES + ENV_BYTES;

/// Most bytes of a directory's names, of which the last may go beyond it.
pub const CWD_BYTES: usize = 2048;
/// Most bytes of a name in a directory, with its NUL (NAME_MAX).
pub const NAME_BYTES: usize = 256;

/// What a record tells.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A process was born; body [`Fork`].
    Fork = 0,
    /// A process runs a new program; body [`Exec`] and tail.
    Exec = 1,
    /// The last thread of a process ended; body [`Exit`].
    Exit = 2,
    /// The kernel dropped a reaped process, one RCU period after the reap; body [`Free`].
    Free = 3,
    /// A wait call returned a process (full hooks); body [`Wait`].
    Wait = 4,
    /// An exec call failed (full hooks); body [`ExecFailed`] and tail.
    ExecFailed = 5,
    /// A fork, vfork or clone call failed (full hooks); body [`ForkFailed`].
    ForkFailed = 6,
    /// A cgroup was made or removed; body [`Cgroup`] and tail.
    Cgroup = 7,
    /// What a process inherits, at a fork or around an exec (`--ledger`); body [`Ledger`](crate::ledger::Ledger).
    Ledger = 8,
    /// A thread ended that was not the first of its process (`--threads`); body [`Thread`].
    Thread = 9,
    /// Where a process is that runs a new program (`--cwd`); body [`Cwd`] and tail, before that of the [`Exec`].
    Cwd = 10,
}

/// Number of [`Kind`]s.
pub const KINDS: usize = 11;

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; KINDS] = [
        Self::Fork,
        Self::Exec,
        Self::Exit,
        Self::Free,
        Self::Wait,
        Self::ExecFailed,
        Self::ForkFailed,
        Self::Cgroup,
        Self::Ledger,
        Self::Thread,
        Self::Cwd,
    ];

    /// The name used in the stream (`tracer.lost.record`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Exec => "exec",
            Self::Exit => "exit",
            Self::Free => "free",
            Self::Wait => "wait",
            Self::ExecFailed => "exec_failed",
            Self::ForkFailed => "fork_failed",
            Self::Cgroup => "cgroup",
            Self::Ledger => "ledger",
            Self::Thread => "thread",
            Self::Cwd => "cwd",
        }
    }
}

/// [`Header::flags`]: the process has no entry in the kernel-side table (it was full): no counters.
pub const FLAG_NO_COUNTERS: u32 = 1 << 0;
/// [`Header::flags`]: the fork-time parent has no entry, so `parent` totals are not known.
pub const FLAG_NO_PARENT: u32 = 1 << 1;
/// [`Header::flags`] of [`Exec`]: argv could not be read from the new memory.
pub const FLAG_ARGS_UNREADABLE: u32 = 1 << 2;
/// [`Header::flags`] of [`Exec`] and [`ExecFailed`]: a path was longer than [`PATH_BYTES`].
pub const FLAG_PATH_CUT: u32 = 1 << 3;
/// [`Header::flags`] of [`Exit`]: a core was dumped.
pub const FLAG_CORE: u32 = 1 << 4;
/// [`Header::flags`] of [`Exec`]: the file that runs is not known when it is a script: `interp_len` is 0.
pub const FLAG_NO_INTERP: u32 = 1 << 5;
/// [`Header::flags`] of [`Exec`]: no memory can be read here: neither paths nor argv are known.
pub const FLAG_UNREADABLE: u32 = 1 << 6;

/// [`Header::flags`] of [`Exec`]: the program is to distrust its surroundings (AT_SECURE).
pub const FLAG_SECURE: u32 = 1 << 7;
/// [`Header::flags`] of [`Exec`]: it is not known whether it is.
pub const FLAG_SECURE_UNKNOWN: u32 = 1 << 8;
/// [`Header::flags`] of [`Exec`]: the file that runs is ELF; without it, that is not known.
pub const FLAG_ELF: u32 = 1 << 9;
/// [`Header::flags`] of [`Exec`]: what runs the file is told so by binfmt_misc, in one of the steps. Without it, that
/// is not known: only some of its entries say it.
pub const FLAG_MISC: u32 = 1 << 10;
/// [`Header::flags`] of [`Exec`]: the environment could not be read from the new memory.
pub const FLAG_ENV_UNREADABLE: u32 = 1 << 11;
/// [`Header::flags`] of [`Exec`]: the environment has more than [`ENV_BYTES`].
pub const FLAG_ENV_CUT: u32 = 1 << 12;

/// [`Header::flags`] of [`Fork`]: the fork-time parent is left out by its name: nothing else is told of it.
pub const FLAG_PARENT_OUTSIDE: u32 = 1 << 13;
/// [`Header::flags`] of [`Fork`]: the process was left out by its name until now. When it was born is its start time;
/// what is not known any more of its birth is 0, or what the fields say of the unknown.
pub const FLAG_LATE: u32 = 1 << 14;

/// The beginning of each record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// A [`Kind`].
    pub kind: u32,
    /// `FLAG_*`.
    pub flags: u32,
    /// CPU the record was written on.
    pub cpu: u32,
    /// Thread the record is about, in the initial pid namespace.
    pub tid: u32,
    /// Process the record is about (for [`Fork`]: the child), in the initial pid namespace.
    pub tgid: u32,
    /// Bytes of the whole record, tail included.
    pub size: u32,
    /// When, in ns of CLOCK_BOOTTIME (`bpf_ktime_get_boot_ns`, 5.8).
    pub ktime_ns: u64,
    /// `start_boottime` of the process's leader: with the tgid, the identity of the process.
    pub start_time_ns: u64,
}

/// A birth: `task_newtask` and `sched_process_fork`, in the parent, before the child runs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fork {
    /// The child.
    pub header: Header,
    /// `start_boottime` of the parent's leader.
    pub parent_start_time_ns: u64,
    /// CLONE_* flags, from `task_newtask`; without the exit signal.
    pub clone_flags: u64,
    /// Bytes of page tables built for the child (`mm->pgtables_bytes`); 0 when it shares the memory, `u64::MAX`
    /// when it is not known.
    pub pgtable_bytes: u64,
    /// Anonymous pages that the child got mapped (`mm->rss_stat`); 0 when it shares the memory. From 6.2 the kernel
    /// keeps this sum per CPU and exact only to a batch: less than 32 pages (or twice the CPUs) on each CPU. Above
    /// `i64::MAX` when it is not known.
    pub anon_pages: u64,
    /// Pages of files, likewise.
    pub file_pages: u64,
    /// Pages of shared memory (tmpfs, SysV, shared anonymous mappings), likewise.
    pub shmem_pages: u64,
    /// From the entry of the system call to this record, in ns; 0 when the entry was not seen.
    pub duration_ns: u64,
    /// Where the child begins.
    pub place: Place,
    /// Pages that fork copied because they were pinned; `u64::MAX` when that is not known.
    pub eager_copies: u64,
    /// Counters of the parent at this moment.
    pub parent: Totals,
    /// The process that called fork (the fork-time parent); with [`FLAG_LATE`] 0 when it was there before us.
    pub parent_tgid: u32,
    /// The thread that called fork; 0 when it is not known.
    pub parent_tid: u32,
    /// Parent as the kernel names it now (`real_parent`): another one than the caller with CLONE_PARENT.
    pub real_parent_tgid: u32,
    /// System call number the parent is in; `u32::MAX` when none (a kernel thread).
    pub syscall: u32,
    /// Effective user id, in the initial user namespace.
    pub uid: u32,
    /// Effective group id, in the initial user namespace.
    pub gid: u32,
    /// Pid of the child in its own pid namespace.
    pub vpid: u32,
    /// Non-zero when the child shares the parent's memory (CLONE_VM).
    pub shares_mm: u32,
    /// Mappings that the child got (`mm->map_count`); 0 when it shares the memory, `u32::MAX` when it is not known.
    pub mappings: u32,
    /// Always 0.
    pub reserved: u32,
    /// Name of the child's thread.
    pub comm: [u8; COMM_BYTES],
}

/// A successful exec: `sched_process_exec`, in the new program before its first instruction.
/// Tail: `path_len` bytes of the path as given, `interp_len` of what runs it, `args_len` of argv, `env_len` of the
/// environment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exec {
    /// The process.
    pub header: Header,
    /// Where the process is.
    pub place: Place,
    /// The file that runs; of a script, its interpreter.
    pub file: File,
    /// Counters of the process at this moment: what the old program did.
    pub own: Totals,
    /// Counters of the fork-time parent at this moment.
    pub parent: Totals,
    /// When it had passed its point of no return, in ns of CLOCK_BOOTTIME; 0 when that was not seen.
    pub prepared_ns: u64,
    /// The memory that it replaced.
    pub dropped: Memory,
    /// What the program had reached that it replaced.
    pub reached: Reached,
    /// Thread that called exec; differs from the tgid when it was not the leader.
    pub old_tid: u32,
    /// Arguments (`bprm->argc`).
    pub argc: u32,
    /// Bytes of all arguments with their NULs; more than `args_len` when they were cut.
    pub args_bytes: u32,
    /// Effective user id after the exec.
    pub uid: u32,
    /// Effective group id after the exec.
    pub gid: u32,
    /// Bytes of the path as given to exec (`bprm->filename`), no NUL.
    pub path_len: u32,
    /// Bytes of the path of the file that runs (`bprm->interp`: the last `#!` interpreter), no NUL; 0 when the same.
    pub interp_len: u32,
    /// Bytes of argv in the tail, each argument ending in a NUL.
    pub args_len: u32,
    /// Threads of the process that an exec has ended, this one or an earlier one.
    pub threads_killed: u32,
    /// Bytes of the environment in the tail, each variable ending in a NUL; 0 without `--env`.
    pub env_len: u32,
    /// Variables of the environment (`bprm->envc`); `u32::MAX` when that is not known.
    pub env_count: u32,
    /// Bytes of all of them with their NULs.
    pub env_bytes: u32,
    /// Name of the process after the exec.
    pub comm: [u8; COMM_BYTES],
    /// Name that the thread had that called exec; empty when it is not known.
    pub comm_before: [u8; COMM_BYTES],
}

/// CPU time and memory of a process, as the kernel keeps them in `signal_struct`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time in user mode, as sampled by the tick: right only in relation to `system_ns`.
    pub user_ns: u64,
    /// Time in the kernel, likewise.
    pub system_ns: u64,
    /// Time on a CPU, as the scheduler measures it.
    pub cpu_ns: u64,
    /// Time in user mode that the kernel told last (wait4, getrusage, `/proc`); 0 when nobody has asked.
    pub told_user_ns: u64,
    /// Time in the kernel that it told then.
    pub told_system_ns: u64,
    /// Most memory that was resident.
    pub max_rss_bytes: u64,
}

/// What the kernel does when a process ends: [`Exit::auto_reap`] and [`Free::auto_reap`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoReap {
    /// It cannot be told.
    Unknown = 0,
    /// It leaves a zombie to the parent.
    No = 1,
    /// It reaps it itself: the parent ignores SIGCHLD or has SA_NOCLDWAIT.
    Yes = 2,
}

/// The end of a process: `sched_process_exit` of its last thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The process; the tid is that of the last thread.
    pub header: Header,
    /// Final counters; all 0 and not to be used with [`FLAG_NO_COUNTERS`].
    pub counters: Counters,
    /// Counters of the fork-time parent at this moment.
    pub parent: Totals,
    /// Page faults without I/O (`min_flt` of the leader, the last thread and the ended threads).
    pub minor_faults: u64,
    /// Page faults with I/O (`maj_flt`, likewise).
    pub major_faults: u64,
    /// Until now: the process has still to give up its memory, and the time since the last tick is not added.
    pub usage: Usage,
    /// Where it was at its end.
    pub place: Place,
    /// What its program has reached.
    pub reached: Reached,
    /// The memory that it gives up; not known before 6.16.
    pub memory: Memory,
    /// As in its entry: see `Process`.
    pub run_delay: u64,
    /// As `wait4` reports it: low 7 bits the signal, bit 7 core dumped, bits 8 to 15 the exit code.
    pub status: u32,
    /// System call number the last thread is in; `u32::MAX` when none.
    pub syscall: u32,
    /// Effective user id.
    pub uid: u32,
    /// Parent as the kernel names it now (`real_parent`).
    pub real_parent_tgid: u32,
    /// An [`AutoReap`], as the parent's handler of SIGCHLD is now.
    pub auto_reap: u32,
    /// Always 0.
    pub reserved: u32,
    /// Name of the process's leader.
    pub comm: [u8; COMM_BYTES],
}

/// `sched_process_free` of a leader.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Free {
    /// The process; `ktime_ns` is later than the reap.
    pub header: Header,
    /// All of it: the kernel added up the last thread when the process was reaped.
    pub usage: Usage,
    /// Its last parent: only that process could reap it.
    pub real_parent_tgid: u32,
    /// An [`AutoReap`], as the last parent's handler of SIGCHLD is now.
    pub auto_reap: u32,
}

/// `sys_exit` of wait4 or waitid that returned a process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// The process that waited.
    pub header: Header,
    /// The pid it was given, in its own pid namespace.
    pub pid: u32,
    /// Non-zero when the caller's pid namespace is the initial one, so that `pid` is global.
    pub initial_pid_ns: u32,
}

/// `sys_exit` of execve or execveat with an error. Tail: `path_len` bytes of the path as given.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecFailed {
    /// The process.
    pub header: Header,
    /// Error number, positive.
    pub errno: u32,
    /// Bytes of the path, no NUL; 0 when it could not be read.
    pub path_len: u32,
}

/// `sys_exit` of fork, vfork, clone or clone3 with an error.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForkFailed {
    /// The process.
    pub header: Header,
    /// Error number, positive.
    pub errno: u32,
    /// System call number.
    pub syscall: u32,
    /// Effective user id.
    pub uid: u32,
    /// Always 0.
    pub reserved: u32,
    /// Processes of the user.
    pub user_processes: u64,
    /// Most that it may have, as this process may make them (RLIMIT_NPROC).
    pub max_user_processes: u64,
    /// Limit of the nearest of its cgroups that had as many processes and threads (`pids.max`); 0 when none had.
    pub cgroup_limit: u64,
}

/// What ended a thread: [`Thread::ended_by`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// The kernel: a worker of its own (io_uring, vhost) that was done.
    Kernel = 0,
    /// The thread itself: exit(2).
    Exit = 1,
    /// The thread, with all others: exit_group(2).
    ExitGroup = 2,
    /// Another thread's exit_group(2), or a signal for the process.
    Group = 3,
    /// Another thread's exec.
    Exec = 4,
}

impl EndedBy {
    /// All, by number.
    pub const ALL: [Self; 5] = [Self::Kernel, Self::Exit, Self::ExitGroup, Self::Group, Self::Exec];
}

/// The end of a thread that was not the first of its process: `sched_process_exit`, before [`Exit`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// The process, and the thread's tid.
    pub header: Header,
    /// `start_boottime` of the thread.
    pub start_time_ns: u64,
    /// Time on a CPU, as the scheduler measures it.
    pub cpu_ns: u64,
    /// Page faults without I/O (`min_flt`).
    pub minor_faults: u64,
    /// Page faults with I/O (`maj_flt`).
    pub major_faults: u64,
    /// An [`EndedBy`].
    pub ended_by: u32,
    /// Always 0.
    pub reserved: u32,
    /// Its name.
    pub comm: [u8; COMM_BYTES],
}

/// The directory that a process is in when it runs a new program. Tail: the names of it and of those it is in, from it to
/// the root of its mount namespace, each with a NUL; with [`FLAG_PATH_CUT`] not all.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cwd {
    /// The process.
    pub header: Header,
    /// Bytes of the tail.
    pub names_len: u64,
    /// Non-zero when it was removed.
    pub deleted: u64,
}

/// `cgroup_mkdir` and `cgroup_rmdir` of the v2 hierarchy. Tail: `path_len` bytes of the path from the root of the
/// hierarchy; none when it was removed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// The process that did it.
    pub header: Header,
    /// Id of the cgroup.
    pub id: u64,
    /// Non-zero when it is no more.
    pub removed: u32,
    /// Bytes of the path, no NUL.
    pub path_len: u32,
}

/// Bytes of a [`Header`].
const H: usize = 6 * 4 + 2 * 8;
wire! {
    Header = H,
    Fork = H + 8 * 8 + size_of::<Place>() + 32 + 10 * 4 + COMM_BYTES,
    Exec = H + size_of::<Place>() + size_of::<File>() + 2 * 32 + 8 + size_of::<Memory>()
        + size_of::<Reached>() + 12 * 4 + 2 * COMM_BYTES,
    Usage = 6 * 8,
    Exit = H + size_of::<Counters>() + 32 + 3 * 8 + size_of::<Usage>() + size_of::<Place>() + size_of::<Reached>()
        + size_of::<Memory>() + 6 * 4 + COMM_BYTES,
    Free = H + size_of::<Usage>() + 8,
    Wait = H + 8,
    ExecFailed = H + 8,
    ForkFailed = H + 4 * 4 + 3 * 8,
    Cgroup = H + 16,
    Cwd = H + 16,
    Thread = H + 4 * 8 + 2 * 4 + COMM_BYTES,
}
