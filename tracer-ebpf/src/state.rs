//! The state of each thread's last write fault.

use tracer_common::state::THREAD_BYTES;

use crate::{
    kernel::{Mm, Reached, Task},
    page::{self, Entry, PageKind},
};

/// Bits of a page fault's error code (arch/x86/include/asm/trap_pf.h).
pub(crate) const EC_PRESENT: u32 = 1 << 0;
pub(crate) const EC_WRITE: u32 = 1 << 1;
pub(crate) const EC_FETCH: u32 = 1 << 4;

/// A thread's last write fault, and what it did outside of faults since.
///
/// A table's element has three words in front of it ([`tracer_common::slot::Slot`]): an allocation and a flush look at the
/// first of the element's two cache lines only.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Thread {
    /// User instruction and system call number during the fault: they tell a failed one from what comes later.
    pub(crate) ip: u64,
    pub(crate) orig_ax: u64,
    /// The `struct page` that was allocated last in the fault, if one was.
    pub(crate) page: u64,
    /// Error code of the fault.
    pub(crate) error_code: u32,
    /// [`Task::faults_ended`] when it began.
    pub(crate) before: u32,
    /// Non-zero from the beginning of a fault until it is settled.
    pub(crate) open: u8,
    /// Level of `entry`.
    pub(crate) level: u8,
    /// [`PageKind`] of the page behind `entry`.
    pub(crate) kind: u8,
    /// [`Mode`](tracer_common::counter::Mode) of the fault.
    pub(crate) mode: u8,
    /// Non-zero when a page was allocated in the fault, to be filled or zeroed.
    pub(crate) allocated: u8,
    pub(crate) allocated_zeroed: u8,
    /// Non-zero when a page was allocated outside a fault under a read-held mmap_lock (get_user_pages).
    pub(crate) gup: u8,
    pub(crate) gup_zeroed: u8,

    /// Address that was written to.
    pub(crate) address: u64,
    /// What mapped it when the fault began; for a page that was not present: when it was allocated.
    pub(crate) entry: u64,
    /// Top of the page tables it was looked up in.
    pub(crate) pgd: u64,
    /// The memory it happened in (`mm_struct`).
    pub(crate) mm: u64,
    /// When the thread entered a system call that forks; 0 when it did not. No part of a fault.
    pub(crate) call_ns: u64,
    /// Pages that the fork in progress had to copy.
    pub(crate) eager_copies: u32,
    /// [`Task::faults_ended`] when `gup` or `gup_zeroed` was set.
    pub(crate) gup_before: u32,
    /// The thread's faults with I/O when the fault began; they wrap.
    pub(crate) major: u32,
    /// Non-zero when the thread forked since, which makes pages read-only again.
    pub(crate) forked: u8,
    /// Non-zero when a huge mapping was flushed: split, or replaced.
    pub(crate) split: u8,
    /// Non-zero when a small page out of a huge mapping was copied.
    pub(crate) small: u8,
    pub(crate) reserved: [u8; 9],
}

const _: () = assert!(size_of::<Thread>() == THREAD_BYTES && (24 + THREAD_BYTES).is_multiple_of(64));

impl Thread {
    /// Nothing happened yet.
    pub(crate) const NEW: Self = Self {
        ip: 0,
        orig_ax: 0,
        page: 0,
        error_code: 0,
        before: 0,
        open: 0,
        level: 0,
        kind: PageKind::Unknown as u8,
        mode: 0,
        allocated: 0,
        allocated_zeroed: 0,
        gup: 0,
        gup_zeroed: 0,
        address: 0,
        entry: 0,
        pgd: 0,
        mm: 0,
        call_ns: 0,
        eager_copies: 0,
        gup_before: 0,
        major: 0,
        forked: 0,
        split: 0,
        small: 0,
        reserved: [0; 9],
    };

    /// Nothing is known of the fault that has begun but what is written next: its address, error code, place and mode.
    #[inline(always)]
    pub(crate) fn begin(&mut self, task: Task<Reached>) {
        let (minor, major) = task.faults();
        self.major = major as u32;
        self.before = (minor as u32).wrapping_add(major as u32);
        self.open = 1;
        self.level = 0;
        self.kind = PageKind::Unknown as u8;
        self.allocated = 0;
        self.allocated_zeroed = 0;
        self.gup = 0;
        self.gup_zeroed = 0;
        self.entry = 0;
        self.forked = 0;
        self.split = 0;
        self.small = 0;
    }

    pub(crate) const fn was_present(&self) -> bool {
        self.error_code & EC_PRESENT != 0
    }
    pub(crate) const fn is_kind(&self, kind: PageKind) -> bool {
        self.kind == kind as u8
    }
    /// A zeroed page was put where none was: nothing is left to be found out.
    pub(crate) const fn is_first_touch(&self) -> bool {
        !self.was_present() && self.allocated_zeroed != 0 && self.allocated == 0
    }
    /// What maps the fault's address now.
    #[inline(always)]
    pub(crate) fn walk(&mut self, mm: Option<Mm<Reached>>) -> Entry {
        page::walk(mm, &raw mut self.pgd, self.address)
    }
    /// A page was allocated in the fault.
    #[inline(always)]
    pub(crate) fn allocated(&mut self, page: u64, zeroed: bool, task: Task<Reached>) {
        self.page = page;
        if zeroed {
            // A first touch: nothing to look up.
            self.allocated_zeroed = 1;
            return;
        }
        if !self.was_present() && self.allocated == 0 {
            let entry = self.walk(task.mm());
            self.entry = entry.value;
            self.level = entry.level;
        }
        self.allocated = 1;
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
