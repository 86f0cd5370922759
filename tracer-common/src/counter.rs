//! What is counted for each process: one `u64` each, from birth or from our start, never reset.
//!
//! A copy and a reuse are counted apart by the mode in which the fault was taken, so that one atomic
//! add commits a fault. How each of them is recognised: `docs/cow.md`.

/// A class of write faults that ended in a copy, an upgrade or a reuse; counted per [`Mode`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// An anonymous page was copied.
    Anon = 0,
    /// A page merged by KSM was copied.
    Ksm = 1,
    /// A page of a private file mapping that was mapped for reading was copied.
    File = 2,
    /// A page of a private file mapping was copied on its first touch, a write.
    FileFirst = 3,
    /// A page was read back from swap and then copied.
    Swap = 4,
    /// A huge page was copied whole (hugetlb).
    Huge = 5,
    /// The shared zero page was replaced by a new zeroed page: nothing was copied.
    Zero = 6,
    /// The huge zero page was replaced by a new zeroed huge page: nothing was copied.
    HugeZero = 7,
    /// The last owner of a shared page wrote to it: it was made writable, nothing was copied.
    Reuse = 8,
    /// The same for a huge page.
    HugeReuse = 9,
}

/// Number of [`Class`]es.
pub const CLASSES: usize = 10;

/// In which mode the processor was when it took the fault.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The program itself wrote.
    User = 0,
    /// The kernel wrote on its behalf, as in `read(2)` into the page.
    Kernel = 1,
}

/// Index of the counter of `class` faults taken in `mode`.
#[inline(always)]
pub const fn index(class: Class, mode: Mode) -> u32 {
    class as u32 * 2 + mode as u32
}

/// Copies through get_user_pages (pinning, `mlock`, `MADV_POPULATE_WRITE`): no fault.
pub const GUP: u32 = 20;
/// Zero-page upgrades through get_user_pages.
pub const GUP_ZERO: u32 = 21;
/// Pages copied by fork itself, because they were pinned.
pub const EAGER: u32 = 22;
/// Pages allocated while writing into another process (ptrace, `process_vm_writev`): possible copies there.
pub const REMOTE: u32 = 23;
/// A shared file page became writable (`page_mkwrite`).
pub const WRITE_NOTIFY: u32 = 24;
/// The page was writable already (a stale TLB entry).
pub const SPURIOUS: u32 = 25;
/// Write protection by userfaultfd.
pub const UFFD: u32 = 26;
/// The fault ended in SIGSEGV.
pub const SEGV: u32 = 27;
/// A copy that another thread had made first: the page allocated for it was freed again.
pub const LOST_RACE: u32 = 28;
/// A huge mapping was split before the copy.
pub const SPLIT: u32 = 29;
/// A new zeroed page on the first touch of anonymous memory.
pub const DEMAND_ZERO: u32 = 30;
/// A write fault on a page that was not present, filled from a file, shared memory or swap: no copy.
pub const FILL: u32 = 31;
/// The write failed: the kernel could not resolve a fault of its own (EFAULT).
pub const FAILED: u32 = 32;
/// Counted among [`Class::FileFirst`] but not proven, because the memory was gone when it was to be checked.
pub const UNSURE: u32 = 33;
/// Bytes copied by [`Class::Huge`].
pub const HUGE_BYTES: u32 = 34;
/// Threads created, the first one not counted.
pub const THREADS: u32 = 35;
/// Copies by faults in the heap (brk).
pub const IN_HEAP: u32 = 36;
/// Copies by faults in the main thread's stack.
pub const IN_STACK: u32 = 37;
/// Copies by faults in the program's own data.
pub const IN_DATA: u32 = 38;
/// Copies by faults elsewhere, of pages of a private file mapping.
pub const IN_FILE: u32 = 39;
/// Pages replaced by faults in user mode, at the level that tells no classes: copied, or zero pages.
pub const UNSORTED: u32 = 40;
/// Faults without I/O of the threads that have ended.
pub const ENDED_MINOR: u32 = 41;
/// The same with I/O.
pub const ENDED_MAJOR: u32 = 42;
/// Time in user mode of the threads that have ended, in ns, as sampled by the tick.
pub const ENDED_USER_NS: u32 = 43;
/// The same in the kernel.
pub const ENDED_SYSTEM_NS: u32 = 44;
/// Time on a CPU of the threads that have ended, in ns, as measured by the scheduler.
pub const ENDED_CPU_NS: u32 = 45;
/// Threads that ended in exit_group(2).
pub const ENDED_GROUP: u32 = 46;
/// Threads that ended because another one called exec.
pub const ENDED_BY_EXEC: u32 = 47;

/// Number of counters of a process.
pub const COUNTERS: usize = 48;

/// The counters of a process.
pub type Counters = [u64; COUNTERS];

/// Bytes of a small page on x86_64.
pub const PAGE_BYTES: u64 = 4096;

/// The sums that fork, exec and exit records carry for the process and for its fork-time parent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Pages copied: every copying [`Class`] plus [`GUP`], [`EAGER`] and [`UNSORTED`]; a huge page counts as one.
    pub copies: u64,
    /// Pages made writable without a copy.
    pub reuses: u64,
    /// Bytes copied.
    pub bytes: u64,
    /// Those of `bytes` that were copied after a fork from memory that it shared: not from files, not by fork.
    pub unshared_bytes: u64,
}

// SAFETY: `repr(C)`, four u64 and nothing between them.
unsafe impl crate::Wire for Totals {}
const _: () = assert!(size_of::<Totals>() == 32);

impl Totals {
    /// Sums up the counters of one process.
    #[inline(always)]
    pub const fn of(c: &Counters) -> Self {
        let anonymous = c[0] + c[1] + c[2] + c[3] + c[8] + c[9] + c[GUP as usize] + c[UNSORTED as usize];
        let small = anonymous + c[4] + c[5] + c[6] + c[7] + c[EAGER as usize];
        Self {
            copies: small + c[10] + c[11],
            reuses: c[16] + c[17] + c[18] + c[19],
            bytes: small * PAGE_BYTES + c[HUGE_BYTES as usize],
            unshared_bytes: anonymous * PAGE_BYTES + c[HUGE_BYTES as usize],
        }
    }
}
