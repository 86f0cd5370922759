//! A thread: what its `task_struct`, its `signal_struct` and its saved registers tell.

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_get_current_task_btf, bpf_task_pt_regs};
use tracer_common::{
    counter::PAGE_BYTES,
    event::{AutoReap, COMM_BYTES},
    names::Words,
    offsets::MISSING,
};

use super::{Mm, Pointer, Reached, cast, control, current_ids, offset, read_kernel, setting};

/// `struct task_struct`: a thread.
#[derive(Clone, Copy)]
pub(crate) struct Task<P>(pub(crate) P);

impl Task<Reached> {
    /// The thread that runs the program.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        if setting!(typed_current) != 0 {
            // SAFETY: no arguments, always valid.
            return Self(Reached(unsafe { bpf_get_current_task_btf() }.cast_const().cast()));
        }
        // SAFETY: no arguments, always valid.
        Self(Reached(unsafe { bpf_get_current_task() } as *const u8))
    }

    /// Its process and itself. A call of a helper costs more than ten loads.
    #[inline(always)]
    pub(crate) fn own_ids(self) -> (u32, u32) {
        if setting!(typed_current) != 0 { (self.tgid(), self.tid()) } else { current_ids() }
    }

    /// Its registers at its last entry from user mode (`task_pt_regs`). The helper is asked only while it is not known
    /// where they are.
    #[inline(always)]
    pub(crate) fn user_regs(self) -> Regs<Reached> {
        let (cast_type, at) = (setting!(cast_type), control!(regs_offset));
        if cast_type != 0 && at != 0 {
            let regs = self.0.read::<u64>(offset!(task_stack)).wrapping_add(at);
            return Regs(Reached(cast(regs, cast_type)));
        }
        if setting!(typed_current) != 0 {
            return Regs(Reached(Self::ask_regs()));
        }
        // They lie at the top of the kernel stack (arch/x86/include/asm/processor.h; before FRED, 6.9).
        let top = self.0.read::<u64>(offset!(task_stack)) + u64::from(setting!(stack_bytes));
        Regs(Reached((top - u64::from(offset!(regs_size))) as *const u8))
    }

    /// The same by the kernel's helper.
    #[inline(always)]
    fn ask_regs() -> *const u8 {
        // SAFETY: the argument is the current task, which the verifier must trust.
        unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as *const u8 }
    }

    /// Where a stack holds them, in bytes from its lower end; 0 when that is not asked for. It depends on the kernel's
    /// configuration (TOP_OF_KERNEL_STACK_PADDING). For `through` see [`Pointer::number`].
    #[inline(always)]
    pub(crate) fn regs_offset(self, through: *mut u64) -> u64 {
        if setting!(cast_type) == 0 {
            return 0;
        }
        Reached(Self::ask_regs()).number(through).wrapping_sub(self.0.read(offset!(task_stack)))
    }

    /// True in a 32-bit system call, whose numbers are others (TS_COMPAT).
    #[inline(always)]
    pub(crate) fn is_compat(self) -> bool {
        self.0.read::<u32>(offset!(task_thread_status)) & 2 != 0
    }

    /// True while this thread must not handle faults: the fault will be refused.
    #[inline(always)]
    pub(crate) fn faults_disabled(self) -> bool {
        // bpf_probe_read_kernel raises the count by one for its own read.
        let own = if setting!(typed_current) != 0 { 0 } else { 1 };
        self.0.read::<u32>(offset!(task_pagefault_disabled)) > own
    }
}

