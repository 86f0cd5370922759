//! A page is allocated: for the fault in progress, for a pinning call, or by fork.
//!
//! `mm_page_alloc(struct page *page, unsigned int order, gfp_t gfp_flags, int migratetype)`
//! (include/trace/events/kmem.h) is passed by every allocation of the host, so the flags are looked at
//! first.

use aya_ebpf::{
    EbpfContext as _,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use tracer_common::counter;

use crate::{
    kernel::{Pointer as _, Reached, Regs, Task, argument},
    maps, page,
};

// include/linux/gfp_types.h; the numbers of these bits are the same from 5.10 to 7.2.
const GFP_HIGHMEM: u32 = 0x2;
const GFP_HARDWALL: u32 = 0x10_0000;
const GFP_ACCOUNT: u32 = 0x40_0000;
const GFP_NOWARN: u32 = 0x2000;
const GFP_NORETRY: u32 = 0x1_0000;
const GFP_ZERO: u32 = 0x100;

/// ptrace(2) and process_vm_writev(2) write to the memory of others.
const PTRACE: u64 = 101;
const PROCESS_VM_WRITEV: u64 = 311;
/// PTRACE_POKETEXT and PTRACE_POKEDATA.
const POKE: core::ops::RangeInclusive<u64> = 4..=5;

/// True for the flags with which a user's page is allocated: not a pipe's (accounted), not one of
/// read-ahead or of a huge page (may fail quietly).
#[inline(always)]
pub(crate) const fn is_user_page(gfp: u32) -> bool {
    let mask = GFP_HIGHMEM | GFP_HARDWALL | GFP_ACCOUNT | GFP_NOWARN | GFP_NORETRY;
    gfp & mask == GFP_HIGHMEM | GFP_HARDWALL
}

/// Notes the page for the fault in progress, or counts what it was allocated for.
#[btf_tracepoint(function = "mm_page_alloc")]
pub fn mm_page_alloc(ctx: BtfTracePointContext) -> i32 {
    let order: u32 = ctx.arg(1);
    let gfp: u32 = ctx.arg(2);
    if order == 0 && is_user_page(gfp) {
        allocated(argument(&ctx, 0).address(), gfp & GFP_ZERO != 0);
    }
    0
}

/// The record of the tracepoint as perf sees it, from 7.0: `format` of kmem:mm_page_alloc in tracefs. The daemon
/// compares.
#[repr(C)]
struct Format {
    common: u64,
    pfn: u64,
    order: u32,
    pad: u32,
    gfp_flags: u64,
}

/// The same on kernels whose tracepoints can be preempted (7.0): there a typed program is skipped when the task
/// that runs it was preempted in it on this CPU; this kind runs with preemption off.
#[tracepoint(category = "kmem", name = "mm_page_alloc")]
pub fn mm_page_alloc_format(ctx: TracePointContext) -> u32 {
    let format = ctx.as_ptr().cast::<Format>();
    // SAFETY: the verifier knows the context's size.
    let (pfn, order, gfp) = unsafe {
        (
            (&raw const (*format).pfn).read_volatile(),
            (&raw const (*format).order).read_volatile(),
            (&raw const (*format).gfp_flags).read_volatile() as u32,
        )
    };
    // A failed allocation has no frame.
    if order == 0 && is_user_page(gfp) && pfn != u64::MAX {
        allocated(page::address(pfn), gfp & GFP_ZERO != 0);
    }
    0
}

#[inline(always)]
fn allocated(page: u64, zeroed: bool) {
    if page == 0 {
        return;
    }
    let task = Task::current();
    let (tgid, tid) = task.own_ids();
    if let Some(state) = maps::thread(tid) {
        // SAFETY: a map value; only its own thread works on it.
        let t = unsafe { &mut *state };
        if t.is_inside(task) {
            return t.allocated(page, zeroed, task);
        }
    }
    let Some(mm) = task.mm() else { return };
    let lock = mm.lock_count();
    if lock & 1 != 0 {
        // Held for writing by this thread: dup_mmap copies a pinned page for the child.
        if !zeroed
            && mm.lock_owner() == task.0.address()
            && maps::is_followed(tgid)
            && let Some(state) = maps::thread_or_new(tid)
        {
            // SAFETY: as above.
            unsafe { (*state).eager_copies += 1 };
        }
    } else if lock >> 8 != 0 {
        // Held for reading outside a fault: get_user_pages. In an exception it is a fault of another kind.
        if task.user_regs().orig_ax() != u64::MAX
            && maps::is_followed(tgid)
            && let Some(state) = maps::thread_or_new(tid)
        {
            // SAFETY: as above.
            let t = unsafe { &mut *state };
            t.gup_before = task.faults_ended();
            if zeroed {
                t.gup_zeroed = 1;
            } else {
                t.gup = 1;
            }
        }
    } else if !zeroed
        && is_remote_write(task.user_regs())
        && maps::is_followed(tgid)
        && let Some(entry) = maps::process_or_missed(tgid)
    {
        maps::count(entry, counter::REMOTE, 1);
    }
}

/// True in a system call that writes to the memory of another process.
#[inline(always)]
fn is_remote_write(regs: Regs<Reached>) -> bool {
    match regs.orig_ax() {
        PROCESS_VM_WRITEV => true,
        PTRACE => POKE.contains(&regs.di()),
        _ => false,
    }
}
