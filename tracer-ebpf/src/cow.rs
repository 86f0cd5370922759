//! What became of a write fault: how each thread's last one, its `state`, is settled.
//!
//! A fault starts in `fault`; the page it gets is seen in `alloc`; the copy is committed in `flush`; a
//! refusal is seen in `signal`. What none of them decided is settled from the page tables when the
//! thread's next fault begins, or at its exec or exit. `docs/cow.md` tells why this is exact.

use tracer_common::{
    counter::{self, Class, HUGE_BYTES, Mode},
    settings::HAS_ALLOC,
};

use crate::{
    kernel::{Mm, Reached, Task, control},
    maps,
    page::{self, Entry, PageKind, UFFD_WP, WRITABLE},
    state::Thread,
};

/// Bytes of a huge page one level up (PMD).
const PMD_BYTES: u64 = 2 << 20;
/// Bytes of a huge page two levels up (PUD).
const PUD_BYTES: u64 = 1 << 30;

/// Adds to a counter of the current process, whose tgid this is.
///
/// It is exported so that the verifier looks at it once, for any arguments, and not along each path that leads to a call
/// of it (global functions, Linux 5.6). Such a function returns a number.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_current(tgid: u32, counter: u32, by: u64) -> u32 {
    match maps::process_or_missed(tgid) {
        Some(entry) => maps::count(entry, counter, by),
        None => maps::count_late(by),
    }
    0
}

#[inline(always)]
fn add(tgid: u32, counter: u32, by: u64) {
    count_current(tgid, counter, by);
}

#[inline(always)]
fn add_class(tgid: u32, t: &Thread, class: Class) {
    add(tgid, index(t, class), 1);
}

#[inline(always)]
fn index(t: &Thread, class: Class) -> u32 {
    let mode = if t.mode == Mode::Kernel as u8 { Mode::Kernel } else { Mode::User };
    counter::index(class, mode)
}