impl<P: Pointer> Task<P> {
    /// The pointer found at `offset`. While the verifier trusts the task, a load of a number from it needs no check of
    /// the address; but at each load of a pointer it would look up whether that is to be trusted, too: among all names
    /// of the kernel's types, which was most of its time (btf_nested_type_is_trusted() in kernel/bpf/btf.c, 6.3).
    #[inline(always)]
    pub(crate) fn follow(self, offset: u32) -> P {
        match setting!(task_type) {
            0 => self.0.follow(offset),
            type_id => self.0.untrusted(type_id).follow(offset),
        }
    }
    #[inline(always)]
    pub(crate) fn tid(self) -> u32 {
        self.0.read(offset!(task_pid))
    }
    #[inline(always)]
    pub(crate) fn tgid(self) -> u32 {
        self.0.read(offset!(task_tgid))
    }
    /// ns of CLOCK_BOOTTIME at which the thread was created.
    #[inline(always)]
    pub(crate) fn start_time(self) -> u64 {
        self.0.read(offset!(task_start_boottime))
    }
    #[inline(always)]
    pub(crate) fn leader(self) -> Self {
        Self(self.follow(offset!(task_group_leader)))
    }
    #[inline(always)]
    pub(crate) fn real_parent(self) -> Self {
        Self(self.follow(offset!(task_real_parent)))
    }
    #[inline(always)]
    pub(crate) fn exit_code(self) -> u32 {
        self.0.read(offset!(task_exit_code))
    }
    /// Faults of this thread, without and with I/O.
    #[inline(always)]
    pub(crate) fn faults(self) -> (u64, u64) {
        (self.0.read(offset!(task_min_flt)), self.0.read(offset!(task_maj_flt)))
    }
    /// Their sum, which wraps. The kernel adds a fault when it has handled it, get_user_pages' faults too, and
    /// failed ones never (mm_account_fault() in mm/memory.c, from 5.9): as long as it is the same, no fault has ended.
    #[inline(always)]
    pub(crate) fn faults_ended(self) -> u32 {
        let (minor, major) = self.faults();
        (minor as u32).wrapping_add(major as u32)
    }
    /// How long it waited for its first CPU, in ns plus one; 0 when it was given one again since, or that is not kept.
    /// sched_info_arrive() (kernel/sched/stats.h) adds each wait and counts it.
    #[inline(always)]
    pub(crate) fn first_delay(self) -> u64 {
        if offset!(task_runs) == MISSING || self.0.read::<u64>(offset!(task_runs)) != 1 {
            return 0;
        }
        self.0.read::<u64>(offset!(task_run_delay)) + 1
    }
    /// CPU time of this thread, up to the last tick or switch.
    #[inline(always)]
    pub(crate) fn cpu_time(self) -> CpuTime {
        CpuTime {
            user_ns: self.0.read(offset!(task_user_ns)),
            system_ns: self.0.read(offset!(task_system_ns)),
            cpu_ns: self.0.read(offset!(task_cpu_ns)),
        }
    }
    /// Whether the kernel reaps this process itself, as its parent is now (do_notify_parent() in kernel/signal.c).
    #[inline(always)]
    pub(crate) fn auto_reap(self) -> AutoReap {
        const SIGCHLD: u32 = 17;
        const SIG_IGN: u64 = 1;
        const SA_NOCLDWAIT: u64 = 2;
        let parent = self.real_parent();
        let handlers = parent.0.follow(offset!(task_sighand));
        if handlers.address() == 0 {
            return AutoReap::Unknown;
        }
        let ignores = handlers.read::<u64>(offset!(sighand_child_handler)) == SIG_IGN
            || handlers.read::<u64>(offset!(sighand_child_flags)) & SA_NOCLDWAIT != 0;
        if !ignores {
            return AutoReap::No;
        }
        // A debugger is always told; when another one than the parent has waited, the parent's turn comes.
        let debugger = Task(self.follow(offset!(task_parent)));
        if self.0.read::<u32>(offset!(task_ptrace)) != 0 && debugger.tgid() == parent.tgid() {
            return AutoReap::No;
        }
        // Another signal becomes SIGCHLD when the parent has called exec since.
        if self.0.read::<u32>(offset!(task_exit_signal)) != SIGCHLD {
            return AutoReap::Unknown;
        }
        AutoReap::Yes
    }
    /// True while it reclaims memory, of the machine or of its cgroup, because an allocation of its own found none.
    #[inline(always)]
    pub(crate) fn is_reclaiming(self) -> bool {
        self.follow(offset!(task_reclaim_state)).address() != 0
    }
    #[inline(always)]
    pub(crate) fn signal(self) -> Signal<P> {
        Signal(self.follow(offset!(task_signal)))
    }
    /// Effective user and group.
    #[inline(always)]
    pub(crate) fn ids(self) -> (u32, u32) {
        let cred = self.follow(offset!(task_cred));
        (cred.read(offset!(cred_euid)), cred.read(offset!(cred_egid)))
    }
    /// True while its parent waits until it calls exec or ends (vfork).
    #[inline(always)]
    pub(crate) fn blocks_parent(self) -> bool {
        self.follow(offset!(task_vfork_done)).address() != 0
    }
    /// `None` for a kernel thread, and for one that has given up its memory.
    #[inline(always)]
    pub(crate) fn mm(self) -> Option<Mm<P>> {
        let mm = self.follow(offset!(task_mm));
        (mm.address() != 0).then_some(Mm(mm))
    }
    /// Depth of its pid namespace: 0 is the initial one.
    #[inline(always)]
    pub(crate) fn pid_level(self) -> u32 {
        self.follow(offset!(task_thread_pid)).read(offset!(pid_level))
    }
    /// True from the beginning of its exit (PF_EXITING).
    #[inline(always)]
    pub(crate) fn is_exiting(self) -> bool {
        self.0.read::<u32>(offset!(task_flags)) & 4 != 0
    }
    /// Its pid in its own pid namespace; 0 when it cannot be read. For `through` see [`Pointer::number`].
    #[inline(always)]
    pub(crate) fn vpid(self, through: *mut u64) -> u32 {
        let pid = self.follow(offset!(task_thread_pid));
        let level: u32 = pid.read(offset!(pid_level));
        if level == 0 {
            return self.tid();
        }
        // An element behind the first of `struct pid.numbers` has no constant offset: no typed load.
        let at = offset!(pid_numbers) + level * offset!(upid_size) + offset!(upid_nr);
        read_kernel(pid.number(through).wrapping_add(u64::from(at))).unwrap_or_default()
    }
    /// The name.
    #[inline(always)]
    pub(crate) fn comm(self, to: *mut [u8; COMM_BYTES]) {
        // SAFETY: the caller's 16 bytes.
        unsafe { to.cast::<Words>().write_unaligned(self.name()) };
    }
    /// The name as two words: the verifier allows wide loads inside an array member.
    #[inline(always)]
    pub(crate) fn name(self) -> Words {
        let at = offset!(task_comm);
        [self.0.read(at), self.0.read(at + 8)]
    }
}

