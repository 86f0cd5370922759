//! Finds the direct map, the depth of the page tables and the array of pages, without kallsyms or kcore.
//!
//! The daemon attaches these two only while it calibrates, touches pages whose frames it knows from
//! /proc/self/pagemap, and reads the answers. `docs/cow.md` tells the whole of it.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_common::settings::GIB_PER_RUN;

use crate::{
    kernel::{Pointer as _, Task, argument, current_ids, read_kernel},
    maps::CALIBRATION,
    page,
};

const GIB: u64 = 1 << 30;

/// A fault of the asking process: tries the next candidates for the direct map.
#[btf_tracepoint(function = "page_fault_user")]
pub fn calibrate_walk(_ctx: BtfTracePointContext) -> i32 {
    let Some(q) = CALIBRATION.get_ptr_mut(0) else { return 0 };
    // SAFETY: a map value; the daemon waits for the answer before it asks again.
    unsafe {
        if (*q).tgid != current_ids().0 || (*q).page_offset != 0 || (*q).magic == 0 {
            return 0;
        }
        let task = Task::current();
        let Some(mm) = task.mm() else { return 0 };
        (*q).regs_offset = task.regs_offset(&raw mut (*q).regs_offset);
        // The page directory is an address in the direct map, whose start is aligned to 1 GiB.
        let pgd = mm.pgd(&raw mut (*q).page_offset);
        (*q).page_offset = 0;
        let base = pgd & !(GIB - 1);
        for i in 0..GIB_PER_RUN {
            let candidate = base.wrapping_sub(u64::from((*q).first_gib + i) * GIB);
            if read_kernel(candidate.wrapping_add((*q).physical)) != Some((*q).magic) {
                continue;
            }
            for levels in 4..=5 {
                let entry = page::found(pgd, candidate, levels, (*q).address);
                if entry.level == 1 && entry.pfn() << 12 == (*q).physical {
                    (*q).entry = entry.value;
                    (*q).levels = levels;
                    (*q).page_offset = candidate;
                    return 0;
                }
            }
        }
    }
    0
}

/// A page allocation of the asking process: which `struct page` it got.
#[btf_tracepoint(function = "mm_page_alloc")]
pub fn calibrate_alloc(ctx: BtfTracePointContext) -> i32 {
    let order: u32 = ctx.arg(1);
    let gfp: u32 = ctx.arg(2);
    if order != 0 || !crate::alloc::is_user_page(gfp) {
        return 0;
    }
    let Some(q) = CALIBRATION.get_ptr_mut(0) else { return 0 };
    // SAFETY: a map value.
    unsafe {
        if (*q).alloc_tgid == current_ids().0 {
            (*q).page = argument(&ctx, 0).address();
        }
    }
    0
}
