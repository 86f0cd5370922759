//! Typed reads of kernel objects: the only pointer arithmetic on them.
//!
//! The offsets come from the running kernel's BTF ([`tracer_common::offsets`]); the verifier checks each
//! typed load against the same BTF, so a wrong one fails to load instead of reading garbage.

use aya_ebpf::{
    helpers::{
        bpf_probe_read_kernel, bpf_probe_read_user,
        generated::{bpf_get_current_task, bpf_get_current_task_btf, bpf_task_pt_regs},
    },
    programs::BtfTracePointContext,
};
use tracer_common::{counter::PAGE_BYTES, event::COMM_BYTES, offsets::Offsets, settings::Settings};

/// Filled in by the daemon before the load.
#[unsafe(no_mangle)]
pub(crate) static OFFSETS: Offsets = Offsets::NONE;

/// Filled in by the daemon before the load.
#[unsafe(no_mangle)]
pub(crate) static SETTINGS: Settings = Settings {
    tree: 0,
    typed_current: 0,
    stack_bytes: 0,
    watermark_bytes: 0,
    exit_before_mm: 0,
    self_tgid: 0,
    can_read: 0,
    typed_rss: 0,
};

/// Reads a load-time constant. Volatile, so that the compiler does not fold the value it sees here.
#[inline(always)]
pub(crate) fn constant(of: *const u32) -> u32 {
    // SAFETY: the macros below pass fields of initialised statics.
    unsafe { of.read_volatile() }
}

/// An offset by its name.
macro_rules! offset {
    ($field:ident) => {
        crate::kernel::constant(&raw const crate::kernel::OFFSETS.$field)
    };
}

/// A setting by its name.
macro_rules! setting {
    ($field:ident) => {
        crate::kernel::constant(&raw const crate::kernel::SETTINGS.$field)
    };
}
pub(crate) use {offset, setting};

/// Reads the kernel's memory at an address that the verifier knows nothing of; `None` when that failed, or is
/// forbidden.
#[inline(always)]
pub(crate) fn read_kernel<T>(address: u64) -> Option<T> {
    if setting!(can_read) == 0 {
        return None;
    }
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

/// Reads the current process's memory; `None` when that failed, or is forbidden.
#[inline(always)]
pub(crate) fn read_user<T>(address: u64) -> Option<T> {
    if setting!(can_read) == 0 {
        return None;
    }
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(address as *const T) }.ok()
}

/// How the memory behind a kernel pointer is read.
pub(crate) trait Pointer: Copy {
    /// Reads the `T` at `offset`.
    fn read<T: Copy + Default>(self, offset: u32) -> T;
    /// The pointer found at `offset`.
    fn follow(self, offset: u32) -> Self;
    /// The address, for comparison.
    fn address(self) -> u64;
    /// The address as a number. The verifier forbids most arithmetic on a typed pointer; one that was
    /// written to memory of ours (a map's or a record's) and is read back is a number to it.
    #[inline(always)]
    fn number(self, through: *mut u64) -> u64 {
        // SAFETY: the caller's memory, which nothing else uses at the moment.
        unsafe {
            through.write_volatile(self.address());
            through.read_volatile()
        }
    }
}

/// A pointer whose type the verifier knows: argument of a tp_btf program, or reached from one.
#[derive(Clone, Copy)]
pub(crate) struct Typed(*const u8);

impl Pointer for Typed {
    #[inline(always)]
    fn read<T: Copy + Default>(self, offset: u32) -> T {
        // SAFETY: the verifier accepts the load only where the kernel's BTF has such a field; the
        // kernel makes a fault in it read 0.
        unsafe { self.0.add(offset as usize).cast::<T>().read_volatile() }
    }
    #[inline(always)]
    fn follow(self, offset: u32) -> Self {
        // SAFETY: as in `read`.
        Self(unsafe { self.0.add(offset as usize).cast::<*const u8>().read_volatile() })
    }
    #[inline(always)]
    fn address(self) -> u64 {
        self.0 as u64
    }
}

/// A pointer reached from the current task: typed on kernels that have the helpers for it, else read
/// through `bpf_probe_read_kernel`. The verifier sees only one of the two.
#[derive(Clone, Copy)]
pub(crate) struct Reached(*const u8);

