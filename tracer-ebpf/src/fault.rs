//! The beginning of a page fault.
//!
//! `page_fault_user` and `page_fault_kernel(unsigned long address, struct pt_regs *regs, unsigned long
//! error_code)` (arch/x86/include/asm/trace/exceptions.h; include/trace/events/exceptions.h from 6.15)
//! run with interrupts off.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_common::counter::{Mode, Totals};

use crate::{
    cow,
    kernel::{Regs, Task, argument, setting},
    maps, page, start,
    state::{EC_FETCH, EC_PRESENT, EC_WRITE, Thread},
};

/// A fault taken in user mode.
#[btf_tracepoint(function = "page_fault_user")]
pub fn page_fault_user(ctx: BtfTracePointContext) -> i32 {
    let regs = Regs(argument(&ctx, 1));
    let (address, error_code) = (ctx.arg(0), ctx.arg::<u64>(2) as u32);
    if error_code & EC_FETCH != 0 && regs.ip() == address {
        start::fetched(address);
    }
    begin(address, error_code, Mode::User, || (regs.ip(), regs.orig_ax()));
    0
}

/// A fault taken in kernel mode, as when read(2) writes to the user's buffer.
#[btf_tracepoint(function = "page_fault_kernel")]
pub fn page_fault_kernel(ctx: BtfTracePointContext) -> i32 {
    begin(ctx.arg(0), ctx.arg::<u64>(2) as u32, Mode::Kernel, || {
        let regs = Task::current().user_regs();
        (regs.ip(), regs.orig_ax())
    });
    0
}

/// Settles the thread's fault before, and remembers this one if it is a write.
#[inline(always)]
fn begin(address: u64, error_code: u32, mode: Mode, context: impl Fn() -> (u64, u64)) {
    if (address as i64) < 0 {
        return;
    }
    let task = Task::current();
    if mode as u32 == Mode::Kernel as u32 && task.faults_disabled() {
        return;
    }
    let (tgid, tid) = task.own_ids();
    let known = maps::thread(tid);
    // A read only ends the fault before it.
    // SAFETY: a map value; only its own thread works on it.
    if error_code & EC_WRITE == 0 && known.is_none_or(|state| unsafe { (*state).open } == 0) {
        return;
    }
    let state = match known {
        Some(state) => state,
        None if !maps::is_followed(tgid) => return,
        // `sched_process_exit` has closed the thread's account.
        None if setting!(exit_before_mm) != 0 && task.is_exiting() => return maps::count_late(1),
        None => match maps::thread_or_new(tid) {
            Some(state) => state,
            None => return,
        },
    };
    // SAFETY: a map value; only its own thread works on it.
    let t: &mut Thread = unsafe { &mut *state };
    let mm = task.mm();
    let place = mm.map_or(0, |mm| mm.number(&raw mut t.pgd));
    let moved = t.mm != place;
    if t.is_first_touch() {
        cow::settle_first_touch(tgid, t);
    } else {
        cow::settle(tgid, t, mm, moved);
    }
    if moved {
        t.mm = place;
        note_totals(place);
    }
    if error_code & EC_WRITE == 0 {
        return;
    }
    t.begin(task);
    (t.ip, t.orig_ax) = context();
    t.address = address;
    t.error_code = error_code;
    t.mode = mode as u8;
    if error_code & EC_PRESENT != 0 {
        let entry = t.walk(mm);
        t.entry = entry.value;
        t.level = entry.level;
        t.kind = page::kind_of_protected(entry) as u8;
    }
}

/// The current thread's first fault in the memory `mm`: notes what its process has counted until now.
#[inline(never)]
fn note_totals(mm: u64) {
    if let Some(entry) = maps::current_process() {
        // SAFETY: a map value.
        unsafe {
            (*entry).mm = mm;
            (*entry).mm_totals = Totals::of(&(*entry).counters);
        }
    }
}
