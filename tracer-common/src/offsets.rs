//! Where the kernel keeps the fields that the eBPF programs read.
//!
//! The daemon resolves each from the running kernel's BTF and writes it into the instructions that need it before they are
//! loaded ([`crate::constant`]). The verifier checks each typed load against the kernel's own types. A field that the
//! kernel does not have is [`MISSING`].

/// The value of an offset whose field does not exist.
pub const MISSING: u32 = u32::MAX;

macro_rules! offsets {
    ($($(#[$doc:meta])* $field:ident = $of:literal $path:literal,)*) => {
        /// Byte offsets into kernel structs, or sizes of them.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Offsets { $($(#[$doc])* pub $field: u32,)* }

        /// Number of offsets.
        pub const OFFSETS: usize = [$($of),*].len();
        const _: () = assert!(size_of::<Offsets>() == OFFSETS * 4);

        /// For each offset in order: its name, the kernel struct, and the member; more than one
        /// member, parted by `|`, where kernels name it differently; an empty one is the size.
        /// Of a bit-field, which ends in `:bit`, it is the number of the first bit.
        pub const SOURCES: [(&str, &str, &str); OFFSETS] = [$((stringify!($field), $of, $path)),*];
    };
}

offsets! {
    /// Thread id.
    task_pid = "task_struct" "pid",
    /// Process id.
    task_tgid = "task_struct" "tgid",
    /// Start in ns since boot; `real_start_time` before 5.5.
    task_start_boottime = "task_struct" "start_boottime|real_start_time",
    /// The parent, in whose list of children it is.
    task_real_parent = "task_struct" "real_parent",
    /// Who is told of its end: the real parent, or its debugger.
    task_parent = "task_struct" "parent",
    /// PT_* flags; 0 while no debugger is attached.
    task_ptrace = "task_struct" "ptrace",
    /// Signal that its parent gets at its end.
    task_exit_signal = "task_struct" "exit_signal",
    /// Signal handlers; null when it was reaped.
    task_sighand = "task_struct" "sighand",
    /// First thread of the process.
    task_group_leader = "task_struct" "group_leader",
    /// Exit status in the form of wait4.
    task_exit_code = "task_struct" "exit_code",
    /// PF_* flags.
    task_flags = "task_struct" "flags",
    /// Name.
    task_comm = "task_struct" "comm",
    /// Memory; null for kernel threads.
    task_mm = "task_struct" "mm",
    /// Shared by the threads of a process.
    task_signal = "task_struct" "signal",
    /// Credentials in force.
    task_cred = "task_struct" "cred",
    /// Lowest address of the kernel stack.
    task_stack = "task_struct" "stack",
    /// `struct pid` of the thread.
    task_thread_pid = "task_struct" "thread_pid",
    /// Faults without I/O of this thread.
    task_min_flt = "task_struct" "min_flt",
    /// Faults with I/O of this thread.
    task_maj_flt = "task_struct" "maj_flt",
    /// Time in user mode of this thread.
    task_user_ns = "task_struct" "utime",
    /// Its time in the kernel.
    task_system_ns = "task_struct" "stime",
    /// Its time on a CPU.
    task_cpu_ns = "task_struct" "se.sum_exec_runtime",
    /// Above 0 while faults must not be handled.
    task_pagefault_disabled = "task_struct" "pagefault_disabled",
    /// Where a parent that waits for exec or exit (vfork) is told; null when none does.
    task_vfork_done = "task_struct" "vfork_done",
    /// Not null while it frees memory that it needs itself.
    task_reclaim_state = "task_struct" "reclaim_state",
    /// Bit 1 (TS_COMPAT): in a 32-bit system call.
    task_thread_status = "task_struct" "thread_info.status",
    /// How often it was given a CPU.
    task_runs = "task_struct" "sched_info.pcount",
    /// Time that it waited for one, in ns.
    task_run_delay = "task_struct" "sched_info.run_delay",
    /// Priority that follows from the nice value.
    task_static_prio = "task_struct" "static_prio",
    /// Signals that are blocked.
    task_blocked = "task_struct" "blocked.sig[0]",
    /// Directories and the umask.
    task_fs = "task_struct" "fs",
    /// Open files.
    task_files = "task_struct" "files",
    /// The umask.
    fs_umask = "fs_struct" "umask",
    /// The table of descriptors.
    files_table = "files_struct" "fdt",
    /// Descriptors that the table has room for.
    table_max_fds = "fdtable" "max_fds",
    /// Bitmap of those that are open.
    table_open = "fdtable" "open_fds",
    /// Bitmap of those that exec closes.
    table_cloexec = "fdtable" "close_on_exec",
    /// Threads that have not ended.
    signal_live = "signal_struct" "live",
    /// SIGNAL_GROUP_EXIT is bit 2.
    signal_flags = "signal_struct" "flags",
    /// Exit status of the process when it ended as a group.
    signal_group_exit_code = "signal_struct" "group_exit_code",
    /// Faults without I/O of ended threads.
    signal_min_flt = "signal_struct" "min_flt",
    /// Faults with I/O of ended threads.
    signal_maj_flt = "signal_struct" "maj_flt",
    /// Time in user mode of ended threads, as sampled by the tick.
    signal_user_ns = "signal_struct" "utime",
    /// Their time in the kernel, likewise.
    signal_system_ns = "signal_struct" "stime",
    /// Their time on a CPU, as the scheduler measures it.
    signal_cpu_ns = "signal_struct" "sum_sched_runtime",
    /// Time in user mode that the kernel told somebody last.
    signal_told_user_ns = "signal_struct" "prev_cputime.utime",
    /// Time in the kernel that it told, likewise.
    signal_told_system_ns = "signal_struct" "prev_cputime.stime",
    /// Most pages that were resident; of the last program's from its end on.
    signal_max_rss = "signal_struct" "maxrss",
    /// Element 16 of `action` is that of SIGCHLD.
    sighand_child_handler = "sighand_struct" "action[16].sa.sa_handler",
    /// SA_* flags.
    sighand_child_flags = "sighand_struct" "action[16].sa.sa_flags",
    /// Not null while a thread runs exec and ends the others, or dumps core (`group_exit_task` before 5.17).
    signal_exec_task = "signal_struct" "group_exec_task|group_exit_task",
    /// Element RLIMIT_NPROC of `rlim`: most processes of the user, as this process may make them.
    signal_max_processes = "signal_struct" "rlim[6].rlim_cur",
    /// All handlers, an array of `struct k_sigaction`.
    sighand_action = "sighand_struct" "action",
    /// Resource limits, an array of `struct rlimit`.
    signal_limits = "signal_struct" "rlim",
    /// Its terminal; null when it has none.
    signal_tty = "signal_struct" "tty",
    /// Element PIDTYPE_PGID of `pids`: the `struct pid` of the process group.
    signal_group = "signal_struct" "pids[2]",
    /// Element PIDTYPE_SID: that of the session.
    signal_session = "signal_struct" "pids[3]",
    /// Real user id.
    cred_uid = "cred" "uid",
    /// Real group id.
    cred_gid = "cred" "gid",
    /// Effective user id.
    cred_euid = "cred" "euid",
    /// Effective group id.
    cred_egid = "cred" "egid",
    /// Counts of the user in its user namespace (5.14).
    cred_ucounts = "cred" "ucounts",
    /// Element UCOUNT_RLIMIT_NPROC: its processes (an atomic).
    ucounts_processes = "ucounts" "rlimit[0]",
    /// The user, who has the counts before.
    cred_user = "cred" "user",
    /// Its processes (an atomic), before 5.14.
    user_processes = "user_struct" "processes",
    /// User namespace.
    cred_user_ns = "cred" "user_ns",
    /// Nesting of the pid namespace.
    pid_level = "pid" "level",
    /// First element of the numbers, one for each level.
    pid_numbers = "pid" "numbers",
    /// The pid at that level.
    upid_nr = "upid" "nr",
    /// The namespace of that level.
    upid_ns = "upid" "ns",
    /// Bytes of an element of `pid.numbers`.
    upid_size = "upid" "",
    /// Namespaces but those of pids and users; null for a thread that is about to end.
    task_nsproxy = "task_struct" "nsproxy",
    /// Of cgroups.
    nsproxy_cgroup = "nsproxy" "cgroup_ns",
    /// Of System V IPC and message queues.
    nsproxy_ipc = "nsproxy" "ipc_ns",
    /// Of mounts.
    nsproxy_mnt = "nsproxy" "mnt_ns",
    /// Of the network.
    nsproxy_net = "nsproxy" "net_ns",
    /// Of clocks.
    nsproxy_time = "nsproxy" "time_ns",
    /// Of host names.
    nsproxy_uts = "nsproxy" "uts_ns",
    /// Inode number of a namespace of cgroups.
    cgroup_ns_inode = "cgroup_namespace" "ns.inum",
    /// The same of one of IPC.
    ipc_ns_inode = "ipc_namespace" "ns.inum",
    /// The same of one of mounts.
    mnt_ns_inode = "mnt_namespace" "ns.inum",
    /// The same of one of the network.
    net_ns_inode = "net" "ns.inum",
    /// The same of one of pids.
    pid_ns_inode = "pid_namespace" "ns.inum",
    /// The same of one of clocks.
    time_ns_inode = "time_namespace" "ns.inum",
    /// The same of one of users.
    user_ns_inode = "user_namespace" "ns.inum",
    /// The same of one of host names.
    uts_ns_inode = "uts_namespace" "ns.inum",
    /// Number of a terminal among those of its driver.
    tty_index = "tty_struct" "index",
    /// Its driver.
    tty_driver = "tty_struct" "driver",
    /// Major device number of a driver's terminals.
    driver_major = "tty_driver" "major",
    /// Minor device number of the first of them.
    driver_minor_start = "tty_driver" "minor_start",
    /// The cgroups of a thread, one in each hierarchy.
    task_cgroups = "task_struct" "cgroups",
    /// The one in the v2 hierarchy.
    css_set_cgroup = "css_set" "dfl_cgrp",
    /// The states of its cgroups, by controller.
    css_set_states = "css_set" "subsys",
    /// The state of the cgroup above.
    css_parent = "cgroup_subsys_state" "parent",
    /// Processes and threads in a cgroup (an atomic).
    pids_counter = "pids_cgroup" "counter",
    /// Most of them (an atomic).
    pids_limit = "pids_cgroup" "limit",
    /// The hierarchy of a cgroup.
    cgroup_root = "cgroup" "root",
    /// Its number, as in `/proc/PID/cgroup`.
    root_hierarchy = "cgroup_root" "hierarchy_id",
    /// The directory of a cgroup.
    cgroup_kn = "cgroup" "kn",
    /// Id of a directory: its inode number.
    kernfs_node_id = "kernfs_node" "id",
    /// Page directory, a direct-map address.
    mm_pgd = "mm_struct" "pgd",
    /// Bytes of page tables (an atomic).
    mm_pgtables_bytes = "mm_struct" "pgtables_bytes",
    /// Mappings.
    mm_mappings = "mm_struct" "map_count",
    /// The file that it runs.
    mm_exe_file = "mm_struct" "exe_file",
    /// Pages of files mapped; an atomic, from 6.2 a `percpu_counter`.
    mm_file_pages = "mm_struct" "rss_stat.count[0]|rss_stat[0].count",
    /// Anonymous pages mapped.
    mm_anon_pages = "mm_struct" "rss_stat.count[1]|rss_stat[1].count",
    /// Pages of shared memory mapped.
    mm_shmem_pages = "mm_struct" "rss_stat.count[3]|rss_stat[3].count",
    /// Pages swapped out.
    mm_swap_pages = "mm_struct" "rss_stat.count[2]|rss_stat[2].count",
    /// The auxiliary vector: pairs of a tag and a value.
    mm_auxv = "mm_struct" "saved_auxv",
    /// Start of the program's code.
    mm_start_code = "mm_struct" "start_code",
    /// End of it.
    mm_end_code = "mm_struct" "end_code",
    /// Start of the program's data.
    mm_start_data = "mm_struct" "start_data",
    /// End of its initialised data.
    mm_end_data = "mm_struct" "end_data",
    /// Start of the heap.
    mm_start_brk = "mm_struct" "start_brk",
    /// End of the heap.
    mm_brk = "mm_struct" "brk",
    /// Pages of the mappings that grow down: the stack.
    mm_stack_pages = "mm_struct" "stack_vm",
    /// Start of argv in user memory.
    mm_arg_start = "mm_struct" "arg_start",
    /// End of argv.
    mm_arg_end = "mm_struct" "arg_end",
    /// Start of the environment in user memory.
    mm_environment_start = "mm_struct" "env_start",
    /// End of it.
    mm_environment_end = "mm_struct" "env_end",
    /// Initial user stack pointer: argc lies there, argv above it.
    mm_start_stack = "mm_struct" "start_stack",
    /// Readers and the writer of the memory map's lock.
    mm_lock_count = "mm_struct" "mmap_lock.count",
    /// Task that holds it for writing, with flags in the low bits.
    mm_lock_owner = "mm_struct" "mmap_lock.owner",
    /// Non-zero when AMD's INVLPGB flushes for this memory (6.15): no flush event then.
    mm_global_asid = "mm_struct" "context.global_asid",
    /// Path as given.
    bprm_filename = "linux_binprm" "filename",
    /// Path of what runs it.
    bprm_interp = "linux_binprm" "interp",
    /// Arguments.
    bprm_argc = "linux_binprm" "argc",
    /// Number of a bit: the new program is to distrust its surroundings (AT_SECURE).
    bprm_secure = "linux_binprm" "secureexec:bit",
    /// Variables of the environment.
    bprm_envc = "linux_binprm" "envc",
    /// The beginning of the file that runs.
    bprm_buf = "linux_binprm" "buf",
    /// BINPRM_FLAGS_*: bit 3 says that binfmt_misc keeps argv[0] (5.12).
    bprm_interp_flags = "linux_binprm" "interp_flags",
    /// Number of a bit: binfmt_misc hands the file over as a descriptor.
    bprm_have_execfd = "linux_binprm" "have_execfd:bit",
    /// Inode of an open file.
    file_inode = "file" "f_inode",
    /// Its name.
    file_dentry = "file" "f_path.dentry",
    /// The last component of a name.
    dentry_name = "dentry" "d_name.name",
    /// The directory that it is in.
    dentry_parent = "dentry" "d_parent",
    /// Its place in a hash; 0 when it is in none.
    dentry_hash = "dentry" "d_hash.pprev",
    /// Mount of the current directory.
    fs_pwd_mount = "fs_struct" "pwd.mnt",
    /// The current directory.
    fs_pwd_entry = "fs_struct" "pwd.dentry",
    /// Root of a mounted tree.
    vfsmount_root = "vfsmount" "mnt_root",
    /// The part of a mount that the others know.
    mount_vfsmount = "mount" "mnt",
    /// The mount that it is mounted in; itself at the root.
    mount_parent = "mount" "mnt_parent",
    /// Where.
    mount_point = "mount" "mnt_mountpoint",
    /// Number of an inode.
    inode_number = "inode" "i_ino",
    /// Its names.
    inode_links = "inode" "i_nlink",
    /// Its file system.
    inode_super = "inode" "i_sb",
    /// Device number of a file system, in the kernel's form.
    super_device = "super_block" "s_dev",
    /// User instruction pointer.
    regs_ip = "pt_regs" "ip",
    /// System call number, or -1 in an exception.
    regs_orig_ax = "pt_regs" "orig_ax",
    /// First argument of a system call.
    regs_di = "pt_regs" "di",
    /// Second argument.
    regs_si = "pt_regs" "si",
    /// Third argument.
    regs_dx = "pt_regs" "dx",
    /// Fourth argument.
    regs_r10 = "pt_regs" "r10",
    /// Bytes of `struct pt_regs`.
    regs_size = "pt_regs" "",
    /// Owner of a page: anonymous, KSM, or a file's mapping.
    page_mapping = "page" "mapping",
    /// Head of a compound page, or a mask that finds it (7.x).
    page_compound = "page" "compound_head|compound_info",
    /// Bytes of `struct page`.
    page_size = "page" "",
}