impl Pointer for Reached {
    #[inline(always)]
    fn read<T: Copy + Default>(self, offset: u32) -> T {
        if setting!(typed_current) != 0 {
            return Typed(self.0).read(offset);
        }
        read_kernel(self.0 as u64 + u64::from(offset)).unwrap_or_default()
    }
    #[inline(always)]
    fn follow(self, offset: u32) -> Self {
        if setting!(typed_current) != 0 {
            return Self(Typed(self.0).follow(offset).0);
        }
        Self(self.read::<u64>(offset) as *const u8)
    }
    #[inline(always)]
    fn address(self) -> u64 {
        self.0 as u64
    }
}

/// Argument `n` of a tp_btf program, as a pointer.
#[inline(always)]
pub(crate) fn argument(ctx: &BtfTracePointContext, n: usize) -> Typed {
    Typed(ctx.arg(n))
}

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

    /// Its registers at its last entry from user mode (`task_pt_regs`).
    #[inline(always)]
    pub(crate) fn user_regs(self) -> Regs<Reached> {
        if setting!(typed_current) != 0 {
            // SAFETY: the argument is the current task.
            let regs = unsafe { bpf_task_pt_regs(self.0.0.cast_mut().cast()) };
            return Regs(Reached(regs as *const u8));
        }
        // They lie at the top of the kernel stack (arch/x86/include/asm/processor.h; before FRED, 6.9).
        let top = self.0.read::<u64>(offset!(task_stack)) + u64::from(setting!(stack_bytes));
        Regs(Reached((top - u64::from(offset!(regs_size))) as *const u8))
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
        Self(self.0.follow(offset!(task_group_leader)))
    }
    #[inline(always)]
    pub(crate) fn real_parent(self) -> Self {
        Self(self.0.follow(offset!(task_real_parent)))
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
    /// True while it reclaims memory, of the machine or of its cgroup, because an allocation of its own found none.
    #[inline(always)]
    pub(crate) fn is_reclaiming(self) -> bool {
        self.0.follow(offset!(task_reclaim_state)).address() != 0
    }
    #[inline(always)]
    pub(crate) fn signal(self) -> Signal<P> {
        Signal(self.0.follow(offset!(task_signal)))
    }
    /// Effective user and group.
    #[inline(always)]
    pub(crate) fn ids(self) -> (u32, u32) {
        let cred = self.0.follow(offset!(task_cred));
        (cred.read(offset!(cred_euid)), cred.read(offset!(cred_egid)))
    }
    /// True while its parent waits until it calls exec or ends (vfork).
    #[inline(always)]
    pub(crate) fn blocks_parent(self) -> bool {
        self.0.follow(offset!(task_vfork_done)).address() != 0
    }
    /// `None` for a kernel thread, and for one that has given up its memory.
    #[inline(always)]
    pub(crate) fn mm(self) -> Option<Mm<P>> {
        let mm = self.0.follow(offset!(task_mm));
        (mm.address() != 0).then_some(Mm(mm))
    }
    /// Depth of its pid namespace: 0 is the initial one.
    #[inline(always)]
    pub(crate) fn pid_level(self) -> u32 {
        self.0.follow(offset!(task_thread_pid)).read(offset!(pid_level))
    }
    /// True from the beginning of its exit (PF_EXITING).
    #[inline(always)]
    pub(crate) fn is_exiting(self) -> bool {
        self.0.read::<u32>(offset!(task_flags)) & 4 != 0
    }
    /// Its pid in its own pid namespace; 0 when it cannot be read. For `through` see [`Pointer::number`].
    #[inline(always)]
    pub(crate) fn vpid(self, through: *mut u64) -> u32 {
        let pid = self.0.follow(offset!(task_thread_pid));
        let level: u32 = pid.read(offset!(pid_level));
        if level == 0 {
            return self.tid();
        }
        // An element behind the first of `struct pid.numbers` has no constant offset: no typed load.
        let at = offset!(pid_numbers) + level * offset!(upid_size) + offset!(upid_nr);
        read_kernel(pid.number(through).wrapping_add(u64::from(at))).unwrap_or_default()
    }
    /// The name. Written as two words: the verifier allows wide loads inside an array member.
    #[inline(always)]
    pub(crate) fn comm(self, to: *mut [u8; COMM_BYTES]) {
        let at = offset!(task_comm);
        let words = [self.0.read::<u64>(at), self.0.read::<u64>(at + 8)];
        // SAFETY: the caller's 16 bytes.
        unsafe { to.cast::<[u64; 2]>().write_unaligned(words) };
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
    /// Faults of threads that were released, without and with I/O.
    #[inline(always)]
    pub(crate) fn faults(self) -> (u64, u64) {
        (self.0.read(offset!(signal_min_flt)), self.0.read(offset!(signal_maj_flt)))
    }
}

/// `struct mm_struct`: the memory of a process.
#[derive(Clone, Copy)]
pub(crate) struct Mm<P>(P);

impl<P: Pointer> Mm<P> {
    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.0.address()
    }
    /// [`Self::address`] as a number; for `through` see [`Pointer::number`].
    #[inline(always)]
    pub(crate) fn number(self, through: *mut u64) -> u64 {
        self.0.number(through)
    }
    /// The top of its page tables, an address in the direct map; for `through` see [`Pointer::number`].
    #[inline(always)]
    pub(crate) fn pgd(self, through: *mut u64) -> u64 {
        self.0.follow(offset!(mm_pgd)).number(through)
    }
    #[inline(always)]
    pub(crate) fn pgtable_bytes(self) -> u64 {
        self.0.read(offset!(mm_pgtables_bytes))
    }
    /// Pages that are mapped: anonymous, of files, of shared memory; `u64::MAX` when that cannot be read. For
    /// `through` see [`Pointer::number`].
    #[inline(always)]
    pub(crate) fn pages(self, through: *mut u64) -> (u64, u64, u64) {
        let count = |offset| {
            if setting!(typed_rss) != 0 {
                return self.0.read::<u64>(offset);
            }
            read_kernel(self.0.number(through).wrapping_add(u64::from(offset))).unwrap_or(u64::MAX)
        };
        (count(offset!(mm_anon_pages)), count(offset!(mm_file_pages)), count(offset!(mm_shmem_pages)))
    }
    /// True when `address` is in the heap (brk).
    #[inline(always)]
    pub(crate) fn is_heap(self, address: u64) -> bool {
        address >= self.0.read(offset!(mm_start_brk)) && address < page_end(self.0.read(offset!(mm_brk)))
    }
    /// True when `address` is in the first thread's stack, above which nothing else is mapped for writing.
    #[inline(always)]
    pub(crate) fn is_stack(self, address: u64) -> bool {
        let bytes = self.0.read::<u64>(offset!(mm_stack_pages)) * PAGE_BYTES;
        address >= self.start_stack().wrapping_sub(bytes)
    }
    /// True when `address` is in the program's own data, initialised or not: up to the heap, if that follows it.
    /// The end of data that is not initialised is kept nowhere.
    #[inline(always)]
    pub(crate) fn is_data(self, address: u64) -> bool {
        let end = self.0.read::<u64>(offset!(mm_end_data));
        let heap = self.0.read::<u64>(offset!(mm_start_brk));
        let start = self.0.read::<u64>(offset!(mm_start_data)) & !(PAGE_BYTES - 1);
        address >= start && address < if heap >= end { heap } else { page_end(end) }
    }
    /// Where argv lies in user memory.
    #[inline(always)]
    pub(crate) fn args(self) -> (u64, u64) {
        (self.0.read(offset!(mm_arg_start)), self.0.read(offset!(mm_arg_end)))
    }
    /// The user stack pointer with which the program starts.
    #[inline(always)]
    pub(crate) fn start_stack(self) -> u64 {
        self.0.read(offset!(mm_start_stack))
    }
    /// `mmap_lock`: bit 0 says held for writing, bits 8 and up count the readers (rwsem, not PREEMPT_RT).
    #[inline(always)]
    pub(crate) fn lock_count(self) -> u64 {
        self.0.read(offset!(mm_lock_count))
    }
    /// The task that holds `mmap_lock` for writing.
    #[inline(always)]
    pub(crate) fn lock_owner(self) -> u64 {
        self.0.read::<u64>(offset!(mm_lock_owner)) & !7
    }
    /// True when INVLPGB flushes this memory: no flush event tells of its copies.
    #[inline(always)]
    pub(crate) fn has_global_asid(self) -> bool {
        let at = offset!(mm_global_asid);
        at != tracer_common::offsets::MISSING && self.0.read::<u16>(at) != 0
    }
}

/// The end of the page that holds the byte before `address`.
#[inline(always)]
const fn page_end(address: u64) -> u64 {
    (address + PAGE_BYTES - 1) & !(PAGE_BYTES - 1)
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

/// Tgid and tid of the thread that runs the program.
#[inline(always)]
pub(crate) fn current_ids() -> (u32, u32) {
    let both = aya_ebpf::helpers::bpf_get_current_pid_tgid();
    ((both >> 32) as u32, both as u32)
}