/// Counts a copy by its class, and by where it is unless that is [`counter::COUNTERS`]. Exported as [`count_current`] is.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_copy(tgid: u32, class: u32, region: u32) -> u32 {
    match maps::process_or_missed(tgid) {
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
fn add_first_copy(tgid: u32, t: &Thread, mm: Option<Mm<Reached>>) {
    count_copy(tgid, index(t, Class::FileFirst), region(t, mm, true));
}

/// The fault ended in a new page: counts what it replaced.
#[inline(always)]
pub(crate) fn commit(tgid: u32, t: &mut Thread, mm: Option<Mm<Reached>>) {
    t.open = 0;
    if t.split != 0 {
        add(tgid, counter::SPLIT, 1);
    }
    let class = if t.level >= 2 && t.small == 0 {
        if t.is_kind(PageKind::Zero) {
            return add_class(tgid, t, Class::HugeZero);
        }
        add(tgid, HUGE_BYTES, if t.level == 2 { PMD_BYTES } else { PUD_BYTES });
        Class::Huge
    } else if !t.was_present() {
        Class::Swap
    } else if t.is_kind(PageKind::Zero)
        || (t.is_kind(PageKind::Unknown) && t.allocated_zeroed != 0 && t.allocated == 0)
    {
        return add_class(tgid, t, Class::Zero);
    } else if t.is_kind(PageKind::Ksm) {
        Class::Ksm
    } else if t.is_kind(PageKind::File) {
        Class::File
    } else {
        Class::Anon
    };
    count_copy(tgid, index(t, class), region(t, mm, matches!(class, Class::File)));
}

/// Settles a fault that [`Thread::is_first_touch`] tells of. That is what most faults are: no function is called for it.
#[inline(always)]
pub(crate) fn settle_first_touch(tgid: u32, t: &mut Thread) {
    if t.open == 0 {
        return;
    }
    t.open = 0;
    match maps::process(tgid) {
        Some(entry) => maps::count(entry, counter::DEMAND_ZERO, 1),
        None => add(tgid, counter::DEMAND_ZERO, 1),
    }
}

/// Settles a fault that no event decided. `gone`: the memory it happened in is no longer there.
///
/// A function of its own in the object: the verifier forgets its paths when it returns.
#[inline(never)]
pub(crate) fn settle(tgid: u32, t: &mut Thread, mm: Option<Mm<Reached>>, gone: bool) {
    if t.open == 0 {
        return;
    }
    t.open = 0;
    if t.was_present() {
        settle_protected(tgid, t, mm, gone);
    } else {
        settle_absent(tgid, t, mm, gone);
    }
}

/// A fault on a page that was not there.
#[inline(always)]
fn settle_absent(tgid: u32, t: &mut Thread, mm: Option<Mm<Reached>>, gone: bool) {
    if control!(flags) & HAS_ALLOC == 0 {
        // Neither is told apart nor shown.
        return;
    }
    let may_be_copy = t.allocated != 0 && t.entry == 0;
    // No small page was needed: the page was there already, or a huge one was put in place.
    let may_be_huge = t.allocated == 0 && t.allocated_zeroed == 0;
    if !may_be_copy && !may_be_huge {
        return add(tgid, if t.allocated_zeroed != 0 { counter::DEMAND_ZERO } else { counter::FILL }, 1);
    }
    if gone {
        if may_be_huge {
            return add(tgid, counter::FILL, 1);
        }
        // A copy of a private file page, or a page for the file itself: the former is usual.
        add(tgid, counter::UNSURE, 1);
        return add_first_copy(tgid, t, None);
    }
    let now = t.walk(mm);
    let is_anon = now.is_present() && page::kind(now) == PageKind::Anon;
    if may_be_copy && is_anon && now.level == 1 {
        return add_first_copy(tgid, t, mm);
    }
    add(tgid, if may_be_huge && is_anon && now.level >= 2 { counter::DEMAND_ZERO } else { counter::FILL }, 1);
}

/// A fault on a page that was there but could not be written.
#[inline(always)]
fn settle_protected(tgid: u32, t: &mut Thread, mm: Option<Mm<Reached>>, gone: bool) {
    let now = if gone { Entry::NONE } else { t.walk(mm) };
    let before = Entry { value: t.entry, level: t.level };
    if t.allocated != 0 || t.allocated_zeroed != 0 {
        let was_anon = t.is_kind(PageKind::Written) || t.is_kind(PageKind::Anon) || t.is_kind(PageKind::Ksm);
        // The page was taken away after the fault had begun: by another thread (MADV_DONTNEED), so that this was a first
        // touch, since only the zero page's successor is zeroed; or by reclaim, and was read back, for this thread alone.
        if was_anon && t.allocated == 0 {
            return add(tgid, counter::DEMAND_ZERO, 1);
        }
        if was_anon && Task::current().faults().1 as u32 != t.major {
            return add(tgid, counter::FILL, 1);
        }
        // No flush was seen, as when another CPU's request flushed first: is ours the page that is mapped?
        let ours = if gone {
            mm.is_some_and(Mm::has_global_asid)
        } else {
            now.level == 1 && now.is_present() && page::address(now.pfn()) == t.page
        };
        if !ours {
            return add(tgid, counter::LOST_RACE, 1);
        }
        if t.level >= 2 {
            t.small = 1;
        }
        return commit(tgid, t, mm);
    }
    if t.level >= 2 && t.split != 0 {
        if now.level == t.level && now.is_present() && now.pfn() != before.pfn() {
            t.split = 0;
            return commit(tgid, t, mm);
        }
        add(tgid, counter::SPLIT, 1);
        return add(tgid, counter::LOST_RACE, 1);
    }
    if control!(flags) & HAS_ALLOC == 0
        && before.value & WRITABLE == 0
        && now.is_present()
        && now.level == before.level
        && now.pfn() != before.pfn()
    {
        // Somebody copied the page: we, if no flush event tells of copies here; else another thread was faster.
        if mm.is_some_and(Mm::has_global_asid) {
            return commit(tgid, t, mm);
        }
        return add(tgid, counter::LOST_RACE, 1);
    }
    if before.value & WRITABLE != 0 {
        return add(tgid, counter::SPURIOUS, 1);
    }
    if t.level == 1 && before.value & UFFD_WP != 0 {
        return add(tgid, counter::UFFD, 1);
    }
    if t.forked == 0 && now.level == t.level && now.is_present() && now.value & WRITABLE == 0 {
        return add(tgid, counter::FAILED, 1);
    }
    let is_file = t.is_kind(PageKind::File)
        || (t.is_kind(PageKind::Written) && now.pfn() == before.pfn() && page::kind(now) == PageKind::File);
    if is_file {
        add(tgid, counter::WRITE_NOTIFY, 1);
    } else if t.level >= 2 {
        add_class(tgid, t, Class::HugeReuse);
    } else {
        add_class(tgid, t, Class::Reuse);
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
    let task = Task::current();
    let mm = task.mm();
    let gone = mm.is_none_or(|mm| mm.number(&raw mut t.pgd) != t.mm);
    settle(task.own_ids().0, t, mm, gone);
}
