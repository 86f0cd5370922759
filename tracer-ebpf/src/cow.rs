//! What became of a write fault: the state of each thread's last one, and how it is settled.
//!
//! A fault starts in `fault`; the page it gets is seen in `alloc`; the copy is committed in `flush`; a
//! refusal is seen in `signal`. What none of them decided is settled from the page tables when the
//! thread's next fault begins, or at its exec or exit. `docs/cow.md` tells why this is exact.

use tracer_common::{
    counter::{self, Class, HUGE_BYTES, Mode},
    settings::{Control, HAS_ALLOC},
    state::THREAD_BYTES,
};

use crate::{
    kernel::{Mm, Reached, Task},
    maps,
    page::{self, Entry, PageKind, UFFD_WP, WRITABLE},
};

/// Bits of a page fault's error code (arch/x86/include/asm/trap_pf.h).
pub(crate) const EC_PRESENT: u32 = 1 << 0;
pub(crate) const EC_WRITE: u32 = 1 << 1;
pub(crate) const EC_FETCH: u32 = 1 << 4;

/// Bytes of a huge page one level up (PMD).
const PMD_BYTES: u64 = 2 << 20;
/// Bytes of a huge page two levels up (PUD).
const PUD_BYTES: u64 = 1 << 30;

/// A thread's last write fault, and what it did outside of faults since.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Thread {
    /// Address that was written to.
    pub(crate) address: u64,
    /// What mapped it when the fault began; for a page that was not present: when it was allocated.
    pub(crate) entry: u64,
    /// User instruction and system call number during the fault: they tell a failed one from what comes later.
    pub(crate) ip: u64,
    pub(crate) orig_ax: u64,
    /// The `struct page` that was allocated last in the fault.
    pub(crate) page: u64,
    /// Top of the page tables it was looked up in.
    pub(crate) pgd: u64,
    /// The memory it happened in (`mm_struct`).
    pub(crate) mm: u64,
    /// When the thread entered a system call that forks; 0 when it did not. No part of a fault.
    pub(crate) call_ns: u64,
    /// Error code of the fault.
    pub(crate) error_code: u32,
    /// Pages that the fork in progress had to copy.
    pub(crate) eager_copies: u32,
    /// [`Task::faults_ended`] when it began.
    pub(crate) before: u32,
    /// The same when `gup` or `gup_zeroed` was set.
    pub(crate) gup_before: u32,
    /// Non-zero from the beginning of a fault until it is settled.
    pub(crate) open: u8,
    /// Level of `entry`.
    pub(crate) level: u8,
    /// [`PageKind`] of the page behind `entry`.
    pub(crate) kind: u8,
    /// [`Mode`] of the fault.
    pub(crate) mode: u8,
    /// Non-zero when a page was allocated in the fault, to be filled or zeroed.
    pub(crate) allocated: u8,
    pub(crate) allocated_zeroed: u8,
    /// Non-zero when a page was allocated outside a fault under a read-held mmap_lock (get_user_pages).
    pub(crate) gup: u8,
    pub(crate) gup_zeroed: u8,
    /// Non-zero when the thread forked since, which makes pages read-only again.
    pub(crate) forked: u8,
    /// Non-zero when a huge mapping was flushed: split, or replaced.
    pub(crate) split: u8,
    /// Non-zero when a small page out of a huge mapping was copied.
    pub(crate) small: u8,
    pub(crate) reserved: [u8; 5],
}

const _: () = assert!(size_of::<Thread>() == THREAD_BYTES);

impl Thread {
    /// Nothing happened yet.
    pub(crate) const NEW: Self = Self {
        address: 0,
        entry: 0,
        ip: 0,
        orig_ax: 0,
        page: 0,
        pgd: 0,
        mm: 0,
        call_ns: 0,
        error_code: 0,
        eager_copies: 0,
        before: 0,
        gup_before: 0,
        open: 0,
        level: 0,
        kind: PageKind::Unknown as u8,
        mode: 0,
        allocated: 0,
        allocated_zeroed: 0,
        gup: 0,
        gup_zeroed: 0,
        forked: 0,
        split: 0,
        small: 0,
        reserved: [0; 5],
    };

