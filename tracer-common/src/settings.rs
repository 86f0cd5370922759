//! What the daemon tells the eBPF programs: constants before the load, and the calibration after it.

use crate::Wire;

/// Constants of a load ([`crate::constant`]): the verifier drops the branches that they exclude.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Non-zero: only processes in the map `PROCESSES` and their descendants are traced.
    pub tree: u32,
    /// Non-zero: the current task can be read through typed loads (`bpf_get_current_task_btf`, 5.11,
    /// and `bpf_task_pt_regs`, 5.15); else through `bpf_probe_read_kernel`.
    pub typed_current: u32,
    /// Bytes of a kernel stack (THREAD_SIZE), used when `typed_current` is 0.
    pub stack_bytes: u32,
    /// Bytes waiting in the ring at which the reader is woken.
    pub watermark_bytes: u32,
    /// Non-zero: `sched_process_exit` comes before the memory is given up (6.16), so faults can follow it.
    pub exit_before_mm: u32,
    /// Pid of the daemon: in a tree, its children are roots while [`Control::adopt`] is set.
    pub self_tgid: u32,
    /// Non-zero: memory can be read by address (`bpf_probe_read_kernel`, `bpf_probe_read_user`).
    pub can_read: u32,
    /// Non-zero: `mm_struct.rss_stat` can be read through typed loads. Up to 6.1 it is an array of a typedef,
    /// which the verifier does not look through.
    pub typed_rss: u32,
    /// Elements less one of the arrays of processes and of threads: see [`crate::slot`].
    pub slot_mask: u32,
    /// Non-zero: the kernel's memory can be read by typed loads through [`CAST_CALL`], and this is the id of
    /// [`CAST_TYPE`] in the kernel's BTF.
    pub cast_type: u32,
    /// Id of `struct task_struct` there, if `cast_type` is not 0.
    pub task_type: u32,
    /// Number of the controller that limits processes (`pids_cgrp_id`); `u32::MAX` when the kernel has none.
    pub pids_controller: u32,
    /// Non-zero: exec records carry the environment.
    pub env: u32,
    /// Non-zero: threads have a state, for their faults or their system calls.
    pub threads: u32,
    /// How many [`Names`](crate::names::Names) there are; if any, only processes that have had one of them are traced.
    pub names: u32,
}

/// The instruction that calls the kernel's `bpf_rdonly_cast` (6.2), as the object has it: the loader writes the
/// function's BTF id into its upper half, or [`CAST_NOTHING`] in its place. The verifier puts a register move there: a
/// pointer becomes one to [`CAST_TYPE`], and a load through it one that gives 0 where nothing is mapped.
pub const CAST_CALL: u64 = 0x7ace_ca57_0000_2085;
/// `r0 = r1`.
pub const CAST_NOTHING: u64 = 0x10bf;
/// A struct of the kernel that begins with an `unsigned long`.
pub const CAST_TYPE: &str = "pt_regs";

// SAFETY: `repr(C)` and u32 only.
unsafe impl Wire for Settings {}
const _: () = assert!(size_of::<Settings>() == 60);

/// [`Control::flags`]: five levels of page tables.
pub const FIVE_LEVELS: u32 = 1 << 0;
/// [`Control::flags`]: `mm_page_alloc` is attached.
pub const HAS_ALLOC: u32 = 1 << 1;
/// [`Control::flags`]: the self-test runs: only faults of the processes in the map `PROCESSES` are followed.
pub const TESTING: u32 = 1 << 2;

/// _PAGE_DIRTY in a page-table entry (arch/x86/include/asm/pgtable_types.h).
pub const DIRTY: u64 = 1 << 6;
/// _PAGE_SAVED_DIRTY there: from 6.6, _PAGE_DIRTY and read only would be a shadow stack. Before, the bit was another.
pub const SAVED_DIRTY: u64 = 1 << 58;

/// What was found out on the running kernel: the programs' only variable, in the map `.bss`; written by the daemon only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Kernel address of physical address 0 (the direct map).
    pub page_offset: u64,
    /// Kernel address of the `struct page` of frame 0.
    pub vmemmap: u64,
    /// Frame of the shared zero page.
    pub zero_pfn: u64,
    /// `FIVE_LEVELS` and the like.
    pub flags: u32,
    /// Non-zero: children of the daemon are adopted as roots of the tree.
    pub adopt: u32,
    /// Where a kernel stack holds the registers of its thread's entry from user mode, in bytes from its lower end; 0 when
    /// that is not known, or of no use without [`CAST_CALL`].
    pub regs_offset: u64,
    /// The bit of a page-table entry that says, when it may not be written any more, that it was written: [`DIRTY`] or
    /// [`SAVED_DIRTY`]. 0 when that is not known.
    pub dirty: u64,
}

// SAFETY: `repr(C)`, three u64, two u32 and two u64.
unsafe impl Wire for Control {}
const _: () = assert!(size_of::<Control>() == 48);

/// The calibration's question and its answers, in the map `CALIBRATION`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calibration {
    /// In: process that asks; 0 is nobody.
    pub tgid: u32,
    /// In: first candidate, in GiB below the page directory.
    pub first_gib: u32,
    /// In: user address of a page that holds `magic`.
    pub address: u64,
    /// In: its physical address.
    pub physical: u64,
    /// In: what it holds; never 0.
    pub magic: u64,
    /// Out: the direct map's address.
    pub page_offset: u64,
    /// Out: page-table levels (4 or 5) with which the walk found `physical`.
    pub levels: u32,
    /// In: process whose next page allocation is recorded.
    pub alloc_tgid: u32,
    /// Out: the `struct page` that was allocated.
    pub page: u64,
    /// Out: [`Control::regs_offset`].
    pub regs_offset: u64,
    /// Out: the page-table entry of `address`, which may be read only.
    pub entry: u64,
}

// SAFETY: `repr(C)`, every field naturally aligned without a gap.
unsafe impl Wire for Calibration {}
const _: () = assert!(size_of::<Calibration>() == 72);

/// Candidates tried in one run of the calibration.
pub const GIB_PER_RUN: u32 = 8;
