//! How a program begins, and what memory a process has at a moment.

/// From an exec to the program's first own instruction. Times are from `sched_process_exec` on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Until the first instruction in user mode was fetched, in ns; 0 while none was.
    pub first_ns: u64,
    /// Until the program's entry point (AT_ENTRY) was fetched, in ns; 0 while no fault told.
    pub entry_ns: u64,
    /// Faults without I/O of the thread until then; before, its count at the exec. It may wrap.
    pub minor: u32,
    /// The same with I/O.
    pub major: u32,
}

/// Memory of a process at a moment, in small pages; [`Memory::UNKNOWN`] is no number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Anonymous pages that are mapped. For this and the next three see [`crate::event::Fork::anon_pages`].
    pub anon: u32,
    /// Pages of files.
    pub file: u32,
    /// Pages of shared memory.
    pub shmem: u32,
    /// Pages that were swapped out.
    pub swap: u32,
    /// Pages of page tables.
    pub pgtables: u32,
    /// Non-zero when it was read; else the others are 0.
    pub is_known: u32,
}

impl Memory {
    /// More than any number, or below zero, as a sum that the kernel keeps per CPU can be for a moment.
    pub const UNKNOWN: u32 = u32::MAX;

    /// It was not read.
    pub const NONE: Self = Self { anon: 0, file: 0, shmem: 0, swap: 0, pgtables: 0, is_known: 0 };

    /// A number of pages as the kernel has it.
    #[inline(always)]
    pub const fn pages(count: u64) -> u32 {
        if count < Self::UNKNOWN as u64 { count as u32 } else { Self::UNKNOWN }
    }
}

/// The beginning of the program that a process runs, in its entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// When an exec passed its point of no return, in ns of CLOCK_BOOTTIME; 0 when there is none under way.
    pub prepared_ns: u64,
    /// When the program was there; 0 while no exec was seen.
    pub exec_ns: u64,
    /// The program's entry point; 0 when it is not known.
    pub entry: u64,
    /// What it has reached.
    pub reached: Reached,
    /// What an exec that is under way replaces.
    pub dropped: Memory,
}

wire! {
    Reached = 2 * 8 + 2 * 4,
    Memory = 6 * 4,
    Start = 3 * 8 + size_of::<Reached>() + size_of::<Memory>(),
}