    pub(crate) const fn was_present(&self) -> bool {
        self.error_code & EC_PRESENT != 0
    }
    pub(crate) const fn is_kind(&self, kind: PageKind) -> bool {
        self.kind == kind as u8
    }
    /// What maps the fault's address now.
    #[inline(always)]
    pub(crate) fn walk(&mut self, control: &Control, mm: Option<Mm<Reached>>) -> Entry {
        page::walk(control, mm, &raw mut self.pgd, self.address)
    }
    /// True while the thread is still inside its last fault, not in a later system call or program step.
    #[inline(always)]
    pub(crate) fn is_inside(&self, task: Task<Reached>) -> bool {
        if self.open == 0 || task.faults_ended() != self.before {
            return false;
        }
        let regs = task.user_regs();
        regs.ip() == self.ip && regs.orig_ax() == self.orig_ax
    }
}

/// Adds to a counter of the current process.
#[inline(always)]
fn add(counter: u32, by: u64) {
    count_current(counter, by);
}

/// The function behind [`add`]. It is exported so that the verifier looks at it once, for any arguments, and not
/// along each path that leads to a call of it (global functions, Linux 5.6). Such a function returns a number.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_current(counter: u32, by: u64) -> u32 {
    match maps::current_process() {
        Some(entry) => maps::count(entry, counter, by),
        None => maps::count_late(by),
    }
    0
}

#[inline(always)]
fn add_class(t: &Thread, class: Class) {
    add(index(t, class), 1);
}

#[inline(always)]
fn index(t: &Thread, class: Class) -> u32 {
    let mode = if t.mode == Mode::Kernel as u8 { Mode::Kernel } else { Mode::User };
    counter::index(class, mode)
}

/// Counts a copy by its class, and by where it is unless that is [`counter::COUNTERS`]. Exported as [`count_current`] is.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_copy(class: u32, region: u32) -> u32 {
    match maps::current_process() {
        Some(entry) => {
            maps::count(entry, class, 1);
            maps::count(entry, region, 1);
        }
        None => maps::count_late(1),
    }
    0
}

/// The counter of the region that the fault was in; [`counter::COUNTERS`] for anonymous memory elsewhere, which is
/// what is left of the sum.
#[inline(always)]
fn region(t: &Thread, mm: Option<Mm<Reached>>, of_file: bool) -> u32 {
    if let Some(mm) = mm {
        if mm.is_heap(t.address) {
            return counter::IN_HEAP;
        }
        if mm.is_stack(t.address) {
            return counter::IN_STACK;
        }
        if mm.is_data(t.address) {
            return counter::IN_DATA;
        }
    }
    if of_file { counter::IN_FILE } else { counter::COUNTERS as u32 }
}

/// A page of a private file mapping was copied on its first touch.
#[inline(always)]
fn add_first_copy(t: &Thread, mm: Option<Mm<Reached>>) {
    count_copy(index(t, Class::FileFirst), region(t, mm, true));
}

/// The fault ended in a new page: counts what it replaced.
#[inline(always)]
pub(crate) fn commit(t: &mut Thread, mm: Option<Mm<Reached>>) {
    t.open = 0;
    if t.split != 0 {
        add(counter::SPLIT, 1);
    }
    let class = if t.level >= 2 && t.small == 0 {
        if t.is_kind(PageKind::Zero) {
            return add_class(t, Class::HugeZero);
        }
        add(HUGE_BYTES, if t.level == 2 { PMD_BYTES } else { PUD_BYTES });
        Class::Huge
    } else if !t.was_present() {
        Class::Swap
    } else if t.is_kind(PageKind::Zero)
        || (t.is_kind(PageKind::Unknown) && t.allocated_zeroed != 0 && t.allocated == 0)
    {
        return add_class(t, Class::Zero);
    } else if t.is_kind(PageKind::Ksm) {
        Class::Ksm
    } else if t.is_kind(PageKind::File) {
        Class::File
    } else {
        Class::Anon
    };
    count_copy(index(t, class), region(t, mm, matches!(class, Class::File)));
}

/// Settles a fault that no event decided. `gone`: the memory it happened in is no longer there.
///
/// A function of its own in the object: the verifier forgets its paths when it returns.
#[inline(never)]
pub(crate) fn settle(t: &mut Thread, control: &Control, mm: Option<Mm<Reached>>, gone: bool) {
    if t.open == 0 {
        return;
    }
    t.open = 0;
    if t.was_present() {
        settle_protected(t, control, mm, gone);
    } else {
        settle_absent(t, control, mm, gone);
    }
}