/// CPU time in ns.
#[derive(Clone, Copy)]
pub(crate) struct CpuTime {
    /// In user mode, as sampled by the tick.
    pub(crate) user_ns: u64,
    /// In the kernel, likewise.
    pub(crate) system_ns: u64,
    /// Both, as the scheduler measures it.
    pub(crate) cpu_ns: u64,
}

impl CpuTime {
    #[inline(always)]
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            user_ns: self.user_ns + other.user_ns,
            system_ns: self.system_ns + other.system_ns,
            cpu_ns: self.cpu_ns + other.cpu_ns,
        }
    }

    /// The greater of each.
    #[inline(always)]
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            user_ns: self.user_ns.max(other.user_ns),
            system_ns: self.system_ns.max(other.system_ns),
            cpu_ns: self.cpu_ns.max(other.cpu_ns),
        }
    }
}

/// `struct signal_struct`: what the threads of a process share.
#[derive(Clone, Copy)]
pub(crate) struct Signal<P>(P);

impl<P: Pointer> Signal<P> {
    /// Threads that have not begun to exit.
    #[inline(always)]
    pub(crate) fn live(self) -> u32 {
        self.0.read(offset!(signal_live))
    }
    /// The status with which the whole process was ended, if it was (SIGNAL_GROUP_EXIT).
    #[inline(always)]
    pub(crate) fn group_exit_code(self) -> Option<u32> {
        let ended = self.0.read::<u32>(offset!(signal_flags)) & 4 != 0;
        ended.then(|| self.0.read(offset!(signal_group_exit_code)))
    }
    /// True while one of the threads runs exec and the others have to end: not for a core dump, nor exit_group(2).
    #[inline(always)]
    pub(crate) fn is_in_exec(self) -> bool {
        // SIGNAL_GROUP_EXIT and SIGNAL_GROUP_COREDUMP (before 5.17).
        self.0.follow(offset!(signal_exec_task)).address() != 0
            && self.0.read::<u32>(offset!(signal_flags)) & 0xc == 0
    }
    /// Most processes that its user may have.
    #[inline(always)]
    pub(crate) fn max_processes(self) -> u64 {
        self.0.read(offset!(signal_max_processes))
    }
    /// Faults of threads that were released, without and with I/O.
    #[inline(always)]
    pub(crate) fn faults(self) -> (u64, u64) {
        (self.0.read(offset!(signal_min_flt)), self.0.read(offset!(signal_maj_flt)))
    }
    /// CPU time of threads that were released.
    #[inline(always)]
    pub(crate) fn cpu_time(self) -> CpuTime {
        CpuTime {
            user_ns: self.0.read(offset!(signal_user_ns)),
            system_ns: self.0.read(offset!(signal_system_ns)),
            cpu_ns: self.0.read(offset!(signal_cpu_ns)),
        }
    }
    /// Time in user mode and in the kernel that was told last; together the time on a CPU then.
    #[inline(always)]
    pub(crate) fn told(self) -> (u64, u64) {
        (self.0.read(offset!(signal_told_user_ns)), self.0.read(offset!(signal_told_system_ns)))
    }
    /// Most memory that was resident. do_exit() adds that of the last program before `sched_process_exit`.
    #[inline(always)]
    pub(crate) fn max_rss_bytes(self) -> u64 {
        self.0.read::<u64>(offset!(signal_max_rss)) * PAGE_BYTES
    }
}

/// `struct pt_regs`.
#[derive(Clone, Copy)]
pub(crate) struct Regs<P>(pub(crate) P);

impl<P: Pointer> Regs<P> {
    #[inline(always)]
    pub(crate) fn ip(self) -> u64 {
        self.0.read(offset!(regs_ip))
    }
    /// System call number; -1 in an exception.
    #[inline(always)]
    pub(crate) fn orig_ax(self) -> u64 {
        self.0.read(offset!(regs_orig_ax))
    }
    #[inline(always)]
    pub(crate) fn di(self) -> u64 {
        self.0.read(offset!(regs_di))
    }
    #[inline(always)]
    pub(crate) fn si(self) -> u64 {
        self.0.read(offset!(regs_si))
    }
    #[inline(always)]
    pub(crate) fn dx(self) -> u64 {
        self.0.read(offset!(regs_dx))
    }
    #[inline(always)]
    pub(crate) fn r10(self) -> u64 {
        self.0.read(offset!(regs_r10))
    }
}
