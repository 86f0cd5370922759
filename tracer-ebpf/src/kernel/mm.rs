//! The memory of a process: what its `mm_struct` tells.

use tracer_common::{counter::PAGE_BYTES, offsets::MISSING, start::Memory};

use super::{Pointer, offset, read_kernel, setting};

/// `struct mm_struct`: the memory of a process.
#[derive(Clone, Copy)]
pub(crate) struct Mm<P>(pub(super) P);

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
    /// Mappings (VMAs).
    #[inline(always)]
    pub(crate) fn mappings(self) -> u32 {
        self.0.read(offset!(mm_mappings))
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
    /// Writes what it has, where the kernel lets it be read by typed loads (6.2).
    ///
    /// # Safety
    /// `to` is memory of ours.
    #[inline(always)]
    pub(crate) unsafe fn describe(self, to: *mut Memory) {
        let pages = |offset| Memory::pages(self.0.read(offset));
        let memory = if setting!(typed_rss) == 0 {
            Memory::NONE
        } else {
            Memory {
                anon: pages(offset!(mm_anon_pages)),
                file: pages(offset!(mm_file_pages)),
                shmem: pages(offset!(mm_shmem_pages)),
                swap: pages(offset!(mm_swap_pages)),
                pgtables: Memory::pages(self.pgtable_bytes() / PAGE_BYTES),
                is_known: 1,
            }
        };
        // SAFETY: the caller's.
        unsafe { to.write(memory) };
    }
    /// Writes the address of the program's entry point (AT_ENTRY), unless it is not where it is on x86.
    ///
    /// # Safety
    /// `to` is memory of ours.
    #[inline(always)]
    pub(crate) unsafe fn entry(self, to: *mut u64) {
        /// include/uapi/linux/auxvec.h
        const AT_ENTRY: u64 = 9;
        // create_elf_tables() in fs/binfmt_elf.c puts eight pairs in front of it, and up to two for the architecture.
        for pair in 8..12 {
            let at = offset!(mm_auxv) + pair * 16;
            if self.0.read::<u64>(at) == AT_ENTRY {
                // SAFETY: the caller's.
                unsafe { to.write_volatile(self.0.read(at + 8)) };
            }
        }
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
    /// Where the environment lies in user memory.
    #[inline(always)]
    pub(crate) fn environment(self) -> (u64, u64) {
        (self.0.read(offset!(mm_environment_start)), self.0.read(offset!(mm_environment_end)))
    }
    /// Where the program's code is mapped.
    #[inline(always)]
    pub(crate) fn text(self) -> (u64, u64) {
        (self.0.read(offset!(mm_start_code)), self.0.read(offset!(mm_end_code)))
    }
    /// Where its initialised data are.
    #[inline(always)]
    pub(crate) fn data(self) -> (u64, u64) {
        (self.0.read(offset!(mm_start_data)), self.0.read(offset!(mm_end_data)))
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
        at != MISSING && self.0.read::<u16>(at) != 0
    }
}

/// The end of the page that holds the byte before `address`.
#[inline(always)]
const fn page_end(address: u64) -> u64 {
    (address + PAGE_BYTES - 1) & !(PAGE_BYTES - 1)
}
