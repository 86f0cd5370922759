//! The commit of a copy.
//!
//! `tlb_flush(int reason, unsigned long pages)` (include/trace/events/tlb.h): wp_page_copy() and hugetlb_wp()
//! flush the old entry inside the page-table lock, only after they have seen that nobody was faster
//! (mm/memory.c). A reuse, a refusal and a lost race do not flush.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_common::{counter, settings::HAS_ALLOC};

use crate::{
    cow,
    kernel::{Mm, Reached, Task, control},
    maps,
    page::PROT_NONE,
    state::Thread,
};

/// TLB_LOCAL_MM_SHOOTDOWN (include/linux/mm_types.h).
const LOCAL_MM_SHOOTDOWN: u32 = 3;

/// Commits the fault in progress if this flush is its last step.
#[btf_tracepoint(function = "tlb_flush")]
pub fn tlb_flush(ctx: BtfTracePointContext) -> i32 {
    let reason: u32 = ctx.arg(0);
    if reason != LOCAL_MM_SHOOTDOWN {
        return 0;
    }
    let task = Task::current();
    let (tgid, tid) = task.own_ids();
    let Some(state) = maps::thread(tid) else { return 0 };
    // SAFETY: a map value; only its own thread works on it.
    let t = unsafe { &mut *state };
    if t.open | t.gup | t.gup_zeroed == 0 {
        return 0;
    }
    // A cgroup at its limit reclaims when the new page is charged to it, before the page is in place.
    if task.is_reclaiming() {
        return 0;
    }
    if !t.is_inside(task) {
        // The thread's last fault may still be open: only the next one settles it.
        if t.gup | t.gup_zeroed != 0 {
            pinned(tgid, t, task);
        }
        return 0;
    }
    if t.was_present() {
        if t.level <= 1 {
            // A flush before the allocation is reclaim's.
            if control!(flags) & HAS_ALLOC == 0 || t.allocated | t.allocated_zeroed != 0 {
                cow::commit(tgid, t, task.mm());
            }
        } else if t.walk(task.mm()).level == 1 {
            // The huge mapping is a table by now: one small page was copied.
            t.small = 1;
            cow::commit(tgid, t, task.mm());
        } else if ctx.arg::<u64>(1) == 1 {
            cow::commit(tgid, t, task.mm());
        } else {
            t.split = 1;
        }
    } else if t.entry != 0 && t.entry & PROT_NONE == 0 && t.allocated != 0 {
        // It was a swap entry and is cleared at this moment: read back, then copied.
        let now = t.walk(task.mm());
        if now.value == 0 && now.level == 1 {
            cow::commit(tgid, t, task.mm());
        }
    }
    0
}

/// Counts a copy by get_user_pages, if this flush is its last step.
#[inline(always)]
fn pinned(tgid: u32, t: &mut Thread, task: Task<Reached>) {
    let lock = task.mm().map_or(0, Mm::lock_count);
    if t.gup_before == task.faults_ended()
        && lock & 1 == 0
        && lock >> 8 != 0
        && let Some(entry) = maps::process_or_missed(tgid)
    {
        maps::count(entry, if t.gup != 0 { counter::GUP } else { counter::GUP_ZERO }, 1);
    }
    t.gup = 0;
    t.gup_zeroed = 0;
}

/// The level `lite`: no other hook, no state. Counts the pages that a fault in user mode replaced, which may have
/// been zero pages; a flush inside a system call is something else's.
#[btf_tracepoint(function = "tlb_flush")]
pub fn tlb_flush_lite(ctx: BtfTracePointContext) -> i32 {
    let reason: u32 = ctx.arg(0);
    if reason != LOCAL_MM_SHOOTDOWN || ctx.arg::<u64>(1) != 1 {
        return 0;
    }
    let task = Task::current();
    if task.user_regs().orig_ax() != u64::MAX {
        return 0;
    }
    let (tgid, _) = task.own_ids();
    if maps::is_followed(tgid)
        && let Some(entry) = maps::process_or_missed(tgid)
    {
        maps::count(entry, counter::UNSORTED, 1);
    }
    0
}