/// A fault on a page that was not there.
#[inline(always)]
fn settle_absent(t: &mut Thread, control: &Control, mm: Option<Mm<Reached>>, gone: bool) {
    if control.flags & HAS_ALLOC == 0 {
        // Neither is told apart nor shown.
        return;
    }
    let may_be_copy = t.allocated != 0 && t.entry == 0;
    // No small page was needed: the page was there already, or a huge one was put in place.
    let may_be_huge = t.allocated == 0 && t.allocated_zeroed == 0;
    if !may_be_copy && !may_be_huge {
        return add(if t.allocated_zeroed != 0 { counter::DEMAND_ZERO } else { counter::FILL }, 1);
    }
    if gone {
        if may_be_huge {
            return add(counter::FILL, 1);
        }
        // A copy of a private file page, or a page for the file itself: the former is usual.
        add(counter::UNSURE, 1);
        return add_first_copy(t, None);
    }
    let now = t.walk(control, mm);
    let is_anon = now.is_present() && page::kind(control, now) == PageKind::Anon;
    if may_be_copy && is_anon && now.level == 1 {
        return add_first_copy(t, mm);
    }
    add(if may_be_huge && is_anon && now.level >= 2 { counter::DEMAND_ZERO } else { counter::FILL }, 1);
}

/// A fault on a page that was there but could not be written.
#[inline(always)]
fn settle_protected(t: &mut Thread, control: &Control, mm: Option<Mm<Reached>>, gone: bool) {
    let now = if gone { Entry::NONE } else { t.walk(control, mm) };
    let before = Entry { value: t.entry, level: t.level };
    if t.allocated != 0 || t.allocated_zeroed != 0 {
        // No flush was seen, as when another CPU's request flushed first: is ours the page that is mapped?
        let ours = if gone {
            mm.is_some_and(Mm::has_global_asid)
        } else {
            now.level == 1 && now.is_present() && page::address(control, now.pfn()) == t.page
        };
        if !ours {
            return add(counter::LOST_RACE, 1);
        }
        if t.level >= 2 {
            t.small = 1;
        }
        return commit(t, mm);
    }
    if t.level >= 2 && t.split != 0 {
        if now.level == t.level && now.is_present() && now.pfn() != before.pfn() {
            t.split = 0;
            return commit(t, mm);
        }
        add(counter::SPLIT, 1);
        return add(counter::LOST_RACE, 1);
    }
    if control.flags & HAS_ALLOC == 0
        && before.value & WRITABLE == 0
        && now.is_present()
        && now.level == before.level
        && now.pfn() != before.pfn()
    {
        // Somebody copied the page: we, if no flush event tells of copies here; else another thread was faster.
        if mm.is_some_and(Mm::has_global_asid) {
            return commit(t, mm);
        }
        return add(counter::LOST_RACE, 1);
    }
    if before.value & WRITABLE != 0 {
        return add(counter::SPURIOUS, 1);
    }
    if t.level == 1 && before.value & UFFD_WP != 0 {
        return add(counter::UFFD, 1);
    }
    if t.forked == 0 && now.level == t.level && now.is_present() && now.value & WRITABLE == 0 {
        return add(counter::FAILED, 1);
    }
    if t.is_kind(PageKind::File) {
        add(counter::WRITE_NOTIFY, 1);
    } else if t.level >= 2 {
        add_class(t, Class::HugeReuse);
    } else {
        add_class(t, Class::Reuse);
    }
}

/// The current thread ends, or its memory was replaced: settles its last fault and forgets it.
#[inline(always)]
pub(crate) fn end_thread(tid: u32) {
    if let Some(state) = maps::thread(tid) {
        // SAFETY: a map value; only its own thread works on it.
        settle_now(unsafe { &mut *state });
        maps::drop_thread(tid);
    }
}

/// The current thread has just forked: settles its last fault, which this child has no part in, although it made pages
/// read-only again. The number of pages that fork had to copy.
///
/// A function of its own in the object: the verifier forgets its paths when it returns.
#[inline(never)]
pub(crate) fn end_fork(tid: u32) -> u32 {
    let Some(state) = maps::thread(tid) else { return 0 };
    // SAFETY: as in `end_thread`.
    let t = unsafe { &mut *state };
    t.forked = 1;
    settle_now(t);
    core::mem::take(&mut t.eager_copies)
}

/// Settles the current thread's last fault outside of a fault.
#[inline(always)]
fn settle_now(t: &mut Thread) {
    let Some(control) = maps::control() else { return };
    let mm = Task::current().mm();
    let gone = mm.is_none_or(|mm| mm.number(&raw mut t.pgd) != t.mm);
    settle(t, control, mm, gone);
}
